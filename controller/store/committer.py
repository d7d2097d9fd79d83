"""The one committer: a batch of decisions becomes durable, whole or not at all.

The only writer of the ledger. Each commit is one transaction in one hop, under one lock and shielded: a caller that is
cancelled waits for it, and half of it can never be seen. After an I/O error the file is closed, opened and checked
anew before anything else is written; after a failed sync nothing is written any more, because nobody can tell what is
on the disk.
"""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import aiosqlite
from anyio import CancelScope, Lock

from controller.errors import LedgerError
from controller.interfaces import Batch, Clock
from controller.model.instant import Instant
from controller.model.journal import JournalRow
from controller.store import prune
from controller.store.connection import Connect, Statement, close, one_row, open_writer, refusal, transact
from controller.store.reader import SqliteReader
from controller.store.schema import check
from controller.store.statements import numbered, of_batch


class SqliteLedger(SqliteReader):
    """The ledger of a running controller: `SqliteReader`, and `commit`."""

    def __init__(self, path: Path, *, reading: aiosqlite.Connection, connect: Connect, clock: Clock) -> None:
        super().__init__(path, reading, connect)
        self._clock = clock
        self._lock = Lock()
        self._writing: aiosqlite.Connection | None = None
        self._last_seq = 0
        self._refused = ""
        """Why nothing is written any more, once that is so."""

    async def open(self) -> None:
        """Open the read-write connection and find the journal's end. Raises LedgerError."""
        try:
            self._writing = await open_writer(self._path, self._connect)
            (self._last_seq,) = await one_row(
                self._writing, "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'journal'), 0)"
            )
        except sqlite3.Error as error:
            await self.close()
            raise refusal(self._path, error) from error
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the read-write connection in order: the write-ahead log goes back into the file."""
        if self._writing is not None:
            connection, self._writing = self._writing, None
            await close(connection)

    async def commit(self, batch: Batch) -> Sequence[JournalRow]:
        """Write the batch durably, whole or not at all; cancellation waits for it.

        Raises LedgerError when it was not written (and then none of it is).
        """
        with CancelScope(shield=True):
            async with self._lock:
                rows = await self._commit(batch)
        return rows

    async def _commit(self, batch: Batch) -> Sequence[JournalRow]:
        if self._refused:
            raise LedgerError(self._refused)
        assert self._writing is not None, "the ledger is committed to only while it is open"
        now = self._clock.now()
        try:
            rows, statements = await self._written(self._writing, batch, now)
            await transact(self._writing, statements)
        except (sqlite3.Error, OverflowError, UnicodeError) as error:
            failed = refusal(self._path, error)
            await self._recover(self._writing, error)
            raise failed from error
        self._last_seq += len(rows)
        return rows

    async def _written(
        self, connection: aiosqlite.Connection, batch: Batch, now: Instant
    ) -> tuple[list[JournalRow], list[Statement]]:
        rows = numbered(batch.decisions, last_seq=self._last_seq, now=now)
        statements = of_batch(batch, rows, now)
        if batch.prune_before is not None:
            forgotten = await prune.plan(connection, batch, before=batch.prune_before, now=now)
            snapshots = prune.snapshot_rows(forgotten, last_seq=self._last_seq + len(rows), now=now)
            statements += prune.of_pruning(forgotten, snapshots, before=batch.prune_before, now=now)
            rows += [row for row, _ in snapshots]
        return rows, statements

    async def _recover(self, connection: aiosqlite.Connection, error: Exception) -> None:
        """After an error: trust the connection again, replace it, or refuse everything from now on."""
        name = getattr(error, "sqlite_errorname", "")
        if not name.startswith("SQLITE_IOERR") and not connection.in_transaction:
            return
        await self.close()
        if name in ("SQLITE_IOERR_FSYNC", "SQLITE_IOERR_DIR_FSYNC"):
            self._refused = (
                f"ledger {self._path}: the disk failed to make a commit durable ({name}); nothing more is written: "
                "look at the disk, then start again"
            )
            return
        try:
            await self.open()
            await self._check()
        except LedgerError as second:
            await self.close()
            self._refused = str(second)

    async def _check(self) -> None:
        assert self._writing is not None
        try:
            await check(self._writing, self._path)
        except sqlite3.Error as error:
            raise refusal(self._path, error) from error
