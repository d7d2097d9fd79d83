"""A ledger that an earlier build left behind, killed in the middle of its work, is read whole and carried on.

Beside `test_migrating.py`, which makes its older files with the program of today: these files were written by the
program of then, so that a body which today's model cannot read any more, or reads without some of it, is found here.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from controller.core.replay import replay
from controller.interfaces import JournalFilter
from controller.loops.program import rules_of
from controller.model.ids import ContainerId, SessionId
from controller.model.instant import Instant, after
from controller.model.phase import Desired
from controller.model.reason import Reason
from controller.model.session import Session
from controller.store import codec
from controller.store.ledger import open_ledger
from controller.store.schema import VERSION
from tests.store.images import IMAGES, Image
from tests.store.records import ManualClock, SeededRng
from tests.support import manual_clock
from tests.support.fake_engine import FakeEngine
from tests.support.stage import Stage, on_stage, plain_settings

DROPPED: Final = {"engine_up_at"}
"""Fields that older programs wrote and that nothing needs any more: commit 7e6ed6e says why."""
BODIES: Final = {
    "SELECT body FROM sessions": codec.SESSION,
    "SELECT body FROM attempts": codec.ATTEMPT,
    "SELECT body FROM actions": codec.ACTION,
    "SELECT body FROM evidence": codec.EVIDENCE,
    "SELECT body FROM journal": codec.DRAFT,
    "SELECT observation FROM journal WHERE observation IS NOT NULL": codec.OBSERVATION,
}
TABLES: Final = ("meta", "sessions", "attempts", "journal", "actions", "evidence", "gaps", "seen")
DOWN_FOR_S: Final = 3600.0
TIME_TO_COME_BACK_S: Final = 120

Rows = dict[str, list[tuple[object, ...]]]


@pytest.fixture(params=IMAGES, ids=[image.name for image in IMAGES])
def image(request: pytest.FixtureRequest) -> Image:
    found: Image = request.param
    return found


@pytest.fixture
def path(image: Image, tmp_path: Path) -> Path:
    path = tmp_path / "controller.db"
    path.write_bytes(image.content())
    return path


@pytest.fixture
def before(path: Path) -> Rows:
    return rows_of(path)


def query(path: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(sql).fetchall()


def rows_of(path: Path) -> Rows:
    """All that the first schema has columns for, in every table."""
    columns = {table: "*" for table in TABLES} | {
        "journal": "seq, decision, kind, session_id, session, attempt, container_id, committed_at, observed_at, body, "
        "observation"
    }
    return {table: sorted(query(path, f"SELECT {columns[table]} FROM {table}"), key=repr) for table in TABLES}


def test_every_version_of_the_schema_has_an_image() -> None:
    assert {image.version for image in IMAGES} == set(range(1, VERSION + 1)), "make one: tests/store/images/README.md"


def test_an_image_is_of_the_version_that_it_is_named_after(image: Image, path: Path) -> None:
    assert query(path, "PRAGMA user_version") == [(image.version,)]


def test_an_image_was_taken_in_the_middle_of_its_life(path: Path) -> None:
    assert query(path, "SELECT 1 FROM actions WHERE state = 'open'")
    assert query(path, "SELECT 1 FROM actions WHERE state = 'closed'")
    assert query(path, "SELECT 1 FROM sessions WHERE removed_at IS NOT NULL")
    assert query(path, "SELECT 1 FROM sessions WHERE phase = 'running' AND origin = 'external'")
    assert {"running", "failed", "stopped"} <= {phase for (phase,) in query(path, "SELECT phase FROM sessions")}
    for table in TABLES:
        assert query(path, f"SELECT 1 FROM {table}"), table


async def test_it_is_opened_and_nothing_in_it_is_changed(path: Path, before: Rows) -> None:
    async with open_ledger(path, clock=ManualClock(), rng=SeededRng()):
        pass
    assert query(path, "PRAGMA user_version") == [(VERSION,)]
    assert query(path, "PRAGMA integrity_check") == [("ok",)]
    assert query(path, "PRAGMA foreign_key_check") == []
    assert rows_of(path) == before


async def test_every_question_to_it_has_an_answer(path: Path, before: Rows) -> None:
    async with open_ledger(path, clock=ManualClock(), rng=SeededRng()) as ledger:
        assert (await ledger.meta()).engine_id is not None
        sessions = await ledger.sessions(include_removed=True)
        attempts = [attempt for session in sessions for attempt in await ledger.attempts(session.id)]
        assert (len(sessions), len(attempts)) == (len(before["sessions"]), len(before["attempts"]))
        assert len(await ledger.journal(JournalFilter(limit=10_000))) == len(before["journal"])
        assert len(await ledger.open_actions()) == sum("open" in row for row in before["actions"])
        assert len(await ledger.gaps(limit=10_000)) == len(before["gaps"])
        assert len(await ledger.seen_keys()) == len(before["seen"])
        for session_id, number, *_ in before["evidence"]:
            (session,) = [session for session in sessions if session.id == session_id]
            assert isinstance(number, int)
            assert await ledger.evidence(session.id, number) is not None
        assert {session.container_id for session in sessions} <= {None, *await ledger.known_containers()}


@pytest.mark.parametrize("sql", BODIES)
def test_every_body_is_read_without_loss(path: Path, sql: str) -> None:
    for (body,) in query(path, sql):
        assert isinstance(body, str)
        again = BODIES[sql].to_text(BODIES[sql].from_text(body))  # type: ignore[attr-defined]
        assert not list(lost(json.loads(body), json.loads(again))), body


def lost(old: object, new: object, place: str = "") -> Iterator[str]:
    """What the old value says and the new one does not; fields that only the new one has are none of it."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in old.keys() - DROPPED:
            yield from lost(old[name], new.get(name, "nothing of that name"), f"{place}.{name}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from lost(one, other, f"{place}[{number}]")
    elif old != new:
        yield f"{place}: {old!r} is read as {new!r}"


async def test_its_journal_is_decided_again_to_the_same_sessions(path: Path) -> None:
    """Not to every field of them: the program of then had other rules, and a replay is exact under its own only."""
    async with open_ledger(path, clock=ManualClock(), rng=SeededRng()) as ledger:
        rules = rules_of(plain_settings(), await ledger.meta())
        for stored in await ledger.sessions(include_removed=True):
            told = [observation for _, observation in await ledger.observations(stored.id)]
            again = replay(await ledger.replay_start(stored.id), told, rules=rules)
            assert again is not None
            assert identity(again) == identity(stored)


def identity(session: Session) -> tuple[object, ...]:
    return session.id, session.name, session.origin, session.spec, session.created_at


async def test_the_program_starts_on_it_and_says_what_became_of_each_session(path: Path, before: Rows) -> None:
    """An hour later, on an engine that has none of the containers any more."""
    meta = {key: value for key, value in before["meta"]}
    engine = empty_engine(str(meta["engine_id"]), since=Instant(int(str(meta["seen_until"]))))
    open_before = {row[0] for row in before["actions"] if "open" in row}
    was = {session.id: session for session in (codec.SESSION.from_text(str(row[-1])) for row in before["sessions"])}
    async with on_stage(path.parent, engine) as stage:
        await come_to_rest(stage)
        assert stage.condition.readiness().ready
        now = {session.id: session for session in await stage.ledger.sessions(include_removed=True)}
        assert not open_before & {action.id for action in await stage.ledger.open_actions()}
    judge_sessions(was, now, engine)
    assert_nothing_is_lost(before, rows_of(path))
    told = {body for (body,) in query(path, f"SELECT body ->> '$.reason' FROM journal WHERE seq > {last_seq(before)}")}
    assert not told & {Reason.DEFECT, Reason.UNEXPECTED}


def empty_engine(engine_id: str, *, since: Instant) -> FakeEngine:
    return FakeEngine(manual_clock.ManualClock(after(since, DOWN_FOR_S)), engine_id=engine_id)


async def come_to_rest(stage: Stage) -> None:
    for _ in range(TIME_TO_COME_BACK_S):
        await stage.clock.advance(1.0)
        await stage.settle()


def judge_sessions(was: dict[SessionId, Session], now: dict[SessionId, Session], engine: FakeEngine) -> None:
    """What was over stays as it was; what is wanted runs again; everything else is told as gone."""
    assert was.keys() == now.keys()
    for session_id, session in now.items():
        earlier = was[session_id]
        assert identity(session) == identity(earlier)
        if earlier.removed_at is not None:
            assert session == earlier
        elif session.removed_at is None and session.container is not None:
            assert session.container.id in engine.containers, f"{session.name} has a container that is not there"
            assert earlier.desired is Desired.RUNNING, f"{session.name} runs, and nobody wanted it to"
        else:
            assert session.phase.is_ended or session.removed_at is not None, f"{session.name} is {session.phase}"
    made = {ContainerId(one) for one in engine.containers}
    assert made == {session.container_id for session in now.values() if session.removed_at is None} - {None}


def assert_nothing_is_lost(before: Rows, after_it: Rows) -> None:
    assert set(before["journal"]) <= set(after_it["journal"])
    for table, key_columns in (("sessions", 1), ("attempts", 2), ("actions", 1), ("evidence", 2), ("gaps", 1)):
        keys = {row[:key_columns] for row in before[table]}
        assert keys <= {row[:key_columns] for row in after_it[table]}, table


def last_seq(rows: Rows) -> int:
    return max(int(str(row[0])) for row in rows["journal"])
