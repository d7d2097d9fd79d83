"""A reader beside the writer sees what is written, or is none."""

import sqlite3
from pathlib import Path
from typing import Any

import aiosqlite
import pytest

from controller.store.connection import open_reader
from controller.store.ledger import open_ledger
from tests.support.manual_clock import FixedRng, ManualClock


@pytest.mark.parametrize("name", ["SQLITE_IOERR_READ", "SQLITE_CANTOPEN"])
async def test_what_cannot_be_read_for_once_is_not_read_as_if_it_never_changed(tmp_path: Path, name: str) -> None:
    path = tmp_path / "controller.db"
    async with open_ledger(path, clock=ManualClock(), rng=FixedRng()):
        pass
    opened: list[str] = []

    async def fails(*_: object) -> Any:
        error = sqlite3.OperationalError("for once")
        error.sqlite_errorname = name
        raise error

    def connect(database: str, /, **options: Any) -> aiosqlite.Connection:
        opened.append(database)
        connection = aiosqlite.connect(database, **options)
        connection.execute_fetchall = fails  # type: ignore[assignment, method-assign]
        return connection

    with pytest.raises(sqlite3.OperationalError, match="for once"):
        await open_reader(path, connect, beside_writer=True)
    assert len(opened) == 1
