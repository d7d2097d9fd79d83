"""The ledger forgets what is old enough, and a replay still finds its start."""

import dataclasses

import pytest

from controller.interfaces import Batch, JournalFilter
from controller.model.instant import Instant, after
from controller.model.journal import Gap, RowKind
from controller.model.observation import ControllerStarted
from controller.model.reason import Reason
from controller.model.session import Session
from controller.model.spec import RestartPolicy
from controller.store import prune
from controller.store.committer import SqliteLedger
from tests.store.records import DAY_S, START, ManualClock, action, attempt, decision, draft, evidence, session

MONTH_S = 30 * DAY_S


async def run_attempts(ledger: SqliteLedger, clock: ManualClock, *, count: int, apart_s: float = DAY_S) -> Session:
    """A session with that many attempts, each with two rows and evidence, the given time apart."""
    alpha = session()
    for number in range(1, count + 1):
        alpha = session(latest=attempt(number))
        await ledger.commit(
            Batch(
                decisions=[decision(draft(alpha), draft(alpha))],
                sessions=[alpha],
                evidence=[evidence(alpha, number)],
            )
        )
        clock.pass_s(apart_s)
    return alpha


async def attempts_in_journal(ledger: SqliteLedger) -> list[int]:
    rows = await ledger.journal(JournalFilter())
    return sorted({row.draft.attempt for row in rows if row.draft.kind is RowKind.TRANSITION})


async def test_whole_old_attempts_go_and_the_rest_stays(ledger: SqliteLedger, clock: ManualClock) -> None:
    alpha = await run_attempts(ledger, clock, count=5)
    await ledger.commit(Batch(prune_before=after(START, 2.5 * DAY_S)))
    assert await attempts_in_journal(ledger) == [4, 5]
    assert [kept.number for kept in await ledger.attempts(alpha.id)] == [4, 5]
    assert await ledger.evidence(alpha.id, 3) is None
    assert await ledger.evidence(alpha.id, 4) == evidence(alpha, 4)
    assert await ledger.sessions() == [alpha]


async def test_a_replay_starts_from_the_snapshot(ledger: SqliteLedger, clock: ManualClock) -> None:
    alpha = await run_attempts(ledger, clock, count=3)
    assert await ledger.replay_start(alpha.id) is None
    assert len(await ledger.observations(alpha.id)) == 3
    (row,) = await ledger.commit(Batch(prune_before=after(START, DAY_S + 1)))
    assert (row.draft.kind, row.draft.reason, row.draft.session_id) == (RowKind.SNAPSHOT, Reason.SNAPSHOT, alpha.id)
    assert await ledger.replay_start(alpha.id) == alpha
    assert await ledger.observations(alpha.id) == []
    started = ControllerStarted(observed_at=clock.now())
    (later,) = await ledger.commit(Batch(decisions=[decision(draft(alpha), observation=started)], sessions=[alpha]))
    assert later.seq == row.seq + 1
    assert await ledger.observations(alpha.id) == [(later.decision, started)]


async def test_a_snapshot_holds_the_session_as_the_same_batch_leaves_it(
    ledger: SqliteLedger, clock: ManualClock
) -> None:
    alpha = dataclasses.replace(await run_attempts(ledger, clock, count=2), message="newer")
    await ledger.commit(Batch(decisions=[decision(draft(alpha))], sessions=[alpha], prune_before=after(START, 1)))
    assert await ledger.replay_start(alpha.id) == alpha


async def test_a_newer_snapshot_replaces_an_old_one(ledger: SqliteLedger, clock: ManualClock) -> None:
    await run_attempts(ledger, clock, count=3)
    await ledger.commit(Batch(prune_before=after(START, DAY_S / 2)))
    clock.pass_s(MONTH_S)
    await ledger.commit(Batch(prune_before=clock.now()))
    rows = await ledger.journal(JournalFilter())
    assert [row.draft.kind for row in rows].count(RowKind.SNAPSHOT) == 1


async def test_pruning_again_changes_nothing(ledger: SqliteLedger, clock: ManualClock) -> None:
    await run_attempts(ledger, clock, count=4)
    limit = after(START, 1.5 * DAY_S)
    assert len(await ledger.commit(Batch(prune_before=limit))) == 1
    before = await ledger.journal(JournalFilter())
    assert await ledger.commit(Batch(prune_before=limit)) == []
    assert await ledger.journal(JournalFilter()) == before


async def test_the_last_attempt_of_a_live_session_is_kept_for_ever(ledger: SqliteLedger, clock: ManualClock) -> None:
    await run_attempts(ledger, clock, count=1)
    clock.pass_s(100 * MONTH_S)
    assert await ledger.commit(Batch(prune_before=clock.now())) == []
    assert await attempts_in_journal(ledger) == [1]


async def test_rows_within_the_restart_window_are_kept(ledger: SqliteLedger, clock: ManualClock) -> None:
    alpha = await run_attempts(ledger, clock, count=4)
    patient = dataclasses.replace(alpha, policy=RestartPolicy(window_s=2.5 * DAY_S))
    await ledger.commit(Batch(sessions=[patient], prune_before=clock.now()))
    assert await attempts_in_journal(ledger) == [3, 4]


async def test_an_attempt_that_the_session_still_carries_is_kept(ledger: SqliteLedger, clock: ManualClock) -> None:
    alpha = await run_attempts(ledger, clock, count=3)
    carrying = dataclasses.replace(alpha, earlier=(attempt(2),))
    await ledger.commit(Batch(sessions=[carrying], prune_before=clock.now()))
    assert await attempts_in_journal(ledger) == [2, 3]
    assert [kept.number for kept in await ledger.attempts(alpha.id)] == [2, 3]


async def remove(ledger: SqliteLedger, alpha: Session, at: Instant) -> None:
    gone = dataclasses.replace(alpha, removed_at=at)
    await ledger.commit(Batch(decisions=[decision(draft(gone))], sessions=[gone]))


async def test_a_removed_session_vanishes_whole_once_all_of_it_is_old(ledger: SqliteLedger, clock: ManualClock) -> None:
    alpha = await run_attempts(ledger, clock, count=2)
    await ledger.commit(Batch(sessions=[session("beta")], actions=[action(alpha)]))
    await ledger.commit(Batch(closed=[action(alpha).id]))
    await remove(ledger, alpha, clock.now())
    await ledger.commit(Batch(prune_before=clock.now()))
    assert len(await ledger.attempts(alpha.id)) == 2
    clock.pass_s(1)
    assert await ledger.commit(Batch(prune_before=clock.now())) == []
    assert await ledger.sessions(include_removed=True) == [session("beta")]
    assert await ledger.attempts(alpha.id) == []
    assert await ledger.evidence(alpha.id) is None
    assert await ledger.journal(JournalFilter()) == []


async def test_a_removed_session_with_an_open_action_stays(ledger: SqliteLedger, clock: ManualClock) -> None:
    alpha = await run_attempts(ledger, clock, count=1)
    await ledger.commit(Batch(actions=[action(alpha)]))
    await remove(ledger, alpha, clock.now())
    clock.pass_s(MONTH_S)
    await ledger.commit(Batch(prune_before=clock.now()))
    assert await ledger.open_actions() == [action(alpha)]
    assert len(await ledger.sessions(include_removed=True)) == 1


async def test_numbers_go_on_where_they_were_after_everything_is_forgotten(
    ledger: SqliteLedger, clock: ManualClock
) -> None:
    alpha = await run_attempts(ledger, clock, count=2)
    await remove(ledger, alpha, clock.now())
    clock.pass_s(1)
    await ledger.commit(Batch(prune_before=clock.now()))
    await ledger.close()
    await ledger.open()
    (row,) = await ledger.commit(Batch(decisions=[decision(draft(session("beta")))]))
    assert row.seq == 6


async def test_old_closed_gaps_go_and_open_ones_stay(ledger: SqliteLedger, clock: ManualClock) -> None:
    gaps = [
        Gap(opened_at=START, closed_at=after(START, 1), cause="stream cut"),
        Gap(opened_at=after(START, 2), closed_at=None, cause="stream cut"),
        Gap(opened_at=after(START, 3), closed_at=after(START, DAY_S), cause="stream cut"),
    ]
    await ledger.commit(Batch(gaps=gaps))
    await ledger.commit(Batch(prune_before=after(START, 60)))
    assert await ledger.gaps() == [gaps[2], gaps[1]]


@pytest.mark.parametrize("count", [1, 3])
async def test_after_pruning_the_journal_is_append_only_again(
    ledger: SqliteLedger, clock: ManualClock, count: int
) -> None:
    await run_attempts(ledger, clock, count=count)
    await ledger.commit(Batch(prune_before=after(START, DAY_S * 1.5)))
    assert "pruning" not in {key for (key,) in await ledger._rows("SELECT key FROM meta")}


async def test_old_rows_of_a_session_that_was_never_recorded_go_too(ledger: SqliteLedger, clock: ManualClock) -> None:
    await ledger.commit(Batch(decisions=[decision(draft(session("ghost")))]))
    clock.pass_s(1)
    await ledger.commit(Batch(decisions=[decision(draft(session("phantom")))]))
    assert await ledger.commit(Batch(prune_before=clock.now())) == []
    assert [row.draft.session for row in await ledger.journal(JournalFilter())] == ["phantom"]


async def test_no_more_than_a_bounded_number_goes_at_once_and_the_rest_goes_next(
    ledger: SqliteLedger, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prune, "MAX_COUNT", 2)
    await run_attempts(ledger, clock, count=5)
    await ledger.commit(Batch(prune_before=clock.now()))
    assert await attempts_in_journal(ledger) == [3, 4, 5]
    await ledger.commit(Batch(prune_before=clock.now()))
    assert await attempts_in_journal(ledger) == [5]


async def test_an_old_attempt_that_the_same_batch_completes_is_kept(ledger: SqliteLedger, clock: ManualClock) -> None:
    alpha = await run_attempts(ledger, clock, count=3)
    late = draft(alpha, number=1, message="late")
    await ledger.commit(Batch(decisions=[decision(late)], prune_before=clock.now()))
    assert await attempts_in_journal(ledger) == [1, 3]
