"""A sweep believes little, changes nothing by itself, and says what it is going to do."""

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import anyio
import pytest

from controller.errors import EngineUnavailable, Overloaded
from controller.interfaces import SweepReport
from controller.loops.sweep import ORDERS_MAX
from controller.model.container import ContainerState
from controller.model.instant import after
from controller.model.phase import Phase
from controller.model.reason import Reason
from tests.support.fake_engine import FakeEngine
from tests.support.manual_clock import ManualClock
from tests.support.stage import Stage, on_stage, plain_settings

WATCHED = {"agentd.watch": "true"}
OURS = {"agentd.prefix": "agentd"}


async def _running(stage: Stage, *names: str) -> None:
    for name in names:
        await stage.row(lambda row, name=name: row.draft.session == name and row.draft.to_phase is Phase.RUNNING)  # type: ignore[misc]


async def test_a_list_that_cannot_be_had_changes_nothing(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    engine.add("web", labels=WATCHED)
    async with on_stage(tmp_path, engine) as stage:
        await _running(stage, "web")
        before = len(await stage.rows())
        engine.failing["list_external"] = EngineUnavailable("500")
        await stage.clock.advance(130)
        await stage.settle()
        assert len(await stage.rows()) == before
        assert not stage.condition.readiness().reachable
        await stage.clock.advance(130)
        assert "owed" in stage.condition.readiness().checks["sweep"]
        engine.failing.clear()
        await stage.until(lambda: stage.condition.readiness().ready, step_s=1)


async def test_a_mass_absence_is_believed_only_after_three_looks_over_thirty_seconds(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    containers = [engine.add(f"web-{n}", labels=WATCHED) for n in range(5)]
    async with on_stage(tmp_path, engine) as stage:
        await _running(stage, *(f"web-{n}" for n in range(5)))
        hidden = {container: engine.containers.pop(container) for container in containers}
        await stage.clock.advance(75)
        assert (await stage.session("web-0")).phase is Phase.RUNNING
        engine.containers.update(hidden)
        await stage.clock.advance(60)
        await stage.settle()
        assert (await stage.session("web-0")).phase is Phase.RUNNING
        for container in containers:
            del engine.containers[container]
        await stage.clock.advance(180)
        await stage.row(lambda row: row.draft.session == "web-0" and row.draft.to_phase is Phase.FAILED)


async def test_one_that_is_missing_is_looked_at_and_then_believed(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    container = engine.add("web", labels=WATCHED)
    async with on_stage(tmp_path, engine) as stage:
        await _running(stage, "web")
        del engine.containers[container]
        await stage.row(lambda row: row.draft.to_phase is Phase.FAILED, step_s=5)
        assert (await stage.session("web")).removed_at is not None


async def test_a_sweep_without_drift_asks_for_two_lists_and_no_inspect(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    engine.add("web", labels=WATCHED)
    async with on_stage(tmp_path, engine) as stage:
        await _running(stage, "web")
        await stage.clock.advance(70)
        engine.asked.clear()
        report = await stage.requests.sweep(dry_run=False)
        assert sorted(engine.asked) == ["list_external", "list_ours"]
        assert (report.sessions_count, report.containers_count, report.lines) == (1, 1, ())


async def test_an_orphan_is_removed_with_its_evidence_first_and_a_young_one_is_spared(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    old = after(engine.clock.now(), -1000)
    engine.add(
        "agentd-old", labels=OURS | {"agentd.session": "old"}, state=ContainerState.EXITED, exit_code=3, created_at=old
    )
    engine.add("agentd-young", labels={"agentd.prefix": "agentd"})
    async with on_stage(tmp_path, engine) as stage:
        await stage.until(lambda: engine.sent == ["remove agentd-old"])
        await stage.row(lambda row: row.draft.action == "remove done")
        session = await stage.session("old")
        evidence = await stage.ledger.evidence(session.id)
        assert evidence is not None
        assert evidence.tail.lines == ("last words",)
        assert [snapshot.facts.name for snapshot in engine.containers.values()] == ["agentd-young"]


async def test_a_dry_run_prints_the_plan_and_removes_nothing(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    settings = plain_settings(orphan_policy="report")
    old = after(engine.clock.now(), -1000)
    engine.add("agentd-old", labels={"agentd.prefix": "agentd"}, created_at=old)
    engine.add("other", labels={"agentd.prefix": "agentd", "agentd.controller": "somebody"}, created_at=old)
    async with on_stage(tmp_path, engine, settings=settings) as stage:
        plan = await stage.requests.sweep(dry_run=True)
        assert [(line.name, line.finding, line.action) for line in plan.lines] == [
            ("agentd-old", "orphan", "report"),
            ("other", "foreign", "none"),
        ]
        applied = await stage.requests.sweep(dry_run=True, remove_orphans=True)
        assert applied.lines[0].action == "remove"
        await stage.clock.advance(200)
        assert engine.sent == []
        await stage.requests.sweep(dry_run=False, remove_orphans=True)
        await stage.until(lambda: "remove agentd-old" in engine.sent, step_s=0.5)
        assert len(engine.containers) == 1


async def test_an_orphan_that_cannot_be_asked_is_spared_and_hides_no_other(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    old = after(engine.clock.now(), -1000)
    stuck = engine.add("agentd-stuck", labels={"agentd.prefix": "agentd"}, created_at=old)
    engine.wedged[stuck] = None
    async with on_stage(tmp_path, engine, settings=plain_settings(orphan_policy="report")) as stage:
        engine.add("agentd-old", labels={"agentd.prefix": "agentd"}, created_at=old)
        plan = partial(stage.requests.sweep, dry_run=True)
        removal = partial(stage.requests.sweep, dry_run=False, remove_orphans=True)
        for ask in (plan, removal):
            report = await _while_time_passes(stage, ask)
            said = {line.name: (line.finding, line.reason) for line in report.lines}
            assert said["agentd-stuck"] == ("spared", "it could not be asked: no answer within 5 s")
            assert said["agentd-old"][0] == "orphan"
            assert stage.condition.readiness().ready
        await stage.until(lambda: "remove agentd-old" in engine.sent, step_s=0.5)
        assert stuck in engine.containers


async def test_a_plan_that_the_engine_itself_does_not_answer_for_is_refused(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    old = after(engine.clock.now(), -1000)
    engine.add("agentd-old", labels={"agentd.prefix": "agentd"}, created_at=old)
    async with on_stage(tmp_path, engine, settings=plain_settings(orphan_policy="report")) as stage:
        engine.failing["inspect"] = EngineUnavailable("connection refused", request_sent=False)
        with pytest.raises(EngineUnavailable):
            await stage.requests.sweep(dry_run=True)


async def _while_time_passes(stage: Stage, ask: Callable[[], Awaitable[SweepReport]]) -> SweepReport:
    reports: list[SweepReport] = []

    async def note() -> None:
        reports.append(await ask())

    async with anyio.create_task_group() as group:
        group.start_soon(note)
        await stage.until(lambda: bool(reports), step_s=1)
    return reports[0]


async def test_adopting_takes_over_a_foreign_container(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    container = engine.add("agentd-job", labels=OURS | {"agentd.controller": "somebody", "agentd.session": "job"})
    async with on_stage(tmp_path, engine) as stage:
        assert not (await stage.requests.adopt("nothing", actor="user:test")).accepted
        answer = await stage.requests.adopt(container[:12], actor="user:test")
        assert answer.accepted
        row = await stage.row(lambda row: row.draft.reason is Reason.ADOPTED)
        assert (row.draft.session, row.draft.actor) == ("job", "user:test")
        assert not (await stage.requests.adopt("agentd-job", actor="user:test")).accepted


async def test_a_container_whose_create_has_not_answered_yet_cannot_be_adopted(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    engine.hanging["create"] = None
    async with on_stage(tmp_path, engine) as stage:
        await stage.create("job")
        await stage.until(lambda: "create" in engine.asked)
        engine.add("agentd-job", labels=OURS | {"agentd.session": "job"})
        answer = await stage.requests.adopt("agentd-job", actor="user:test")
        assert not answer.accepted
        assert "being created" in answer.message
        assert [session.name for session in await stage.ledger.sessions()] == ["job"]
        engine.hanging.clear()


async def test_who_gives_up_waiting_for_a_sweep_takes_nobodys_place(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    engine.add("web", labels=WATCHED)
    async with on_stage(tmp_path, engine) as stage:
        await _running(stage, "web")
        engine.hanging["list_external"] = None
        async with anyio.create_task_group() as group:
            group.start_soon(partial(stage.requests.sweep, dry_run=True))
            await stage.settle()
            for _ in range(ORDERS_MAX):
                group.start_soon(partial(stage.requests.sweep, dry_run=True))
            await stage.settle()
            with pytest.raises(Overloaded):
                await stage.requests.sweep(dry_run=True)
            group.cancel_scope.cancel()
        engine.hanging.clear()
        async with anyio.create_task_group() as group:
            group.start_soon(partial(stage.requests.sweep, dry_run=True))
            await stage.clock.advance(60)
