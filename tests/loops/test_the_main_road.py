"""From an event, a list or a request to a committed row, and from there to the engine."""

from pathlib import Path

import pytest

from controller.model.container import ContainerState, EventAction
from controller.model.observation import Verb
from controller.model.phase import Phase
from controller.model.reason import Reason, Source
from tests.support.fake_engine import FakeEngine
from tests.support.manual_clock import ManualClock
from tests.support.stage import on_stage

WATCHED = {"agentd.watch": "true"}
SERVICE = WATCHED | {"com.docker.compose.project": "shop", "com.docker.compose.service": "web"}


async def test_an_external_container_is_found_by_the_first_sweep(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    engine.add("web", labels=WATCHED)
    async with on_stage(tmp_path, engine) as stage:
        row = await stage.row(lambda row: row.draft.to_phase is Phase.RUNNING)
        assert row.draft.session == "web"


async def test_a_die_becomes_a_row_with_the_source_event_and_the_look_keeps_the_last_lines(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    container = engine.add("web", labels=WATCHED)
    async with on_stage(tmp_path, engine) as stage:
        await stage.row(lambda row: row.draft.to_phase is Phase.RUNNING)
        engine.exit(container, 3)
        row = await stage.row(lambda row: row.draft.to_phase is Phase.FAILED)
        assert (row.draft.reason, row.draft.source) == (Reason.ERROR_EXIT, Source.EVENT)
        assert row.draft.exit is not None
        assert row.draft.exit.exit_code == 3
        session = await stage.session("web")
        await stage.until(lambda: "tail" in engine.asked)
        await stage.settle()
        evidence = await stage.ledger.evidence(session.id)
        assert evidence is not None
        assert evidence.tail.lines == ("last words",)


async def test_a_session_on_request_is_created_started_stopped_and_removed(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    async with on_stage(tmp_path, engine) as stage:
        assert (await stage.create("job")).accepted
        await stage.row(lambda row: row.draft.to_phase is Phase.RUNNING)
        assert (await stage.verb("job", Verb.STOP)).accepted
        stopped = await stage.row(lambda row: row.draft.to_phase is Phase.STOPPED)
        assert stopped.draft.reason is Reason.STOPPED_BY_REQUEST
        assert (await stage.verb("job", Verb.REMOVE)).accepted
        await stage.row(lambda row: row.draft.action == "remove done")
        assert engine.sent == ["create agentd-job", "start agentd-job", "stop agentd-job 10", "remove agentd-job"]
        assert engine.plans[0].env["OPENAI_API_KEY"] == "sk-1"
        assert not engine.containers


async def test_a_container_that_is_born_and_dies_before_it_was_looked_at_keeps_its_exit(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    async with on_stage(tmp_path, engine) as stage:
        container = engine.add("quick", labels=WATCHED, state=ContainerState.CREATED)
        engine.emit(EventAction.CREATE, container)
        engine.run(container)
        engine.exit(container, 7)
        row = await stage.row(lambda row: row.draft.to_phase is Phase.FAILED)
        assert row.draft.exit is not None
        assert row.draft.exit.exit_code == 7


async def test_a_recreated_compose_service_is_a_new_attempt_of_its_session_whatever_is_seen_first(
    tmp_path: Path,
) -> None:
    engine = FakeEngine(ManualClock())
    first = engine.add("shop-web-1", labels=SERVICE)
    async with on_stage(tmp_path, engine) as stage:
        await stage.row(lambda row: row.draft.to_phase is Phase.RUNNING)
        engine.destroy(first, told=False)
        await stage.clock.advance(1)
        second = engine.add("shop-web-1", labels=SERVICE)
        engine.emit(EventAction.START, second)
        await stage.row(lambda row: row.draft.container_id == second, step_s=0.5)
        await stage.clock.advance(100)
        await stage.settle()
        [session] = await stage.ledger.sessions(include_removed=True)
        assert (session.attempt_count, session.container_id, session.phase) == (2, second, Phase.RUNNING)


@pytest.mark.parametrize(("watch", "may_act"), [("true", True), ("another", False)])
async def test_a_second_live_container_under_one_key_gets_a_session_of_its_own(
    tmp_path: Path, watch: str, *, may_act: bool
) -> None:
    engine = FakeEngine(ManualClock())
    first = engine.add("shop-web-1", labels=SERVICE)
    async with on_stage(tmp_path, engine) as stage:
        await stage.row(lambda row: row.draft.to_phase is Phase.RUNNING)
        second = engine.add("shop-web-1b", labels=SERVICE | {"agentd.watch": watch})
        engine.emit(EventAction.START, second)
        await stage.row(lambda row: row.draft.container_id == second, step_s=0.5)
        await stage.clock.advance(100)
        await stage.settle()
        sessions = await stage.ledger.sessions()
        assert [session.container_id for session in sessions] == [first, second]
        assert sessions[1].name.startswith("shop-web-1-")
        assert sessions[1].may_act is may_act
        rows = [row.draft.reason for row in await stage.rows() if row.draft.session == sessions[1].name]
        assert rows[0] is Reason.DUPLICATE
