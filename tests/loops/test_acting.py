"""An action is sent after its commit, once, and only at the target that it was decided for."""

from dataclasses import replace
from pathlib import Path

import pytest

from controller.errors import EngineRefused, EngineUnavailable
from controller.model.container import ContainerState, Snapshot
from controller.model.ids import ContainerId
from controller.model.observation import Verb
from controller.model.phase import Phase
from controller.model.reason import Reason
from tests.support.fake_engine import FakeEngine
from tests.support.manual_clock import ManualClock
from tests.support.stage import Stage, on_stage, plain_settings

NO_ANSWER = EngineUnavailable("no answer")


async def _running(stage: Stage, name: str) -> None:
    await stage.row(lambda row: row.draft.session == name and row.draft.to_phase is Phase.RUNNING, step_s=0.25)


async def _made_without_an_answer(stage: Stage, engine: FakeEngine) -> tuple[ContainerId, Snapshot]:
    engine.unsure["create"] = NO_ANSWER
    await stage.create("job")
    await stage.until(lambda: engine.containers != {})
    [(container, made)] = engine.containers.items()
    return container, made


async def test_a_start_without_an_answer_is_looked_at_and_not_sent_again(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    async with on_stage(tmp_path, engine) as stage:
        engine.unsure["start"] = NO_ANSWER
        await stage.create("job")
        await _running(stage, "job")
        await stage.row(lambda row: row.draft.action == "start done", step_s=0.25)
        assert engine.sent == ["create agentd-job", "start agentd-job"]


async def test_a_one_second_job_runs_once_although_nobody_heard_that_it_was_started(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    async with on_stage(tmp_path, engine) as stage:
        engine.unsure["start"] = NO_ANSWER
        await stage.create("job")
        await stage.until(lambda: "start agentd-job" in engine.sent)
        engine.exit(next(iter(engine.containers)), 0)
        await stage.row(lambda row: row.draft.to_phase is Phase.STOPPED, step_s=0.25)
        await stage.row(lambda row: row.draft.action.startswith("start"), step_s=0.25)
        await stage.clock.advance(200)
        await stage.settle()
        assert engine.sent.count("start agentd-job") == 1


async def test_a_create_without_an_answer_takes_the_container_that_it_made(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    async with on_stage(tmp_path, engine) as stage:
        engine.unsure["create"] = NO_ANSWER
        await stage.create("job")
        await _running(stage, "job")
        assert engine.sent.count("create agentd-job") == 1
        assert len(engine.containers) == 1


async def test_a_create_without_an_answer_takes_the_container_that_it_made_under_another_name(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    async with on_stage(tmp_path, engine) as stage:
        container, made = await _made_without_an_answer(stage, engine)
        engine.containers[container] = replace(made, facts=replace(made.facts, name="renamed"))
        await _running(stage, "job")
        assert list(engine.containers) == [container]


async def test_a_create_without_an_answer_takes_no_copy_of_an_earlier_container_of_its_session(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    async with on_stage(tmp_path, engine, settings=plain_settings(keep_stopped_s="0")) as stage:
        await stage.create("job")
        await _running(stage, "job")
        [first] = engine.containers
        copy = engine.add("nifty_hopper", labels=engine.containers[first].facts.labels)
        engine.exit(first, 0)
        await stage.row(lambda row: row.draft.reason is Reason.CONTAINER_PRUNED, step_s=0.25)
        engine.failing["create"] = NO_ANSWER
        await stage.verb("job", Verb.START)
        await stage.until(lambda: engine.asked.count("create") > 2, step_s=0.25)
        engine.failing.clear()
        await stage.row(lambda row: row.draft.to_phase is Phase.RUNNING and row.draft.attempt == 2, step_s=0.25)
        await stage.clock.advance(1000)
        await stage.settle()
        assert (await stage.session("job")).container_id not in (first, copy)
        assert not [said for said in engine.sent if "nifty_hopper" in said]


async def test_a_create_without_an_answer_takes_no_copy_of_what_it_had_made(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    async with on_stage(tmp_path, engine) as stage:
        container, made = await _made_without_an_answer(stage, engine)
        copied = replace(made.facts, name="nifty_hopper", image="sha256:committed")
        engine.containers[container] = replace(made, facts=copied)
        await _running(stage, "job")
        assert (await stage.session("job")).container_id != container
        assert not [said for said in engine.sent if "nifty_hopper" in said]


async def test_a_create_is_refused_when_somebody_else_has_the_name(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    engine.add("agentd-job", labels={})
    async with on_stage(tmp_path, engine) as stage:
        await stage.create("job")
        row = await stage.row(lambda row: row.draft.to_phase is Phase.FAILED)
        assert row.draft.reason is Reason.START_FAILED
        assert "agentd-job" in row.draft.message
        assert engine.sent == []


async def test_an_engine_that_says_no_fails_the_session_with_its_words_on_one_line(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    async with on_stage(tmp_path, engine) as stage:
        engine.failing["create"] = EngineRefused("no such image:\nbusybox")
        await stage.create("job")
        row = await stage.row(lambda row: row.draft.to_phase is Phase.FAILED)
        assert "no such image: busybox" in row.draft.message


async def test_a_stop_is_not_sent_to_a_run_that_it_was_not_decided_for(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    async with on_stage(tmp_path, engine) as stage:
        await stage.create("job")
        await _running(stage, "job")
        [container] = engine.containers
        engine.failing["inspect"] = NO_ANSWER
        await stage.verb("job", Verb.STOP)
        await stage.clock.advance(1)
        engine.exit(container, 0, told=False)
        await stage.clock.advance(1)
        engine.run(container)
        engine.failing.clear()
        row = await stage.row(lambda row: row.draft.action.startswith("stop"), step_s=0.5)
        assert row.draft.action == "stop superseded"
        assert "stop agentd-job 10" not in engine.sent


async def test_an_action_without_a_certain_answer_is_dropped_when_its_time_is_up(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    async with on_stage(tmp_path, engine) as stage:
        await stage.create("job", start=False)
        await stage.row(lambda row: row.draft.action == "create done")
        engine.hanging["start"] = None
        await stage.verb("job", Verb.START)
        await stage.row(lambda row: row.draft.action == "start dropped", step_s=5)


async def test_a_removal_that_one_container_does_not_allow_makes_no_engine_unreachable(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    async with on_stage(tmp_path, engine) as stage:
        await stage.create("job", start=False)
        await stage.row(lambda row: row.draft.action == "create done")
        engine.failing["remove"] = EngineUnavailable("remove: device or resource busy (HTTP 500)")
        await stage.verb("job", Verb.REMOVE)
        await stage.until(lambda: engine.asked.count("remove") > 3, step_s=0.5)
        assert stage.condition.readiness().ready
        engine.failing.clear()
        await stage.row(lambda row: row.draft.action == "remove done", step_s=0.5)


async def test_actions_that_a_crash_left_open_are_looked_at_first(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    async with on_stage(tmp_path, engine) as stage:
        await stage.create("job", start=False)
        await stage.row(lambda row: row.draft.action == "create done")
        engine.hanging["start"] = None
        await stage.verb("job", Verb.START)
        await stage.until(lambda: "start" in engine.asked)
    engine.hanging.clear()
    [container] = engine.containers
    engine.run(container)
    engine.exit(container, 0)
    async with on_stage(tmp_path, engine) as stage:
        await stage.row(lambda row: row.draft.action == "start done", step_s=0.25)
        await stage.clock.advance(200)
        assert not [said for said in engine.sent if said.startswith("start")]
        assert engine.containers[container].state is ContainerState.EXITED


@pytest.mark.parametrize("was_sent", [False, True])
async def test_what_was_certainly_never_started_is_made_anew_when_its_container_is_gone(
    tmp_path: Path, *, was_sent: bool
) -> None:
    engine = FakeEngine(ManualClock())
    async with on_stage(tmp_path, engine) as stage:
        await stage.create("job")
        await _running(stage, "job")
        [container] = engine.containers
        engine.exit(container, 0)
        await stage.row(lambda row: row.draft.to_phase is Phase.STOPPED, step_s=0.25)
        engine.failing["start"] = EngineUnavailable("not reached", request_sent=was_sent)
        await stage.verb("job", Verb.START)
        await stage.until(lambda: engine.asked.count("start") > 1, step_s=0.05)
        del engine.containers[container]
        engine.failing.clear()
        if was_sent:
            await stage.row(lambda row: row.draft.reason is Reason.LOST, step_s=0.25)
            assert engine.sent.count("create agentd-job") == 1
        else:
            await stage.until(lambda: engine.sent.count("start agentd-job") == 2, step_s=0.25)
            assert engine.sent.count("create agentd-job") == 2


async def test_a_removal_that_was_given_up_and_comes_late_takes_the_container_and_not_the_session(
    tmp_path: Path,
) -> None:
    engine = FakeEngine(ManualClock())
    async with on_stage(tmp_path, engine, settings=plain_settings(keep_stopped_s="20")) as stage:
        await stage.create("job")
        await _running(stage, "job")
        [container] = engine.containers
        engine.exit(container, 0)
        engine.hanging["remove"] = None
        await stage.until(lambda: "remove" in engine.asked, step_s=0.25)
        engine.run(container)
        engine.hanging.clear()
        await stage.row(lambda row: row.draft.action == "remove superseded", step_s=1)
        engine.exit(container, 0)
        await stage.row(lambda row: row.draft.to_phase is Phase.STOPPED and row.draft.attempt == 2, step_s=0.25)
        engine.destroy(container)
        row = await stage.row(lambda row: row.draft.reason is Reason.CONTAINER_PRUNED, step_s=0.25)
        assert row.draft.actor == "controller"
        assert (await stage.session("job")).removed_at is None


async def test_a_session_keeps_its_token_and_its_address_for_its_agents(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    settings = plain_settings(agent_url="ws://controller:7006")
    async with on_stage(tmp_path, engine, settings=settings) as stage:
        await stage.create("job")
        await stage.until(lambda: bool(engine.plans))
        env = engine.plans[0].env
        assert env["AGENTD_WS_URL"] == "ws://controller:7006/ws/job"
        assert env["AGENTD_SESSION"] == "job"
        assert len(env["AGENTD_SESSION_TOKEN"]) == 64
        assert engine.plans[0].labels["agentd.session"] == "job"


async def test_the_same_name_with_the_same_spec_is_done_and_with_another_refused(tmp_path: Path) -> None:
    from controller.model.spec import SessionSpec

    engine = FakeEngine(ManualClock())
    async with on_stage(tmp_path, engine) as stage:
        assert (await stage.create("job")).accepted
        assert (await stage.create("job")).accepted
        assert not (await stage.create("job", spec=SessionSpec(image="other"))).accepted
        await _running(stage, "job")
        assert engine.sent == ["create agentd-job", "start agentd-job"]


async def test_a_controller_that_only_observes_sends_nothing_that_an_earlier_life_decided(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    async with on_stage(tmp_path, engine) as stage:
        await stage.create("job")
        await stage.row(lambda row: row.draft.to_phase is Phase.RUNNING)
        engine.hanging["stop"] = None
        await stage.verb("job", Verb.STOP)
        await stage.until(lambda: "stop" in engine.asked)
    engine.hanging.clear()
    sent = list(engine.sent)
    async with on_stage(tmp_path, engine, settings=plain_settings(mode="observe")) as stage:
        await stage.row(lambda row: row.draft.action == "stop refused", step_s=0.25)
        assert engine.sent == sent
        [container] = engine.containers.values()
        assert container.state is ContainerState.RUNNING
