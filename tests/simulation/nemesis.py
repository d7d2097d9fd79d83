"""Who breaks things: daemons that go and come, containers that die, people with a docker command line, clocks.

Every strike is an appointment of the timeline, drawn before it happens, and ends at the world's quiet hour. What a
nemesis does to a container it does as an outsider, through the engine, as a person would.
"""

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from controller.errors import EngineError, EngineRefused
from controller.loops.inbox import INBOX_SIZE
from controller.loops.windows import OVERLAP_S
from controller.model.container import EngineRestart
from controller.model.instant import NANOS_PER_S
from tests.simulation.containers import Container, Probe, Program, Status
from tests.simulation.outage import freeze_daemon, kill_daemon, start_daemon, stop_daemon, thaw_daemon

if TYPE_CHECKING:
    from tests.simulation.world import World

Strike = Callable[["World", random.Random], str]
CLOCKS: Final = ("wall jumps", "engine clock jumps")


def unleash(world: "World") -> None:
    """Make all appointments up to the quiet hour."""
    for name, a_minute in world.knobs.nemeses.items():
        rng = world.dice(f"nemesis {name}")
        for when in moments(world, rng, a_minute):
            world.timeline.at(when, _appointment(world, name, rng))


def moments(world: "World", rng: random.Random, a_minute: float, *, since_s: float = 0.0) -> Iterator[float]:
    """When it happens, at that rate, up to the quiet hour."""
    when = since_s
    while a_minute and (when := when + rng.expovariate(a_minute / 60)) < world.knobs.quiet_at_s:
        yield when


def _appointment(world: "World", name: str, rng: random.Random) -> Callable[[], None]:
    def act() -> None:
        try:
            said = STRIKES[name](world, rng)
        except EngineError as error:
            said = f"in vain: {error}"
        if said:
            world.struck[name] += 1
            world.tell(f"nemesis: {name} {said}")

    return act


def clocks_were_set(world: "World") -> bool:
    """Whether ours or the engine's was: then little can be said about ages and orders."""
    return any(world.struck[what] for what in CLOCKS)


def calm(world: "World") -> None:
    """The quiet hour: faults and wishes stop, the daemon is there, and programs run until they are stopped."""
    world.tell("quiet")
    world.oracle.explain()
    world.menu.calm = True
    world.disk.fault_probability = world.disk.stall_probability = 0.0
    world.disk.full = False
    thaw_daemon(world.daemon)
    if world.daemon.stopping:
        kill_daemon(world.daemon)
    start_daemon(world.daemon)
    world.daemon.tame = True
    world.daemon.traits.removal_fails = 0.0
    _roomy_inbox(world)
    if world.loop is not None:
        world.loop.crash_at = None
    for container in world.daemon.containers.values():
        if container.status is Status.PAUSED:
            world.daemon.unpause(container)
        container.program = Program()
        if container.process is not None and container.process.end is not None:
            container.process.end.call_off()


def _roomy_inbox(world: "World") -> None:
    """A small inbox runs over whenever the engine repeats its ring, at the end of each window: never at rest."""
    world.knobs.inbox_size = INBOX_SIZE
    if world.program is not None:
        world.program.inbox._receive._state.max_buffer_size = INBOX_SIZE


def random_program(rng: random.Random) -> Program:
    """One of the ways in which a program may run and end."""
    term = rng.choice((0.05, 0.05, 2.0, None))
    code = rng.choice((143, 0, 1))
    kind = rng.randrange(8)
    if kind == 0:
        return Program(start_fails=True)
    if kind == 1:
        return Program(oom_at_s=rng.uniform(0.1, 60), ends_after_term_s=term)
    if kind == 2:
        return Program(child_oom_at_s=rng.uniform(0.1, 20), runs_s=rng.uniform(1, 60), code=rng.choice((0, 3)))
    if kind == 3:
        return Program(sick_at_s=rng.uniform(5, 120), ends_after_term_s=term)
    if kind in (4, 5):
        return Program(runs_s=rng.choice((0.01, 1.0, 30.0, 200.0)), code=rng.choice((0, 1, 3)), ends_after_term_s=term)
    return Program(ends_after_term_s=term, term_code=code)


# --- the daemon --------------------------------------------------------------------------------------------------


def _kill_daemon(world: "World", rng: random.Random) -> str:
    if not world.daemon.up:
        return ""
    kill_daemon(world.daemon)
    away = rng.choice((0.3, 5.0, 40.0))
    world.timeline.after(away, lambda: start_daemon(world.daemon))
    return f"for {away:g} s"


def _stop_daemon(world: "World", rng: random.Random) -> str:
    if not world.daemon.up:
        return ""
    stop_daemon(world.daemon)
    away = 16.0 + rng.choice((0.3, 5.0, 40.0))
    world.timeline.after(away, lambda: start_daemon(world.daemon))
    return f"for {away:g} s"


def _freeze_daemon(world: "World", rng: random.Random) -> str:
    freeze_daemon(world.daemon)
    frozen = rng.choice((1.0, 10.0, 30.0))
    world.timeline.after(frozen, lambda: thaw_daemon(world.daemon))
    return f"for {frozen:g} s"


def _half_open(world: "World", rng: random.Random) -> str:
    readers = world.daemon.events.readers
    if not readers:
        return ""
    reader = rng.choice(readers)
    if not reader.half_open:
        reader.half_open, reader.half_open_since = True, world.timeline.now
        left_s = (reader.until - world.daemon.clock()) / NANOS_PER_S
        world.half_open.append((world.lives, world.timeline.now, world.timeline.now + left_s + OVERLAP_S))
    return "now"


def _cut(world: "World", rng: random.Random) -> str:
    world.daemon.events.cut(rng.choice((None, "connection reset by peer")))
    return "now"


# --- containers --------------------------------------------------------------------------------------------------


def pick(world: "World", rng: random.Random, wanted: Callable[[Container], bool]) -> Container | None:
    """One that somebody could get at just now."""
    if not world.daemon.up or world.daemon.stopping or world.daemon.frozen:
        return None
    found = [container for container in world.daemon.containers.values() if wanted(container)]
    return rng.choice(found) if found else None


def _alive(container: Container) -> bool:
    return container.alive and container.status is Status.RUNNING


def _dies(world: "World", rng: random.Random) -> str:
    # Processes die whether or not there is a daemon to see it.
    found = [container for container in world.daemon.containers.values() if container.alive]
    if not found:
        return ""
    container = rng.choice(found)
    if container.status is Status.PAUSED:
        return ""
    code = rng.choice((0, 1, 3, 137, 139, 255))
    dice = world.dice(f"code at {world.timeline.now}")
    if dice.random() < 0.2:
        code = dice.choice((126, 127, 129, 143, 162, 164, 192, 193))
    world.daemon.process_ends(container, code)
    return f"{container.name} with {code}"


def _out_of_memory(world: "World", rng: random.Random) -> str:
    container = pick(world, rng, _alive)
    if container is None:
        return ""
    world.daemon.out_of_memory(container)
    return container.name


def _stops(world: "World", rng: random.Random) -> str:
    container = pick(world, rng, lambda one: one.running)
    if container is None:
        return ""
    world.daemon.stop(container, grace_s=rng.choice((0, 1, 10)), done=lambda _: None, by="outsider")
    return container.name


def _kills(world: "World", rng: random.Random) -> str:
    container = pick(world, rng, lambda one: one.running)
    if container is None:
        return ""
    world.daemon.kill(container, 9)
    return container.name


def _hangs_up(world: "World", rng: random.Random) -> str:
    container = pick(world, rng, _alive)
    if container is None:
        return ""
    signal = world.dice(f"signal at {world.timeline.now}").choice((1, 1, 1, 10, 18, 28, 34, 36))
    world.daemon.kill(container, signal)
    return f"{container.name} by signal {signal}"


def _restarts(world: "World", rng: random.Random) -> str:
    container = pick(world, rng, lambda one: one.status is not Status.PAUSED)
    if container is None:
        return ""
    world.daemon.restart(container, grace_s=rng.choice((0, 1, 10)))
    return container.name


def _removes(world: "World", rng: random.Random) -> str:
    container = pick(world, rng, lambda one: True)
    if container is None:
        return ""
    if container.running:
        world.daemon.remove(container, force=True, by="outsider")
    else:
        world.daemon.remove_in_time(container, done=lambda _: None, by="outsider")
    return container.name


def _pauses(world: "World", rng: random.Random) -> str:
    container = pick(world, rng, _alive)
    if container is None:
        return ""
    world.daemon.pause(container)

    def unpause() -> None:
        if world.daemon.up and not container.removed and container.status is Status.PAUSED:
            world.daemon.unpause(container)

    world.timeline.after(rng.choice((0.1, 5.0, 60.0)), unpause)
    return container.name


def _renames(world: "World", rng: random.Random) -> str:
    container = pick(world, rng, lambda one: True)
    if container is None:
        return ""
    name = f"renamed-{rng.randrange(10_000)}"
    said = f"{container.name} to {name}"
    world.daemon.rename(container, name)
    return said


def _recreates(world: "World", rng: random.Random) -> str:
    container = pick(world, rng, lambda one: "agentd.watch" in one.labels)
    if container is None:
        return ""
    world.daemon.remove(container, force=True, by="outsider")
    again = world.daemon.create(
        name=container.name,
        image=container.image,
        command=random_program(rng).command(),
        labels=container.labels,
        restart=container.restart,
        probe=container.probe,
        by="outsider",
    )
    if container.id in world.bystanders:
        world.bystanders[again] = world.bystanders[container.id]
    world.daemon.start(world.daemon.containers[again], by="outsider")
    return container.name


def _runs_another(world: "World", rng: random.Random) -> str:
    return run_bystander(world, rng) if world.daemon.up and not world.daemon.stopping else ""


def run_bystander(world: "World", rng: random.Random) -> str:
    """Somebody runs a container: watched, another controller's, an orphan, a controller, or nobody's."""
    kind = rng.choice(("external", "external", "external", "foreign", "orphan", "controller", "plain"))
    name = f"{kind}-{world.count('bystanders')}"
    labels = bystander_labels(kind, rng)
    if kind == "external":
        labels |= rarer_labels(world.dice(f"labels of {name}"))
        odd = world.dice(f"odd labels of {name}")
        if odd.random() < 0.3:
            asked = {
                "agentd.session": odd.choice(("s0", "s1", "lost-1", "external-1", "no such name!")),
                "agentd.prefix": odd.choice(("agentd", "elsewhere", "")),
                "exitCode": "7",
                "signal": "15",
                "name": "other",
                "agentd.spec": "x",
            }
            labels |= dict(odd.sample(sorted(asked.items()), odd.choice((1, 1, 2))))
            world.struck["odd labels"] += 1
    restart = rng.choice((EngineRestart.NO, EngineRestart.NO, EngineRestart.ALWAYS, EngineRestart.ON_FAILURE))
    if "agentd.restart" in labels:
        restart = EngineRestart.NO
    container = world.daemon.create(
        name=name,
        command=random_program(rng).command(),
        labels=labels,
        restart=restart,
        auto_remove=restart is EngineRestart.NO and rng.random() < 0.15,
        probe=Probe(interval_s=rng.choice((2.0, 10.0))) if rng.random() < 0.4 else None,
        by="outsider",
    )
    world.bystanders[container] = kind
    if rng.random() < 0.9:
        with contextlib.suppress(EngineRefused):
            world.daemon.start(world.daemon.containers[container], by="outsider")
    return name


def bystander_labels(kind: str, rng: random.Random) -> dict[str, str]:
    """What such a container carries."""
    labels: Mapping[str, dict[str, str]] = {
        "external": {"agentd.watch": rng.choice(("true", "agentd", "other"))},
        "foreign": {"agentd.prefix": "agentd", "agentd.controller": "another", "agentd.session": "theirs"},
        "orphan": {"agentd.prefix": "agentd", "agentd.session": f"lost-{rng.randrange(5)}"},
        "controller": {"agentd.prefix": "agentd", "agentd.role": "controller"},
        "plain": {"app": "database"},
    }
    chosen = dict(labels[kind])
    if rng.random() < 0.15:
        chosen["exitCode"] = rng.choice(("0", "3"))
    if kind == "external" and rng.random() < 0.4:
        chosen["agentd.restart"] = rng.choice(("always", "on-failure", "no"))
        if rng.random() < 0.5:
            chosen["agentd.max-attempts"] = rng.choice(("1", "3"))
    return chosen


def rarer_labels(rng: random.Random) -> dict[str, str]:
    """What else an external container may ask for, and what it cannot mean."""
    if rng.random() < 0.6:
        return {"agentd.restart": "sometimes"} if rng.random() < 0.05 else {}
    asked = {
        "agentd.unhealthy-restart-s": rng.choice(("5", "20", "never")),
        "agentd.restart-window": rng.choice(("120", "3600", "-1")),
        "agentd.max-attempts": rng.choice(("1", "2", "0", "many")),
    }
    compose = {
        "com.docker.compose.project": "shop",
        "com.docker.compose.service": rng.choice(("db", "web")),
        "com.docker.compose.container-number": "1",
    }
    return {**dict(rng.sample(sorted(asked.items()), rng.choice((1, 2)))), **(compose if rng.random() < 0.5 else {})}


# --- machines ----------------------------------------------------------------------------------------------------


def _disk_full(world: "World", rng: random.Random) -> str:
    world.disk.full = True

    def room_again() -> None:
        world.disk.full = False

    full = rng.choice((0.5, 10.0))
    world.timeline.after(full, room_again)
    return f"for {full:g} s"


def _wall_jumps(world: "World", rng: random.Random) -> str:
    jump = rng.choice((-3600.0, -30.0, 30.0, 3600.0, 31_536_000.0))
    world.wall_offset_s += jump
    return f"by {jump:g} s"


def _engine_clock_jumps(world: "World", rng: random.Random) -> str:
    jump = rng.choice((-30.0, -0.5, 0.5, 30.0))
    world.daemon.skew_s += jump
    return f"by {jump:g} s"


def _kill_controller(world: "World", rng: random.Random) -> str:
    return "now" if world.kill_controller() else ""


def _stop_controller(world: "World", rng: random.Random) -> str:
    return "now" if world.stop_controller() else ""


STRIKES: dict[str, Strike] = {
    "kill daemon": _kill_daemon,
    "stop daemon": _stop_daemon,
    "freeze daemon": _freeze_daemon,
    "half-open stream": _half_open,
    "cut streams": _cut,
    "container dies": _dies,
    "container out of memory": _out_of_memory,
    "somebody stops": _stops,
    "somebody kills": _kills,
    "somebody hangs up": _hangs_up,
    "somebody restarts": _restarts,
    "somebody removes": _removes,
    "somebody pauses": _pauses,
    "somebody renames": _renames,
    "somebody recreates": _recreates,
    "somebody runs another": _runs_another,
    "disk full": _disk_full,
    "wall jumps": _wall_jumps,
    "engine clock jumps": _engine_clock_jumps,
    "kill controller": _kill_controller,
    "stop controller": _stop_controller,
}
