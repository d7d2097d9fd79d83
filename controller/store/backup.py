"""A consistent copy of a ledger, while it runs: what `backup` makes, and what is kept before a migration.

It writes a new file only, never over one, and says that the copy is good only after reading all of it.
"""

import sqlite3
from pathlib import Path

from controller.errors import LedgerError
from controller.store.connection import Connect, one_row, reading, refusal
from controller.store.files import create_private, discard, make_durable


async def copy_to(path: Path, copy: Path, connect: Connect) -> None:
    """A consistent, checked and durable copy of a ledger that may be in use. Raises LedgerError."""
    try:
        # SQLite knows no other names.
        str(copy).encode()
        create_private(copy)
    except UnicodeEncodeError as error:
        raise LedgerError(f"copy of the ledger to {copy}: its name is not UTF-8; nothing was written") from error
    except OSError as error:
        raise LedgerError(f"copy of the ledger to {copy}: {error.strerror}; nothing was written") from error
    try:
        async with reading(path, connect) as connection:
            await connection.execute_fetchall("VACUUM INTO ?", (str(copy),))
        async with reading(copy, connect) as connection:
            (found,) = await one_row(connection, "PRAGMA integrity_check(1)")
        if found != "ok":
            raise LedgerError(f"copy of the ledger to {copy}: it turned out damaged and was removed")
        make_durable(copy, copy.parent)
    except sqlite3.Error as error:
        discard(copy)
        raise refusal(copy, error) from error
    except BaseException:
        discard(copy)
        raise
