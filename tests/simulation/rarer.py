"""What strikes in some worlds only, each by dice of its own, so that the worlds of other seeds stay what they were.

Programs that cannot be started for a while, changed restart policies, storms of events, health that flaps, a machine
that is suspended, and what somebody runs from an image of a session's container.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from controller.model.container import EngineRestart
from tests.simulation.containers import Program
from tests.simulation.nemesis import CLOCKS, moments, pick
from tests.simulation.stream import RING_SIZE

if TYPE_CHECKING:
    from tests.simulation.world import World

Rare = Callable[["World", random.Random], str]
STORM: Final = 40
"""Containers that come and go within a moment: each tells of five things, and of two that join a network."""
ASLEEP_S: Final = (20.0, 600.0, 28_800.0)
FLAPS: Final = 8


def strike_rarely(world: "World") -> None:
    """Make all their appointments up to the quiet hour."""
    for name, (rates, strike) in RARE.items():
        dice = world.dice(name)
        for when in moments(world, dice, dice.choice(rates)):
            world.timeline.at(when, _appointment(world, name, strike, dice))


def _appointment(world: "World", name: str, strike: Rare, dice: random.Random) -> Callable[[], None]:
    def act() -> None:
        if said := strike(world, dice):
            world.struck[name] += 1
            world.tell(f"nemesis: {name} {said}")

    return act


def _spoil(world: "World", dice: random.Random) -> str:
    """It cannot be started for a while, though it has run."""
    found = [container for container in world.daemon.containers.values() if not container.program.start_fails]
    if not found:
        return ""
    container = dice.choice(found)
    before, container.program = container.program, Program(start_fails=True)

    def heal() -> None:
        if not world.menu.calm:
            container.program = before

    world.timeline.after(dice.choice((20.0, 120.0)), heal)
    return f"of {container.name}: it cannot be started from now on"


def _update(world: "World", dice: random.Random) -> str:
    """Somebody changes the engine's own restart policy of a container."""
    container = pick(world, dice, lambda one: not one.auto_remove)
    if container is None:
        return ""
    container.restart = dice.choice(tuple(EngineRestart))
    world.daemon.emit(container, "update")
    return f"of {container.name}: {container.restart} from now on"


def _storm(world: "World", dice: random.Random) -> str:
    """More events than the engine remembers: of other kinds, or of containers that are nobody's."""
    daemon = world.daemon
    if not daemon.up or daemon.stopping or daemon.frozen:
        return ""
    if dice.random() < 0.5:
        daemon.events.noise(daemon.clock(), RING_SIZE)
        return "of other kinds"
    for _ in range(STORM):
        made = daemon.create(
            name=f"storm-{world.count('storm')}",
            command=Program(runs_s=0.0).command(),
            labels={"app": "job"},
            auto_remove=True,
            by="outsider",
        )
        world.bystanders[made] = "plain"
        daemon.start(daemon.containers[made], by="outsider")
    return f"of {STORM} containers"


def _flaps(world: "World", dice: random.Random) -> str:
    """Its probe fails and succeeds in turns."""
    container = pick(world, dice, lambda one: one.alive and one.probe is not None)
    if container is None:
        return ""
    before = container.program

    def turn(left: int) -> None:
        if world.menu.calm:
            return
        container.program = replace(before, sick_at_s=0.0) if left % 2 else before
        if left:
            world.timeline.after(dice.choice((1.0, 8.0, 35.0)), lambda: turn(left - 1))

    turn(FLAPS)
    return f"of {container.name}"


def _sleeps(world: "World", dice: random.Random) -> str:
    """The machine is suspended, engine and all: clocks on the wall go on, everything else stands still."""
    asleep_s = dice.choice(ASLEEP_S)
    world.wall_offset_s += asleep_s
    world.daemon.skew_s += asleep_s
    for clock in CLOCKS:
        world.struck[clock] += 1
    return f"for {asleep_s:g} s"


def _copies(world: "World", dice: random.Random) -> str:
    """Somebody runs an image that was made of a session's container: the labels come along."""
    container = pick(world, dice, lambda one: "agentd.controller" in one.labels and one.id not in world.bystanders)
    if container is None:
        return ""
    made = world.daemon.create(
        name=f"copy-{world.count('copy')}",
        image="committed",
        command=Program(runs_s=dice.choice((1.0, None))).command(),
        labels=container.labels,
        by="outsider",
    )
    world.bystanders[made] = "copy"
    if dice.random() < 0.8:
        world.daemon.start(world.daemon.containers[made], by="outsider")
    return f"of {container.name}"


_SELDOM: Final = (0.0, 0.0, 0.0, 2.0)
RARE: Final[dict[str, tuple[Sequence[float], Rare]]] = {
    "spoilt programs": (_SELDOM, _spoil),
    "updated policies": (_SELDOM, _update),
    "event storm": (_SELDOM, _storm),
    "flapping health": (_SELDOM, _flaps),
    "machine suspended": ((0.0,) * 7 + (0.5,), _sleeps),
    "copies of sessions": (_SELDOM, _copies),
}
