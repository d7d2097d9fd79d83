"""Every older ledger becomes one of today, whole or not at all, and a copy of it is kept."""

# ruff: noqa: ASYNC240  nothing else waits for this loop while a test looks at its files

import sqlite3
from pathlib import Path

import pytest

from controller.errors import LedgerError
from controller.interfaces import Batch, JournalFilter
from controller.store import codec, schema
from controller.store.ledger import open_ledger, open_readonly
from controller.store.schema import STEPS, VERSION
from tests.store.records import START, ManualClock, SeededRng, decision, draft, session


def image_of_version(path: Path, version: int) -> None:
    """A ledger as the program of that version left it, with a session and a journal row."""
    path.parent.mkdir(parents=True)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    for statement in (line for step in STEPS[:version] for line in step):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.executemany("INSERT INTO meta VALUES (?, ?)", [("controller_id", "feed"), ("key", b"k" * 32)])
    body = codec.SESSION.to_text(session())
    connection.execute(
        "INSERT INTO sessions VALUES ('id-of-alpha', 'alpha', 'running', 'requested', '', NULL, NULL, NULL, ?)", (body,)
    )
    connection.execute(
        "INSERT INTO journal (seq, decision, kind, session_id, session, attempt, committed_at, observed_at, body) "
        "VALUES (7, 7, 'transition', 'id-of-alpha', 'alpha', 0, ?, ?, ?)",
        (START, START, codec.DRAFT.to_text(draft(session()))),
    )
    connection.close()


@pytest.mark.parametrize("version", range(1, VERSION + 1))
async def test_a_ledger_of_any_version_is_read_and_carried_on(path: Path, version: int) -> None:
    image_of_version(path, version)
    async with open_ledger(path, clock=ManualClock(), rng=SeededRng()) as ledger:
        assert (await ledger.meta()).controller_id == "feed"
        assert await ledger.sessions() == [session()]
        rows = await ledger.commit(Batch(decisions=[decision(draft(session()))]))
        assert [row.seq for row in await ledger.journal(JournalFilter())] == [7, 8]
    assert [row.seq for row in rows] == [8]


async def test_a_copy_of_the_older_file_is_kept_beside_it(path: Path) -> None:
    image_of_version(path, 1)
    Path(f"{path}.v1.bak.partial").write_text("what an interrupted try left")
    async with open_ledger(path, clock=ManualClock(), rng=SeededRng()):
        pass
    copy = Path(f"{path}.v1.bak")
    connection = sqlite3.connect(copy)
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    assert connection.execute("SELECT name FROM sessions").fetchall() == [("alpha",)]
    connection.close()
    assert oct(copy.stat().st_mode & 0o777) == "0o600"
    assert not Path(f"{path}.v1.bak.partial").exists()


async def test_a_new_ledger_has_no_copy(path: Path) -> None:
    async with open_ledger(path, clock=ManualClock(), rng=SeededRng()):
        pass
    assert not list(path.parent.glob("*.bak*"))


async def test_a_step_that_fails_leaves_the_version_before_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image_of_version(path, 1)
    broken = (STEPS[0], (*STEPS[1], "CREATE TABLE halfway (id INTEGER)", "INSERT INTO nowhere VALUES (1)"))
    with monkeypatch.context() as patched:
        patched.setattr(schema, "STEPS", broken)
        with pytest.raises(LedgerError, match="no such table: nowhere"):
            async with open_ledger(path, clock=ManualClock(), rng=SeededRng()):
                pass
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'halfway'").fetchone() == (0,)
    connection.close()
    async with open_ledger(path, clock=ManualClock(), rng=SeededRng()) as ledger:
        assert await ledger.sessions() == [session()]


async def test_a_reader_says_that_an_older_file_waits_for_its_controller(path: Path) -> None:
    image_of_version(path, 1)
    with pytest.raises(LedgerError, match="start the controller once to bring it up to date"):
        async with open_readonly(path):
            pass
