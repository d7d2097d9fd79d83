"""Connections to the ledger file: how each is opened, and how a whole transaction runs in one hop.

aiosqlite carries each call to its own thread, at about 65 µs a hop, and a caller who is cancelled between two hops
would leave half a transaction open. So a transaction travels as one call: `TransactionConnection` runs all of its
statements where it is. Nothing else here may begin a transaction.
"""

import os
import sqlite3
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple, Protocol
from urllib.parse import quote

import aiosqlite
from anyio import CancelScope

from controller.errors import LedgerError
from controller.store.files import size_bytes

BUSY_TIMEOUT_S: Final = 5.0
WAL_SIZE_LIMIT_BYTES: Final = 64 * 1024**2
"""The write-ahead log is cut back to this once it was larger and has been checkpointed."""

Value = str | int | float | bytes | None


class Statement(NamedTuple):
    """One SQL statement, run once for each row; once without parameters when there are no rows to bind."""

    sql: str
    rows: Sequence[tuple[Value, ...]] | None = None


class TransactionConnection(sqlite3.Connection):
    """A connection whose `executemany` takes many statements instead of many rows of one."""

    def executemany(self, sql: str, parameters: Iterable[object], /) -> sqlite3.Cursor:
        """Run the statements in one transaction that ends with `sql`, a COMMIT: all of them, or none.

        A failed rollback is raised with the error that made it necessary as its context.
        """
        cursor = self.execute("BEGIN IMMEDIATE")
        try:
            for statement in parameters:
                assert isinstance(statement, Statement)
                if statement.rows is None:
                    cursor.execute(statement.sql)
                else:
                    cursor.executemany(statement.sql, statement.rows)
            return cursor.execute(sql)
        except BaseException:
            # A full disk rolls back by itself; a busy COMMIT leaves the transaction open.
            if self.in_transaction:
                cursor.execute("ROLLBACK")
            raise


async def transact(connection: aiosqlite.Connection, statements: Sequence[Statement]) -> None:
    """Write the statements durably, all or none, in one hop. Raises sqlite3.Error, and then none is written."""
    await connection.executemany("COMMIT", statements)


class Connect(Protocol):
    """`aiosqlite.connect`, or what a simulation puts in its place."""

    def __call__(
        self,
        database: str,
        /,
        *,
        uri: bool,
        timeout: float,
        isolation_level: None,
        factory: type[sqlite3.Connection],
    ) -> aiosqlite.Connection:
        """A connection that is not open yet. `timeout` is SQLite's busy time-out in seconds."""
        ...


async def open_writer(path: Path, connect: Connect) -> aiosqlite.Connection:
    """The one read-write connection. The caller closes it. Raises sqlite3.Error."""
    connection = await _open(path, "rw", connect)
    try:
        (mode,) = await one_row(connection, "PRAGMA journal_mode=WAL")
        if mode != "wal":
            raise sqlite3.OperationalError(f"its file system does not take a write-ahead log (journal mode {mode})")
        for pragma in (
            "synchronous=FULL",
            "foreign_keys=ON",
            "trusted_schema=OFF",
            f"journal_size_limit={WAL_SIZE_LIMIT_BYTES}",
        ):
            await connection.execute_fetchall(f"PRAGMA {pragma}")
    except BaseException:
        await close(connection)
        raise
    return connection


@asynccontextmanager
async def reading(path: Path, connect: Connect) -> AsyncIterator[aiosqlite.Connection]:
    """A read-only connection, closed at the end. Raises sqlite3.Error."""
    connection = await open_reader(path, connect)
    try:
        yield connection
    finally:
        await close(connection)


async def close(connection: aiosqlite.Connection) -> None:
    """Close, whatever state it is in: its thread would keep the process alive."""
    with CancelScope(shield=True):
        try:
            await connection.close()
        except (sqlite3.Error, ValueError):
            return


async def one_row(connection: aiosqlite.Connection, sql: str) -> sqlite3.Row:
    """The first row of an answer that always has one."""
    rows = list(await connection.execute_fetchall(sql))
    return rows[0]


def refusal(path: Path, error: Exception) -> LedgerError:
    """What SQLite, or Python on the way to it, said: as one line that names the file."""
    name = getattr(error, "sqlite_errorname", "")
    words = " ".join(str(error).split())
    hint = _HINTS.get("_".join(name.split("_")[:2]), "")
    return LedgerError(f"ledger {path}: {words}" + (f" ({name})" if name else "") + (f"; {hint}" if hint else ""))


_HINTS: Final = {
    "SQLITE_CORRUPT": "the file is damaged and was left as it is: put a backup in its place, or move it away",
    "SQLITE_NOTADB": "the file is no ledger and was left as it is: put a backup in its place, or move it away",
    "SQLITE_FULL": "nothing of this was written: make room on its disk",
    "SQLITE_READONLY": "nothing was written: make the file and its folder writable",
    "SQLITE_CANTOPEN": "see that the file and its folder can be read and written",
    "SQLITE_IOERR": "nothing of this was written: look at the disk and its limits",
}


_NO_PLACE: Final = ("SQLITE_CANTOPEN", "SQLITE_READONLY")
"""What SQLite says where it cannot make the files that reading a write-ahead log takes."""


async def open_reader(path: Path, connect: Connect, *, beside_writer: bool = False) -> aiosqlite.Connection:
    """A read-only connection, to a ledger in use or not. The caller closes it. Raises sqlite3.Error.

    `beside_writer` says that this program is about to write: then it must see what is written.
    """
    connection = await _open(path, "ro", connect)
    try:
        await connection.execute_fetchall("SELECT count(*) FROM sqlite_master")
        return connection
    except BaseException as error:
        await close(connection)
        unreadable = isinstance(error, sqlite3.OperationalError) and size_bytes(Path(f"{path}-wal")) is None
        if beside_writer or not unreadable or not getattr(error, "sqlite_errorname", "").startswith(_NO_PLACE):
            raise
    # Where the folder cannot be written, SQLite cannot make the files beside the ledger that reading it takes;
    # without a write-ahead log it does not need them.
    return await _open(path, "ro&immutable=1", connect)


async def _open(path: Path, mode: str, connect: Connect) -> aiosqlite.Connection:
    with CancelScope(shield=True):
        connection = await connect(
            f"file:{quote(os.fsencode(path))}?mode={mode}",
            uri=True,
            timeout=BUSY_TIMEOUT_S,
            isolation_level=None,
            factory=TransactionConnection,
        )
    return connection  # noqa: RET504  a scope may swallow, so mypy wants the return outside it
