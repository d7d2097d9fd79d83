"""A batch is written whole, numbered in order, and readable at once."""

import dataclasses
import sqlite3
from pathlib import Path

import pytest

from controller.errors import LedgerError
from controller.interfaces import Batch, EngineCursor, JournalFilter
from controller.model.ids import ContainerId, EngineId, SessionName
from controller.model.instant import Instant, after
from controller.model.journal import Gap
from controller.model.observation import ControllerStarted, EngineLost
from controller.store.committer import SqliteLedger
from controller.store.ledger import open_ledger, open_readonly
from controller.store.statements import SEEN_MIN
from tests.store.records import START, ManualClock, SeededRng, action, attempt, decision, draft, evidence, session


async def test_everything_of_a_batch_is_there_after_a_restart(path: Path, clock: ManualClock) -> None:
    alpha = session(latest=attempt(2), action_count=1)
    alpha = dataclasses.replace(alpha, earlier=(attempt(1, ended_at=START),))
    gap = Gap(opened_at=START, closed_at=None, cause="stream cut")
    batch = Batch(
        decisions=[decision(draft(alpha, message="one"), draft(alpha, message="two"))],
        sessions=[alpha],
        actions=[action(alpha)],
        evidence=[evidence(alpha, 1), evidence(alpha, 2, line="later")],
        gaps=[gap],
        stream=EngineCursor(keys=[(ContainerId("c1"), "die", START)], cursor=START, seen_until=after(START, 1)),
        engine_id=EngineId("engine"),
        published=7,
    )
    async with open_ledger(path, clock=clock, rng=SeededRng()) as ledger:
        committed = await ledger.commit(batch)
    async with open_ledger(path, clock=clock, rng=SeededRng()) as ledger:
        assert await ledger.sessions() == [alpha]
        assert await ledger.find(alpha.name) == alpha
        assert await ledger.attempts(alpha.id) == [*alpha.earlier, alpha.attempt]
        assert await ledger.journal(JournalFilter()) == committed
        assert await ledger.observations(alpha.id) == [(1, batch.decisions[0].observation)]
        assert await ledger.open_actions() == [action(alpha)]
        assert await ledger.evidence(alpha.id) == evidence(alpha, 2, line="later")
        assert await ledger.evidence(alpha.id, 1) == evidence(alpha, 1)
        assert await ledger.gaps() == [gap]
        assert await ledger.seen_keys() == [("c1", "die", START)]
        assert await ledger.known_containers() == {"c1": alpha.id}
        meta = await ledger.meta()
        assert (meta.engine_id, meta.cursor, meta.seen_until, meta.published) == ("engine", START, after(START, 1), 7)


async def test_identity_and_key_are_made_once_and_kept(path: Path, clock: ManualClock) -> None:
    async with open_ledger(path, clock=clock, rng=SeededRng()) as ledger:
        made = await ledger.meta()
    async with open_ledger(path, clock=clock, rng=SeededRng()) as ledger:
        assert await ledger.meta() == made
    assert len(made.controller_id) == 16
    assert len(made.key) == 32
    assert (made.engine_id, made.cursor, made.seen_until, made.published) == (None, None, None, 0)


async def test_rows_are_numbered_in_order_and_share_their_decision(ledger: SqliteLedger, clock: ManualClock) -> None:
    alpha = session()
    first = await ledger.commit(Batch(decisions=[decision(draft(alpha), draft(alpha)), decision(draft(alpha))]))
    clock.pass_s(5)
    second = await ledger.commit(Batch(decisions=[decision(draft(alpha), draft(alpha))]))
    assert [(row.seq, row.decision) for row in [*first, *second]] == [(1, 1), (2, 1), (3, 3), (4, 4), (5, 4)]
    assert {row.committed_at for row in first} == {START}
    assert {row.committed_at for row in second} == {after(START, 5)}
    assert await ledger.journal(JournalFilter(after=2, limit=2)) == [first[2], second[0]]


async def test_each_decision_keeps_its_observation_for_the_replay(ledger: SqliteLedger) -> None:
    alpha, beta = session("alpha"), session("beta")
    lost, started = EngineLost(observed_at=START), ControllerStarted(observed_at=START)
    await ledger.commit(
        Batch(
            decisions=[
                decision(draft(alpha), draft(alpha), observation=lost),
                decision(draft(beta), observation=lost),
                decision(draft(alpha), observation=started),
            ]
        )
    )
    assert await ledger.observations(alpha.id) == [(1, lost), (4, started)]
    assert [row.seq for row in await ledger.journal(JournalFilter(session_id=beta.id))] == [3]


async def test_a_name_is_free_again_once_its_session_is_removed(ledger: SqliteLedger) -> None:
    old, new = session(session_id="old", removed_at=START), session(session_id="new")
    await ledger.commit(Batch(sessions=[session(session_id="old")]))
    await ledger.commit(Batch(sessions=[new, old]))
    assert await ledger.find(SessionName("alpha")) == new
    assert await ledger.sessions() == [new]
    assert await ledger.sessions(include_removed=True) == [old, new]
    await ledger.commit(Batch(sessions=[session(session_id="new", removed_at=after(START, 1))]))
    found = await ledger.find(SessionName("alpha"))
    assert found is not None
    assert found.id == "new"


async def test_a_second_session_of_a_live_name_is_refused_with_its_whole_batch(ledger: SqliteLedger) -> None:
    await ledger.commit(Batch(sessions=[session(session_id="one")]))
    with pytest.raises(LedgerError, match="UNIQUE constraint failed"):
        await ledger.commit(
            Batch(decisions=[decision(draft(session()))], sessions=[session(session_id="two")], published=3)
        )
    assert [found.id for found in await ledger.sessions()] == ["one"]
    assert await ledger.journal(JournalFilter()) == []
    assert (await ledger.meta()).published == 0
    rows = await ledger.commit(Batch(decisions=[decision(draft(session()))]))
    assert [row.seq for row in rows] == [1]


async def test_a_number_that_sqlite_cannot_hold_is_refused_with_its_whole_batch(ledger: SqliteLedger) -> None:
    gap = Gap(opened_at=Instant(2**63), closed_at=None, cause="stream cut")
    with pytest.raises(LedgerError, match="too large"):
        await ledger.commit(Batch(sessions=[session()], gaps=[gap]))
    assert await ledger.sessions() == []


async def test_a_closed_action_is_open_no_more(ledger: SqliteLedger) -> None:
    alpha = session()
    await ledger.commit(Batch(sessions=[alpha], actions=[action(alpha, 1), action(alpha, 2)]))
    await ledger.commit(Batch(closed=[action(alpha, 1).id], actions=[action(alpha, 3)]))
    assert await ledger.open_actions() == [action(alpha, 2), action(alpha, 3)]


async def test_a_gap_is_one_row_that_its_sweep_closes(ledger: SqliteLedger) -> None:
    opened = Gap(opened_at=START, closed_at=None, cause="stream cut")
    closed = dataclasses.replace(opened, closed_at=after(START, 3), found="nothing")
    await ledger.commit(Batch(gaps=[opened, Gap(opened_at=Instant(START - 1), closed_at=START, cause="bad line")]))
    await ledger.commit(Batch(gaps=[closed]))
    assert await ledger.gaps(limit=1) == [closed]
    assert len(await ledger.gaps()) == 2


async def test_event_keys_are_kept_ten_minutes(ledger: SqliteLedger, clock: ManualClock) -> None:
    await ledger.commit(_told(0, 1))
    clock.pass_s(599)
    await ledger.commit(_told(1, SEEN_MIN))
    assert len(await ledger.seen_keys()) == 1 + SEEN_MIN
    clock.pass_s(2)
    await ledger.commit(_told(1_000, 1))
    assert [key[2] for key in await ledger.seen_keys()] == [*range(1, 1 + SEEN_MIN), 1_000]


async def test_the_keys_of_the_last_events_outlive_any_silence(ledger: SqliteLedger, clock: ManualClock) -> None:
    await ledger.commit(_told(0, SEEN_MIN - 1))
    clock.pass_s(86_400)
    await ledger.commit(_told(1_000, 1))
    assert len(await ledger.seen_keys()) == SEEN_MIN
    await ledger.commit(_told(2_000, SEEN_MIN - 1))
    assert [key[2] for key in await ledger.seen_keys()] == [1_000, *range(2_000, 1_999 + SEEN_MIN)]


def _told(first: int, count: int) -> Batch:
    """So many events, each a nanosecond after the one before."""
    keys = [(ContainerId("c1"), "die", Instant(at)) for at in range(first, first + count)]
    return Batch(stream=EngineCursor(keys=keys, cursor=None, seen_until=None))


async def test_a_cursor_without_news_changes_nothing_it_does_not_name(ledger: SqliteLedger) -> None:
    await ledger.commit(Batch(stream=EngineCursor(keys=[], cursor=START, seen_until=START)))
    await ledger.commit(Batch(stream=EngineCursor(keys=[], cursor=None, seen_until=after(START, 9))))
    meta = await ledger.meta()
    assert (meta.cursor, meta.seen_until) == (START, after(START, 9))


async def test_the_live_session_wins_a_container_over_a_removed_one(ledger: SqliteLedger) -> None:
    old = session("old", latest=attempt(1), removed_at=START)
    await ledger.commit(Batch(sessions=[session("new", latest=attempt(1)), old]))
    assert await ledger.known_containers() == {"c1": "id-of-new"}


async def test_hostile_text_is_stored_as_data(ledger: SqliteLedger) -> None:
    hostile = "'; DROP TABLE journal; --\n\x1b[31m\0\u202e\ud800"
    rows = await ledger.commit(Batch(decisions=[decision(draft(session(), message=hostile))]))
    read = await ledger.journal(JournalFilter())
    assert rows[0].draft.message == hostile
    assert read[0].draft.message == hostile.replace("\ud800", "\ufffd")


async def test_the_journal_cannot_be_rewritten(ledger: SqliteLedger, path: Path) -> None:
    await ledger.commit(Batch(decisions=[decision(draft(session()), draft(session()))]))
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in (
        "UPDATE journal SET attempt = 9",
        "DELETE FROM journal",
        "INSERT OR REPLACE INTO journal SELECT * FROM journal WHERE seq = 1",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="the journal is append-only"):
            connection.execute(statement)
    connection.close()


async def test_it_is_read_from_outside_while_it_is_written(ledger: SqliteLedger, path: Path) -> None:
    async with open_readonly(path) as outside:
        assert await outside.sessions() == []
        await ledger.commit(Batch(sessions=[session()]))
        assert await outside.sessions() == [session()]
        assert (await outside.meta()).controller_id == (await ledger.meta()).controller_id
