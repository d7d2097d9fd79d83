"""One commit a batch, before anything else happens; a defect costs one decision and no more."""

from pathlib import Path

import pytest

from controller.core.transitions import decide
from controller.errors import LedgerError
from controller.interfaces import Batch
from controller.model.container import EventAction
from controller.model.instant import after
from controller.model.journal import JournalRow
from controller.model.observation import ConnectionChanged, Verb
from controller.model.phase import Phase
from controller.model.reason import Reason
from controller.store.committer import SqliteLedger
from tests.support.fake_engine import FakeEngine
from tests.support.full_disk import FullDisk
from tests.support.manual_clock import ManualClock
from tests.support.stage import Stage, on_stage

WATCHED = {"agentd.watch": "true"}


async def _running(stage: Stage) -> None:
    await stage.row(lambda row: row.draft.to_phase is Phase.RUNNING)


async def test_a_decision_that_raises_is_a_defect_row_and_the_program_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def faulty(session, observation, *, now, rules):  # type: ignore[no-untyped-def]
        if isinstance(observation, ConnectionChanged):
            raise ZeroDivisionError("one\ntwo")
        return decide(session, observation, now=now, rules=rules)

    monkeypatch.setattr("controller.loops.react.decide", faulty)
    engine = FakeEngine(ManualClock())
    engine.add("web", labels=WATCHED)
    async with on_stage(tmp_path, engine) as stage:
        await _running(stage)
        before = await stage.session("web")
        answer = await stage.requests.verb(before.id, ConnectionChanged(connected=True, observed_at=stage.clock.now()))
        assert not answer.accepted
        row = await stage.row(lambda row: row.draft.reason is Reason.DEFECT)
        assert "ZeroDivisionError: one two" in row.draft.message
        assert await stage.session("web") == before
        assert [seen.kind for _, seen in await stage.ledger.observations(before.id)][-1] == "connection"
        assert "1, the last" in stage.condition.readiness().checks["defects"]
        assert (await stage.create("job")).accepted


async def test_a_request_is_answered_after_the_commit_and_nothing_is_sent_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    engine = FakeEngine(ManualClock())
    real = SqliteLedger.commit

    async def commit(self: SqliteLedger, batch: Batch) -> list[JournalRow]:
        sent = len(engine.sent)
        rows = await real(self, batch)
        if batch.actions:
            order.append("committed")
            assert len(engine.sent) == sent
        return list(rows)

    monkeypatch.setattr(SqliteLedger, "commit", commit)
    async with on_stage(tmp_path, engine) as stage:
        answer = await stage.create("job")
        order.append("answered")
        assert (answer.accepted, answer.session_id) == (True, "id-of-job")
        assert order == ["committed", "answered"]
        assert (await stage.session("job")).open_actions


async def test_every_attempt_of_a_crash_loop_that_was_told_at_one_blow_is_kept(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    container = engine.add("web", labels=WATCHED)
    async with on_stage(tmp_path, engine) as stage:
        await _running(stage)
        began = stage.clock.now()
        for turn in range(7):
            engine.emit(EventAction.DIE, container, at=after(began, 2 * turn + 1), exit_code=3)
            engine.emit(EventAction.START, container, at=after(began, 2 * turn + 2))
        await stage.row(lambda row: row.draft.attempt == 8 and row.draft.to_phase is Phase.RUNNING)
        session = await stage.session("web")
        attempts = await stage.ledger.attempts(session.id)
        assert [attempt.number for attempt in attempts] == list(range(1, 9))
        assert [attempt.ended_at is None for attempt in attempts] == [False] * 7 + [True]
        assert [attempt.exit.exit_code for attempt in attempts if attempt.exit is not None] == [3] * 7


async def test_a_request_for_nobody_is_refused(tmp_path: Path) -> None:
    async with on_stage(tmp_path, FakeEngine(ManualClock())) as stage:
        await stage.create("job")
        session = await stage.session("job")
        answer = await stage.requests.verb(
            type(session.id)("nobody"), ConnectionChanged(connected=True, observed_at=stage.clock.now())
        )
        assert (answer.accepted, answer.message) == (False, "no such session")


async def test_a_full_disk_is_waited_out_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine(ManualClock())
    container = engine.add("web", labels=WATCHED)
    disk = FullDisk(monkeypatch)
    async with on_stage(tmp_path, engine) as stage:
        await _running(stage)
        disk.is_full = True
        engine.exit(container, 3)
        await stage.clock.advance(5)
        assert "full" in stage.condition.readiness().checks["ledger"]
        assert (await stage.session("web")).phase is Phase.RUNNING
        disk.is_full = False
        await stage.clock.advance(20)
        await stage.row(lambda row: row.draft.to_phase is Phase.FAILED)
        await stage.until(lambda: stage.condition.readiness().checks["ledger"] == "ok")


async def test_a_ledger_that_fails_ends_the_program_with_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine(ManualClock())
    async with on_stage(tmp_path, engine) as stage:

        async def commit(_self: SqliteLedger, _batch: Batch) -> object:
            raise LedgerError("ledger x: broken")

        monkeypatch.setattr(SqliteLedger, "commit", commit)
        answer = await stage.create("job")
        assert not answer.accepted
        await stage.ended.wait()
        assert stage.exit_code == 1
        assert stage.log.of("the controller gives up") == [{"why": "ledger x: broken"}]


async def test_a_deadline_wakes_its_session(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    engine.add("web", labels=WATCHED | {"agentd.restart": "on-failure"})
    async with on_stage(tmp_path, engine) as stage:
        await _running(stage)
        engine.exit(next(iter(engine.containers)), 3)
        await stage.row(lambda row: row.draft.to_phase is Phase.BACKOFF, step_s=0.5)
        assert engine.sent == []
        await stage.until(lambda: engine.sent == ["start web"], step_s=1)
        assert (await stage.verb("web", Verb.STOP)).accepted
