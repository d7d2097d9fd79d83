"""The order of things after a break: first the replay, then what the ledger knows, then what is new."""

from dataclasses import replace
from pathlib import Path

from controller.errors import EngineUnavailable
from controller.model.container import ContainerState, EventAction
from controller.model.phase import Phase
from controller.model.reason import Reason, Source
from tests.support.fake_engine import FakeEngine
from tests.support.manual_clock import ManualClock
from tests.support.stage import Stage, on_stage

WATCHED = {"agentd.watch": "true"}
COMPOSE = WATCHED | {
    "com.docker.compose.project": "shop",
    "com.docker.compose.service": "web",
    "com.docker.compose.container-number": "1",
}


async def _is(stage: Stage, name: str, phase: Phase) -> None:
    await stage.row(lambda row: row.draft.session == name and row.draft.to_phase is phase)


async def _broken_off(stage: Stage, engine: FakeEngine) -> None:
    engine.cut()
    await stage.until(lambda: engine.open_streams_count == 0)


async def test_no_look_overtakes_the_replay(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    container = engine.add("web", labels=WATCHED)
    async with on_stage(tmp_path, engine) as stage:
        await _is(stage, "web", Phase.RUNNING)
        engine.failing["inspect"] = EngineUnavailable("no answer")
        engine.emit(EventAction.RESTART, container)  # Asks for a look, which is owed when the stream breaks.
        await stage.settle()
        engine.failing["events"] = EngineUnavailable("no answer either")
        await _broken_off(stage, engine)
        engine.emit(EventAction.KILL, container, signal=15)
        engine.exit(container, 0)
        engine.emit(EventAction.STOP, container)
        del engine.failing["inspect"]
        await stage.clock.advance(3)
        await stage.settle()
        engine.failing.clear()
        row = await stage.row(lambda row: row.draft.to_phase is Phase.STOPPED, step_s=0.25)
        assert (row.draft.reason, row.draft.source) == (Reason.STOPPED_EXTERNALLY, Source.REPLAY)


async def test_what_was_recreated_in_a_gap_is_a_new_attempt_of_its_session(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    old = engine.add("shop-web-1", labels=COMPOSE)
    async with on_stage(tmp_path, engine) as stage:
        await _is(stage, "shop-web-1", Phase.RUNNING)
        await _broken_off(stage, engine)
        engine.memory.clear()
        del engine.containers[old]
        new = engine.add("shop-web-1-again", labels=COMPOSE)
        await stage.row(lambda row: row.draft.container_id == new and row.draft.to_phase is Phase.RUNNING, step_s=0.25)
        assert (await stage.session("shop-web-1")).attempt_count == 2
        assert {row.draft.session for row in await stage.rows() if row.draft.session} == {"shop-web-1"}


async def test_a_start_that_failed_in_a_break_is_found_though_no_event_and_no_list_tells(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    other = engine.add("other", labels=WATCHED)
    container = engine.add("web", labels=WATCHED, state=ContainerState.CREATED)
    async with on_stage(tmp_path, engine) as stage:
        await _is(stage, "web", Phase.PENDING)
        await stage.clock.advance(40)
        engine.pause(other)
        await _is(stage, "other", Phase.PAUSED)
        await _broken_off(stage, engine)
        engine.containers[container] = replace(engine.containers[container], error="no such command", exit_code=127)
        row = await stage.row(lambda row: row.draft.reason is Reason.START_FAILED, step_s=0.25)
        assert row.draft.session == "web"
