"""The orderly end, with and without the sessions; and a life after it."""

from pathlib import Path

from controller.model.container import ContainerState
from controller.model.phase import Phase
from controller.model.reason import Reason
from controller.model.spec import RestartMode, RestartPolicy, SessionSpec
from tests.support.fake_engine import FakeEngine
from tests.support.manual_clock import ManualClock
from tests.support.stage import Stage, on_stage, plain_settings

ALWAYS = SessionSpec(image="busybox", restart=RestartPolicy(mode=RestartMode.ALWAYS))


async def _running(stage: Stage, name: str) -> None:
    await stage.row(lambda row: row.draft.session == name and row.draft.to_phase is Phase.RUNNING)


async def test_leaving_them_running_sends_nothing_and_marks_nothing(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    settings = plain_settings(shutdown_leave_running="true")
    async with on_stage(tmp_path, engine, settings=settings) as stage:
        await stage.create("job")
        await _running(stage, "job")
        sent = list(engine.sent)
        stage.shutdown.set()
        await stage.ended.wait()
        assert stage.exit_code == 0
        assert engine.sent == sent
        assert (await stage.session("job")).phase is Phase.RUNNING
        assert (await stage.ledger.meta()).published == stage.feed.committed()
    async with on_stage(tmp_path, engine, settings=settings) as stage:
        assert (await stage.session("job")).phase is Phase.RUNNING
        assert (await stage.session("job")).attempt_count == 1
        assert engine.sent == sent
        assert await stage.gaps() == []


async def test_sessions_of_ours_are_stopped_and_external_ones_are_not(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    external = engine.add("web", labels={"agentd.watch": "true"})
    async with on_stage(tmp_path, engine) as stage:
        for name in ("a", "b"):
            await stage.create(name, spec=ALWAYS)
            await _running(stage, name)
        await _running(stage, "web")
        stage.shutdown.set()
        await stage.until(stage.ended.is_set, step_s=0.1)
        assert stage.exit_code == 0
        assert engine.sent[-2:] == ["stop agentd-a 10", "stop agentd-b 10"]
        assert engine.containers[external].state is ContainerState.RUNNING
        session = await stage.session("a")
        assert (session.phase, session.reason) == (Phase.STOPPED, Reason.CONTROLLER_SHUTDOWN)
    async with on_stage(tmp_path, engine) as stage:
        await stage.until(lambda: engine.sent[-2:] == ["start agentd-a", "start agentd-b"], step_s=0.1)


async def test_a_stop_that_hangs_does_not_outlast_the_time_out(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    async with on_stage(tmp_path, engine) as stage:
        await stage.create("job")
        await _running(stage, "job")
        engine.hanging["stop"] = None
        began_at = stage.clock.now()
        stage.shutdown.set()
        await stage.until(stage.ended.is_set, step_s=0.5)
        assert stage.exit_code == 0
        assert (stage.clock.now() - began_at) / 1e9 <= 30
        assert (await stage.session("job")).open_actions


async def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    async with on_stage(tmp_path, engine) as stage:
        await stage.create("job")
        await _running(stage, "job")
        engine.hanging["stop"] = None
        stage.shutdown.set()
        await stage.settle()
        stage.hurry.set()
        await stage.until(stage.ended.is_set)
        assert stage.exit_code == 0


async def test_a_request_at_the_end_is_refused(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    async with on_stage(tmp_path, engine) as stage:
        stage.shutdown.set()
        await stage.ended.wait()
        assert not (await stage.create("job")).accepted


async def test_a_back_off_that_ends_while_others_are_stopped_starts_nothing(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    async with on_stage(tmp_path, engine) as stage:
        for name in ("crashes", "hangs"):
            await stage.create(name, spec=ALWAYS)
            await _running(stage, name)
        engine.exit(next(one for one, shown in engine.containers.items() if shown.facts.name == "agentd-crashes"), 3)
        await stage.row(lambda row: row.draft.to_phase is Phase.BACKOFF)
        engine.hanging["stop"] = None
        sent = list(engine.sent)
        stage.shutdown.set()
        await stage.until(stage.ended.is_set, step_s=0.5)
        assert [said for said in engine.sent[len(sent) :] if said.startswith("start")] == []
        assert (await stage.session("crashes")).phase is Phase.BACKOFF
