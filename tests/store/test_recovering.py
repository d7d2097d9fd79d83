"""After a failed commit the ledger trusts its connection again, replaces it, or says why it writes no more."""

import sqlite3
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final

import aiosqlite
import pytest

from controller.errors import LedgerError
from controller.store.committer import SqliteLedger
from controller.store.connection import TransactionConnection
from controller.store.ledger import open_ledger
from tests.store.records import ManualClock, SeededRng
from tests.store.writer import batch, committed


def io_error(name: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorname = name
    return error


class FailingDisk:
    """Connections that fail when told to, and how often one was opened for writing."""

    def __init__(self) -> None:
        self.next_commit: Callable[[sqlite3.Connection], None] | None = None
        self.next_opening: sqlite3.Error | None = None
        self.writers_opened = 0
        disk = self

        class Failing(TransactionConnection):
            def executemany(self, sql: str, parameters: Iterable[object], /) -> sqlite3.Cursor:
                if disk.next_commit is not None:
                    fail, disk.next_commit = disk.next_commit, None
                    fail(self)
                return super().executemany(sql, parameters)

        self._factory: Final = Failing

    def connect(self, database: str, /, **options: Any) -> aiosqlite.Connection:
        self.writers_opened += "mode=rw" in database
        if self.next_opening is not None:
            error, self.next_opening = self.next_opening, None
            raise error
        return aiosqlite.connect(database, **{**options, "factory": self._factory})

    def opened(self, path: Path) -> AbstractAsyncContextManager[SqliteLedger]:
        return open_ledger(path, clock=ManualClock(), rng=SeededRng(), connect=self.connect)


def raising(error: sqlite3.Error) -> Callable[[sqlite3.Connection], None]:
    def fail(connection: sqlite3.Connection) -> None:
        raise error

    return fail


def stuck(connection: sqlite3.Connection) -> None:
    """Fail with the transaction left open, as when the rollback fails as well."""
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO gaps VALUES (1, NULL, 'half', '')")
    raise sqlite3.OperationalError("cannot rollback")


async def test_after_an_io_error_the_file_is_opened_anew_and_commits_go_on(path: Path) -> None:
    disk = FailingDisk()
    async with disk.opened(path) as ledger:
        await ledger.commit(batch(1))
        opened = disk.writers_opened
        disk.next_commit = raising(io_error("SQLITE_IOERR_WRITE"))
        with pytest.raises(LedgerError, match="disk I/O error"):
            await ledger.commit(batch(2))
        assert disk.writers_opened == opened + 1
        await ledger.commit(batch(2))
    assert committed(path) == 2


async def test_a_transaction_that_could_not_be_rolled_back_never_shows(path: Path) -> None:
    disk = FailingDisk()
    async with disk.opened(path) as ledger:
        disk.next_commit = stuck
        with pytest.raises(LedgerError, match="cannot rollback"):
            await ledger.commit(batch(1))
        assert await ledger.gaps() == []
        await ledger.commit(batch(1))
    assert committed(path) == 1


async def test_a_refused_batch_needs_no_new_connection(path: Path) -> None:
    disk = FailingDisk()
    async with disk.opened(path) as ledger:
        await ledger.commit(batch(1))
        opened = disk.writers_opened
        with pytest.raises(LedgerError, match="UNIQUE constraint failed: actions"):
            await ledger.commit(batch(1))
        assert disk.writers_opened == opened
    assert committed(path) == 1


async def test_after_a_failed_sync_nothing_is_written_any_more(path: Path) -> None:
    disk = FailingDisk()
    async with disk.opened(path) as ledger:
        await ledger.commit(batch(1))
        disk.next_commit = raising(io_error("SQLITE_IOERR_FSYNC"))
        with pytest.raises(LedgerError, match="SQLITE_IOERR_FSYNC"):
            await ledger.commit(batch(2))
        for _ in range(2):
            with pytest.raises(LedgerError, match="nothing more is written"):
                await ledger.commit(batch(2))
        assert (await ledger.meta()).published == 1
    assert committed(path) == 1


async def test_a_file_that_cannot_be_opened_again_is_said_in_one_line_from_then_on(path: Path) -> None:
    disk = FailingDisk()
    async with disk.opened(path) as ledger:
        await ledger.commit(batch(1))
        disk.next_commit = raising(io_error("SQLITE_IOERR_WRITE"))
        disk.next_opening = sqlite3.OperationalError("unable to open database file")
        with pytest.raises(LedgerError, match="disk I/O error"):
            await ledger.commit(batch(2))
        with pytest.raises(LedgerError, match="unable to open database file"):
            await ledger.commit(batch(2))
    assert committed(path) == 1
