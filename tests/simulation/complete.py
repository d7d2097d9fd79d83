"""The complete space of single faults of the reference scenarios: `python -m tests.simulation.complete`.

For each scenario: `kill -9` before and after each request that changes the engine and each commit (between those
nothing outside the process changes); each call to the engine refused, failed, hung, late, its answer lost or stale,
its target gone or taken; each list answered as it was at any earlier one; each event lost, told twice, late or spoilt;
each SQL call failed, for an I/O error and for a full disk. SIGTERM, `kill -9` and a cancellation at every step of the
small ones. Each run is judged like any seed. `--slice 1/40` plays every fortieth run, for CI.
"""

import argparse
import gc
import os
import random
import shutil
import sys
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from controller.engine.limits import TimeLimits
from controller.settings import Settings
from tests.simulation.daemon import Traits
from tests.simulation.exchange import CHANGES, Request
from tests.simulation.faults import CALL_FAULTS, STREAM_FAULTS, Fault
from tests.simulation.knobs import Knobs
from tests.simulation.loop import SimulatedLoop
from tests.simulation.playing import SCRATCH, the_dead_are_silent, told
from tests.simulation.scenarios import SCENARIOS, Scenario
from tests.simulation.sqlite import FULL, IO_ERROR
from tests.simulation.world import World

SETTLE_S: Final = 400.0
STILL_S: Final = 120.0


@dataclass(frozen=True, kw_only=True)
class Mishap:
    """The one thing that goes wrong in a run."""

    kind: str
    """`none`, `call`, `sql`, `sql full`, `kill before request`, `kill after effect`, `kill before commit`,
    `kill after commit`, `kill at step`, `stop at step`, `cancel at step`, `stale list`, `event dropped`,
    `event doubled`, `event delayed`, `event bad line`."""
    number: int = 0
    earlier: int | None = None
    """Of a stale list: the number of the list that is answered instead."""
    fault: Fault = Fault.NONE

    def __str__(self) -> str:
        more = (
            self.fault.value if self.fault is not Fault.NONE else "" if self.earlier is None else f"as {self.earlier}"
        )
        return f"{self.kind} {self.number} {more}".strip()


_ALONE: Final = tuple(what for what in STREAM_FAULTS if what != "swapped")
"""What can happen to one event: to be swapped takes two."""
_OF_EVENT: Final = "event "
_OF_DISK: Final = {"sql": IO_ERROR, "sql full": FULL}
NOTHING: Final = Mishap(kind="none")


@dataclass(kw_only=True)
class Space:
    """How many places there are, counted in a run without a mishap."""

    calls: int = 0
    changes: int = 0
    commits: int = 0
    sql_calls: int = 0
    events: int = 0
    steps: int = 0
    lists: list[tuple[str, object]] = field(default_factory=list)
    """Every list that was answered: its kind, and its rows."""
    changes_so_far: int = 0
    commits_so_far: int = 0


def knobs_of(scenario: Scenario, path: str) -> Knobs:
    """The defaults, with short intervals; nothing is drawn."""
    return Knobs(
        settings=Settings(
            docker_host="unix:///simulated",
            db=path,
            agent_url="ws://controller:7006",
            sources={"AGENTD_AGENT_URL": "environment"},
            sweep_interval_s=scenario.sweep_s,
            mode=scenario.mode,
            orphan_grace_s=5.0,
            stop_grace_s=2.0,
            keep_failed_s=scenario.keep_s,
            keep_stopped_s=scenario.keep_s,
            shutdown_timeout_s=10.0,
        ),
        limits=TimeLimits(),
        traits=Traits(stop_first=0.0, oom_after_die=0.0),
        call_faults={},
        event_faults={},
        disk_latency_s=0.001,
        disk_stall_s=0.0,
        disk_stall_probability=0.0,
        disk_fault_probability=0.0,
        wire_latency_s=0.002,
        nemeses={},
        reorder=0.0,
        sessions_count=0,
        bystanders_count=0,
        wishes_a_minute=1.0,
        crash_steps=None,
        quiet_at_s=scenario.quiet_at_s,
        inbox_size=4096,
    )


def play(scenario: Scenario, mishap: Mishap = NOTHING) -> tuple[World, Space]:
    """One run."""
    folder = SCRATCH / f"agentd-complete-{os.getpid()}"
    world = World(
        f"complete/{scenario.name}",
        folder,
        knobs=knobs_of(scenario, str(folder / "controller.db")),
        script=scenario.story,
    )
    world.settle_s, world.still_s = SETTLE_S, STILL_S
    world.wire.lists = []
    if mishap is NOTHING:
        world.expect = scenario.expect
    elif mishap.kind.startswith("kill"):
        world.expect = scenario.expect_killed
    space = Space()
    world.timeline.at(scenario.quiet_at_s, lambda: _measure(world, space))
    _arrange(world, mishap, space)
    with the_dead_are_silent():
        try:
            world.run()
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return world, space


def _measure(world: World, space: Space) -> None:
    """Mishaps happen in the eventful part: nothing may move in the quiet one."""
    space.calls, space.sql_calls, space.events = world.menu.asked, world.disk.calls, world.menu.events
    space.steps = world.steps + (world.loop.steps if world.loop is not None else 0)
    space.lists = list(world.wire.lists or [])
    space.changes, space.commits = space.changes_so_far, space.commits_so_far


class Trap:
    """Strikes once, at the one place that the mishap names; counts the places meanwhile."""

    def __init__(self, world: World, mishap: Mishap, space: Space) -> None:
        self._world = world
        self._mishap = mishap
        self._space = space
        self._judge = world.wire.before_request
        self._note = world.wire.after_effect

    def before_request(self, request: Request) -> None:
        self._judge(request)
        if request.kind in CHANGES:
            self._space.changes_so_far += 1
            self._strike("kill before request", self._space.changes_so_far)

    def after_effect(self, request: Request) -> None:
        self._note(request)
        if request.kind in CHANGES:
            self._strike("kill after effect", self._world.wire.requests.index(request) + 1)

    def before_commit(self) -> None:
        self._space.commits_so_far += 1
        self._strike("kill before commit", self._space.commits_so_far)

    def after_commit(self) -> None:
        self._strike("kill after commit", self._space.commits_so_far)

    def _strike(self, kind: str, number: int) -> None:
        if self._mishap.kind == kind and self._mishap.number == number:
            self._world.tell(f"mishap: {self._mishap}")
            self._world.kill_controller()


def _arrange(world: World, mishap: Mishap, space: Space) -> None:
    """Set the trap."""
    trap = Trap(world, mishap, space)
    world.wire.before_request, world.wire.after_effect = trap.before_request, trap.after_effect
    world.disk.before_commit, world.disk.after_commit = trap.before_commit, trap.after_commit
    if mishap.kind == "call":
        world.menu.script[mishap.number] = mishap.fault
    elif mishap.kind.startswith(_OF_EVENT):
        world.menu.event_script[mishap.number] = mishap.kind.removeprefix(_OF_EVENT)
    elif mishap.kind in _OF_DISK:
        world.disk.fail_call, world.disk.fail_with = mishap.number, _OF_DISK[mishap.kind]
    elif mishap.kind == "stale list" and mishap.earlier is not None:
        world.wire.stale_lists[mishap.number] = mishap.earlier
    elif mishap.kind in ("kill at step", "stop at step", "cancel at step"):
        world.on_life = lambda loop: _at_step(world, loop, mishap)


def _at_step(world: World, loop: SimulatedLoop, mishap: Mishap) -> None:
    if world.lives != 1:
        return

    def hook(step: int) -> None:
        if step == mishap.number:
            world.tell(f"mishap: {mishap}")
            if mishap.kind == "kill at step":
                world.kill_controller()
            elif mishap.kind == "cancel at step":
                world.cancel_controller()
            else:
                world.stop_controller()

    loop.step_hook = hook


def mishaps(scenario: Scenario, space: Space) -> Iterator[Mishap]:
    """Every single one that this scenario has room for."""
    for number in range(1, space.changes + 1):
        yield Mishap(kind="kill before request", number=number)
        yield Mishap(kind="kill after effect", number=number)
    for number in range(1, space.commits + 1):
        yield Mishap(kind="kill before commit", number=number)
        yield Mishap(kind="kill after commit", number=number)
    for number in range(1, space.calls + 1):
        for fault in CALL_FAULTS:
            yield Mishap(kind="call", number=number, fault=fault)
    for number in range(1, space.sql_calls + 1):
        yield Mishap(kind="sql", number=number)
        yield Mishap(kind="sql full", number=number)
    for number in range(1, space.events + 1):
        for what in _ALONE:
            yield Mishap(kind=f"{_OF_EVENT}{what}", number=number)
    yield from _stale_lists(space)
    if scenario.small:
        for number in range(1, space.steps + 1):
            yield Mishap(kind="stop at step", number=number)
            yield Mishap(kind="kill at step", number=number)
            yield Mishap(kind="cancel at step", number=number)


def _stale_lists(space: Space) -> Iterator[Mishap]:
    """Each list as it was at any earlier one; of equal ones, the latest stands for all."""
    for number, (kind, rows) in enumerate(space.lists):
        for earlier, (other, old) in enumerate(space.lists[:number]):
            again = (kind, old) in space.lists[earlier + 1 : number]
            if other == kind and old != rows and not again:
                yield Mishap(kind="stale list", number=number, earlier=earlier)


@dataclass(kw_only=True)
class Tour:
    """What one call of the command has played so far."""

    runs: int = 0
    failed: int = 0
    kinds: Tally[str] = field(default_factory=Tally)


def tour(scenario: Scenario, wanted: Callable[[int, Mishap], bool], so_far: Tour, *, trace: bool) -> Iterator[None]:
    """Play the wanted runs of one scenario, and stop after each, so that the caller may have enough."""
    world, space = play(scenario)
    every = list(mishaps(scenario, space))
    random.Random(scenario.name).shuffle(every)
    print(f"{scenario.name}: {len(every)} single faults", flush=True)
    chosen = [NOTHING, *(mishap for number, mishap in enumerate(every) if wanted(number, mishap))]
    for mishap in chosen:
        if mishap is not NOTHING:
            world, _ = play(scenario, mishap)
        so_far.runs += 1
        so_far.kinds[mishap.kind] += 1
        if trace and mishap is not NOTHING:
            print(told(world, lines=len(world.trace)))
        if world.violations:
            so_far.failed += 1
            print(told(world, lines=0 if trace else 12))
            print(f"{scenario.name}: {mishap}: {world.violations[0]}", flush=True)
        if so_far.runs % 50 == 0:
            gc.collect()
        yield


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.complete", description=__doc__)
    parser.add_argument("--slice", default="1/1", help="K/N: every N-th run, beginning with the K-th")
    parser.add_argument("--only", default="", help="scenarios whose name contains this")
    parser.add_argument("--kind", default="", help="only faults of this kind, as they are counted at the end")
    parser.add_argument("--replay", default="", help="one mishap, as it was printed, with its trace")
    parser.add_argument("--seconds", type=float, default=0.0, help="no more runs after this long")
    parser.add_argument("--stop", type=int, default=20, help="give up after so many failures")
    asked = parser.parse_args()
    turn, width = (int(part) for part in asked.slice.split("/"))

    def wanted(number: int, mishap: Mishap) -> bool:
        if asked.kind and mishap.kind != asked.kind:
            return False
        return str(mishap) == asked.replay if asked.replay else number % width == turn - 1

    gc.freeze()
    began, so_far = time.monotonic(), Tour()
    # Each slice begins with another scenario, so that it is not always the same ones for which no time is left.
    first = len(SCENARIOS) * (turn - 1) // width
    for scenario in (*SCENARIOS[first:], *SCENARIOS[:first]):
        if asked.only not in scenario.name:
            continue
        if asked.seconds and time.monotonic() - began > asked.seconds:
            print(f"{scenario.name}: left out, there was no time left")
            continue
        for _ in tour(scenario, wanted, so_far, trace=bool(asked.replay)):
            out_of_time = asked.seconds and time.monotonic() - began > asked.seconds
            if so_far.failed >= asked.stop or out_of_time:
                break
    took = time.monotonic() - began
    print(", ".join(f"{name} {count}" for name, count in sorted(so_far.kinds.items())))
    print(f"{so_far.runs} runs in {took:.1f} s = {so_far.runs / took * 60:.0f} a minute")
    print(f"{so_far.runs - so_far.failed} passed, {so_far.failed} failed")
    return 1 if so_far.failed else 0


if __name__ == "__main__":
    sys.exit(main())
