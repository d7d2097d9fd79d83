"""Opening the ledger: for the one controller that writes it, or read-only beside or after one.

Everything that could be wrong with the file is found before anything is written to it, and said in one line. `app.py`
enters `open_ledger`; the read-only commands enter `open_readonly`.
"""

import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Final

import aiosqlite
import structlog

from controller.errors import LedgerError
from controller.interfaces import Clock, Rng
from controller.model.instant import Instant
from controller.store import lock
from controller.store.committer import SqliteLedger
from controller.store.connection import (
    Connect,
    Statement,
    close,
    one_row,
    open_reader,
    open_writer,
    reading,
    refusal,
    transact,
)
from controller.store.files import absolute, prepare_file, prepare_folder, size_bytes
from controller.store.reader import SqliteReader
from controller.store.schema import VERSION, check, migrate, version_of

CONTROLLER_ID_BYTES: Final = 8
KEY_BYTES: Final = 32
_SOUND_SQLITE: Final = (3, 51, 3)

_log = structlog.get_logger(__name__)

Hold = Callable[[Path, Instant], AbstractContextManager[None]]


@asynccontextmanager
async def open_ledger(
    path: str | os.PathLike[str],
    *,
    clock: Clock,
    rng: Rng,
    connect: Connect = aiosqlite.connect,
    hold: Hold = lock.held,
) -> AsyncIterator[SqliteLedger]:
    """The ledger at `path`, made if it is not there, for the only controller that uses it.

    Raises LedgerBusy when another controller has it, LedgerError with one clear line when it cannot be used; then
    nothing of it was overwritten. `connect` and `hold` are for simulated processes, which die without closing anything.
    """
    where = absolute(path)
    prepare_folder(where)
    with hold(where, clock.now()):
        prepare_file(where)
        try:
            await _make_ready(where, rng, connect)
        except sqlite3.Error as error:
            raise refusal(where, error) from error
        _tell_version()
        async with _opened(where, connect, clock) as ledger:
            yield ledger


@asynccontextmanager
async def open_readonly(
    path: str | os.PathLike[str], *, connect: Connect = aiosqlite.connect
) -> AsyncIterator[SqliteReader]:
    """The ledger at `path`, for questions only, whether a controller runs or not. Raises LedgerError with one line."""
    where = absolute(path)
    try:
        is_there = not where.is_dir() and size_bytes(where)
    except OSError as error:
        raise LedgerError(f"ledger {where}: {error.strerror}") from error
    if not is_there:
        raise LedgerError(f"ledger {where}: no such file, or an empty one; a controller makes it at its first start")
    connection = await _readable(where, connect)
    try:
        yield SqliteReader(where, connection, connect)
    finally:
        await close(connection)


@asynccontextmanager
async def _opened(path: Path, connect: Connect, clock: Clock) -> AsyncIterator[SqliteLedger]:
    connection = await _readable(path, connect, beside_writer=True)
    ledger = SqliteLedger(path, reading=connection, connect=connect, clock=clock)
    try:
        await ledger.open()
        yield ledger
    finally:
        # Readers before the writer: the last to close puts the write-ahead log back, and only a writer can.
        await close(connection)
        await ledger.close()


async def _readable(path: Path, connect: Connect, *, beside_writer: bool = False) -> aiosqlite.Connection:
    """A read-only connection to a ledger of exactly this program's version."""
    try:
        connection = await open_reader(path, connect, beside_writer=beside_writer)
    except sqlite3.Error as error:
        raise refusal(path, error) from error
    try:
        version = await version_of(connection, path)
        if version < VERSION:
            raise LedgerError(
                f"ledger {path}: written by an older program (version {version}, this one reads {VERSION}); "
                "start the controller once to bring it up to date"
            )
    except sqlite3.Error as error:
        await close(connection)
        raise refusal(path, error) from error
    except BaseException:
        await close(connection)
        raise
    return connection


async def _make_ready(path: Path, rng: Rng, connect: Connect) -> None:
    """Inspect without writing; then migrate, and write the first facts of a new ledger."""
    version, has_facts = 0, False
    if size_bytes(path):
        async with reading(path, connect) as connection:
            version = await version_of(connection, path)
            await check(connection, path)
            has_facts = version == VERSION and await _has_facts(connection)
    await migrate(path, version, connect)
    if has_facts:
        return
    connection = await open_writer(path, connect)
    try:
        if not await _has_facts(connection):
            controller_id, key = rng.token(CONTROLLER_ID_BYTES), bytes.fromhex(rng.token(KEY_BYTES))
            facts = Statement(
                "INSERT INTO meta (key, value) VALUES (?, ?)", [("controller_id", controller_id), ("key", key)]
            )
            await transact(connection, [facts])
    finally:
        await close(connection)


async def _has_facts(connection: aiosqlite.Connection) -> bool:
    """Whether it is more than an empty schema: the process that made it may have died before it wrote anything."""
    (count,) = await one_row(connection, "SELECT count(*) FROM meta WHERE key = 'controller_id'")
    return bool(count)


def _tell_version() -> None:
    told = {"sqlite": sqlite3.sqlite_version}
    if sqlite3.sqlite_version_info < _SOUND_SQLITE:
        _log.warning(
            "this SQLite has the WAL-reset bug, which matters only if another program writes to the ledger: none may",
            **told,
        )
    else:
        _log.info("ledger opened", **told)
