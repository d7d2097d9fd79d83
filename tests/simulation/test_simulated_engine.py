"""The simulated engine behaves as the engines do; `tests/contract` proves the common part against a real one."""

import itertools
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import anyio
import pytest

from controller.errors import ContainerGone, EngineConflict, EngineError, EngineRefused, EngineUnavailable
from controller.interfaces import ContainerPlan
from controller.model.container import ContainerState, EngineEvent, EngineRestart
from controller.model.ids import ContainerId
from controller.model.instant import Instant, after
from controller.model.phase import Health
from controller.model.spec import NetworkPolicy
from tests.simulation.containers import Probe, Program
from tests.simulation.daemon import START_ERRORS, Daemon, Traits
from tests.simulation.engine import SimulatedEngine, travel
from tests.simulation.exchange import Wire
from tests.simulation.faults import Fault, FaultMenu
from tests.simulation.loop import SimulatedLoop, live
from tests.simulation.outage import freeze_daemon, kill_daemon, start_daemon, stop_daemon, thaw_daemon
from tests.simulation.stream import RING_SIZE
from tests.simulation.timeline import Timeline


class World:
    """One daemon, one client, no controller."""

    def __init__(self, **traits: Any) -> None:
        self.timeline = Timeline()
        self.daemon = Daemon(timeline=self.timeline, rng=random.Random(1), traits=Traits(**traits))
        self.menu = FaultMenu(rng=random.Random(2))
        self.wire = Wire(daemon=self.daemon, rng=random.Random(3), menu=self.menu)
        self.engine = SimulatedEngine(self.wire)
        self.daemon.events.deliver = travel(self.wire)
        self.heard: list[EngineEvent] = []

    def play(self, script: Callable[[], Coroutine[Any, Any, None]]) -> None:
        assert not live(SimulatedLoop(self.timeline, seed="1"), script)

    async def listen(self, seconds: float, *, since: Instant | None = None) -> list[str]:
        """The actions heard in that time."""
        now = self.daemon.clock()
        heard: list[str] = []
        async with self.engine.events(since=now if since is None else since, until=after(now, seconds)) as events:
            async for event in events:
                assert isinstance(event, EngineEvent)
                self.heard.append(event)
                heard.append(event.action.value)
        return heard

    async def hear(self, act: Callable[[], Awaitable[None] | None], *, seconds: float = 30.0) -> list[str]:
        """The actions that follow an act."""
        heard: list[str] = []

        async def listen() -> None:
            heard.extend(await self.listen(seconds))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            await anyio.sleep(0.5)
            done = act()
            if done is not None:
                await done
        return heard

    def run(self, program: Program, *, name: str = "c", **options: Any) -> ContainerId:
        container = self.daemon.create(name=name, command=program.command(), by="outsider", **options)
        self.daemon.start(self.daemon.containers[container], by="outsider")
        return container


def plan(name: str, program: Program) -> ContainerPlan:
    return ContainerPlan(
        name=name,
        image="busybox",
        command=program.command(),
        env={},
        labels={"agentd.prefix": "agentd"},
        memory_bytes=0,
        cpus=1,
        mounts=(),
        workdir=None,
        network_policy=NetworkPolicy.INTERNET,
        stop_grace_s=10,
    )


def test_a_run_is_told_by_start_and_die_and_by_the_inspect() -> None:
    world = World()

    async def script() -> None:
        container = await world.engine.create(plan("agentd-a", Program(runs_s=2, code=3)))
        heard = await world.hear(lambda: world.engine.start(container))
        assert heard == ["start", "die"]
        assert world.heard[-1].exit_code == 3
        seen = await world.engine.inspect(container)
        assert (seen.state, seen.exit_code) == (ContainerState.EXITED, 3)
        assert seen.started_at is not None
        assert seen.started_at <= world.heard[0].at
        (row,) = await world.engine.list_ours("agentd")
        assert (row.state, row.exit_code) == (ContainerState.EXITED, 3)

    world.play(script)


def test_a_start_that_fails_has_no_event() -> None:
    world = World()

    async def script() -> None:
        container = await world.engine.create(plan("agentd-a", Program(start_fails=True)))

        async def start() -> None:
            with pytest.raises(EngineRefused):
                await world.engine.start(container)

        assert await world.hear(start) == []
        seen = await world.engine.inspect(container)
        assert seen.state is ContainerState.CREATED
        assert seen.error in START_ERRORS

    world.play(script)


@pytest.mark.parametrize(
    ("stop_first", "order"), [(0.0, ["kill", "kill", "die", "stop"]), (1.0, ["kill", "kill", "stop", "die"])]
)
def test_a_stop_of_what_ignores_the_signal_ends_in_a_kill(stop_first: float, order: list[str]) -> None:
    world = World(stop_first=stop_first)
    container = world.run(Program(ends_after_term_s=None))

    async def script() -> None:
        assert await world.hear(lambda: world.engine.stop(container, grace_s=5)) == order
        assert (await world.engine.inspect(container)).exit_code == 137

    world.play(script)


def test_removing_by_force_is_kill_die_destroy() -> None:
    world = World()
    container = world.run(Program())

    async def script() -> None:
        with pytest.raises(EngineConflict):
            await world.engine.remove(container)
        heard = await world.hear(lambda: world.daemon.remove(world.daemon.containers[container], force=True))
        assert heard == ["kill", "die", "destroy"]
        with pytest.raises(ContainerGone):
            await world.engine.inspect(container)

    world.play(script)


def test_the_engines_own_restart_policy_waits_longer_each_time_and_counts() -> None:
    world = World()

    async def script() -> None:
        heard = await world.hear(lambda: _run(world, Program(runs_s=1, code=1), restart=EngineRestart.ALWAYS))
        assert heard[:5] == ["create", "start", "die", "start", "die"]
        starts = [event.at for event in world.heard if event.action.value == "start"]
        waits = [(later - earlier) / 1e9 - 1 for earlier, later in itertools.pairwise(starts)]
        assert [round(wait, 1) for wait in waits[:4]] == [0.1, 0.2, 0.4, 0.8]

    world.play(script)


def _run(world: World, program: Program, **options: Any) -> None:
    world.run(program, **options)


def test_a_stop_during_the_engines_back_off_says_only_stop() -> None:
    world = World()
    container = world.run(Program(runs_s=0.01, code=1), restart=EngineRestart.ALWAYS)

    async def script() -> None:
        await anyio.sleep(10)
        while (await world.engine.inspect(container)).state is not ContainerState.RESTARTING:  # noqa: ASYNC110  virtual time
            await anyio.sleep(0.01)
        assert await world.hear(lambda: world.engine.stop(container, grace_s=5)) == ["stop"]

    world.play(script)


def test_a_container_that_removes_itself_leaves_its_die_behind() -> None:
    world = World()

    async def script() -> None:
        heard = await world.hear(lambda: _run(world, Program(runs_s=1, code=3), auto_remove=True))
        assert heard == ["create", "start", "die", "destroy"]

    world.play(script)


def test_labels_overwrite_the_attributes_of_events() -> None:
    world = World()

    async def script() -> None:
        await world.hear(lambda: _run(world, Program(runs_s=1, code=3), labels={"exitCode": "0"}))
        assert world.heard[-1].exit_code == 0

    world.play(script)


def test_health_turns_with_an_event_and_silently_ends_with_the_run() -> None:
    world = World()

    async def script() -> None:
        probe = Probe(interval_s=1, retries=2)
        heard = await world.hear(lambda: _run(world, Program(sick_at_s=5), probe=probe), seconds=10)
        assert heard == ["create", "start", "health_status", "health_status"]
        assert [event.health for event in world.heard[-2:]] == [Health.HEALTHY, Health.UNHEALTHY]
        container = world.heard[0].container
        assert (await world.engine.inspect(container)).health is Health.UNHEALTHY
        assert await world.hear(lambda: world.engine.stop(container, grace_s=1)) in (
            ["kill", "stop", "die"],
            ["kill", "die", "stop"],
        )
        assert (await world.engine.inspect(container)).health is Health.UNKNOWN

    world.play(script)


def test_the_ring_forgets_and_probes_help_it_to() -> None:
    world = World()
    world.run(Program(runs_s=1), name="short")
    world.run(Program(), name="noisy", probe=Probe(interval_s=1))

    async def script() -> None:
        await anyio.sleep(RING_SIZE / 3 + 3)
        assert await world.listen(1, since=Instant(0)) == []

    world.play(script)


def test_a_replay_stops_at_the_first_older_event() -> None:
    world = World()
    world.daemon.create(name="first")
    world.daemon.skew_s = -100
    world.daemon.create(name="out-of-order")
    world.daemon.skew_s = 0
    world.daemon.create(name="last")

    async def script() -> None:
        heard = await world.listen(1, since=after(world.daemon.clock(), -50))
        assert [event.name for event in world.heard] == ["last"]
        assert heard == ["create"]

    world.play(script)


def test_a_killed_daemon_tells_nothing_of_what_ended_without_it() -> None:
    world = World(live_restore=True, status_survives=0.0)
    container = world.run(Program(runs_s=5, code=3))
    world.timeline.at(1, lambda: kill_daemon(world.daemon))
    world.timeline.at(10, lambda: start_daemon(world.daemon))

    async def script() -> None:
        with pytest.raises(EngineUnavailable):
            await world.listen(100)
        with pytest.raises(EngineUnavailable) as refused:
            await world.engine.inspect(container)
        assert not refused.value.request_sent
        await anyio.sleep(15)
        assert await world.listen(1, since=Instant(0)) == []
        assert (await world.engine.inspect(container)).exit_code == 255

    world.play(script)


def test_a_killed_daemon_without_live_restore_stops_the_survivors_before_its_api_answers() -> None:
    world = World()
    world.run(Program())
    world.timeline.at(1, lambda: kill_daemon(world.daemon))
    world.timeline.at(3, lambda: start_daemon(world.daemon))

    async def script() -> None:
        await anyio.sleep(4)
        assert await world.listen(1, since=Instant(0)) == ["kill", "die", "stop"]

    world.play(script)


def test_an_orderly_stop_of_the_daemon_looks_like_somebodys_stop_until_the_stream_ends() -> None:
    world = World(stop_first=0.0)
    world.run(Program(), restart=EngineRestart.ALWAYS)
    world.timeline.at(1, lambda: stop_daemon(world.daemon))
    world.timeline.at(30, lambda: start_daemon(world.daemon))

    async def script() -> None:
        with pytest.raises(EngineUnavailable):
            await world.listen(100)
        assert [event.action.value for event in world.heard] == ["kill", "die", "stop"]
        assert world.timeline.now < 5
        await anyio.sleep(40)
        assert await world.listen(1, since=Instant(0)) == ["start"]

    world.play(script)


def test_a_frozen_daemon_answers_everything_once_it_goes_on() -> None:
    world = World()
    container = world.run(Program(runs_s=5, code=3))
    world.timeline.at(1, lambda: freeze_daemon(world.daemon))
    world.timeline.at(31, lambda: thaw_daemon(world.daemon))

    async def script() -> None:
        await anyio.sleep(2)
        with pytest.raises(EngineUnavailable):
            await world.engine.inspect(container)
        await anyio.sleep(30)
        assert (await world.engine.inspect(container)).exit_code == 3

    world.play(script)


@pytest.mark.parametrize(
    ("fault", "raised", "happened"),
    [
        (Fault.REFUSED, EngineUnavailable, False),
        (Fault.ERROR, EngineUnavailable, False),
        (Fault.HANG, EngineUnavailable, False),
        (Fault.LOST_REPLY, EngineUnavailable, True),
        (Fault.GONE, ContainerGone, False),
    ],
)
def test_each_fault_of_a_call(fault: Fault, raised: type[EngineError], *, happened: bool) -> None:
    world = World()
    container = world.daemon.create(name="c")
    world.menu.script[1] = fault

    async def script() -> None:
        with pytest.raises(raised):
            await world.engine.start(container)
        assert any(truth.what == "started" for truth in world.daemon.history) == happened

    world.play(script)


def test_a_request_that_was_sent_is_carried_out_though_its_sender_is_gone() -> None:
    world = World()
    container = world.daemon.create(name="c")

    async def script() -> None:
        with anyio.move_on_after(0.0001):
            await world.engine.start(container)
        await anyio.sleep(1)
        assert (await world.engine.inspect(container)).state is ContainerState.RUNNING

    world.play(script)
