"""S12: the same world twice, with events dropped, doubled, swapped and late, and without: `… .twins --seeds 50`.

Nothing else goes wrong in either, and all other dice are the same. At the end each session must be in the same class
of phase, with a container in the same state. A session is compared where people were answered alike in both: what was
refused because an end was known a second later is no matter of the end.
"""

import argparse
import gc
import os
import shutil
import sys
from collections import Counter as Tally
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from controller.model.session import Session
from tests.simulation.knobs import Knobs, draw
from tests.simulation.nemesis import run_bystander
from tests.simulation.playing import SCRATCH, the_dead_are_silent
from tests.simulation.wishes import make_wishes
from tests.simulation.world import World

UNLIKE_EVENTS: Final = {"drop": 0.2, "double": 0.2, "swap": 0.2, "delay": 0.2, "bad_line": 0.01}
SHARE_WANTED: Final = 0.5
"""Of the seeds, this part must allow the comparison of every session."""


@dataclass(kw_only=True)
class End:
    """What one world came to."""

    world: World
    sessions: dict[str, tuple[str, str]]
    """Name -> class of phase, and the container's state."""
    answers: dict[str, list[tuple[str, bool | None]]]
    """Name -> what was asked of it, and whether that was accepted."""
    runs: dict[str, int]
    """Name -> how often it was started automatically: what ends by itself is started as often as it was noticed."""


def play(seed: str, *, spoilt: bool) -> End:
    """One of the two."""
    folder = SCRATCH / f"agentd-twins-{os.getpid()}"
    shape = World(seed, folder)
    knobs = _knobs(shape, folder, spoilt=spoilt)
    world = World(seed, folder, knobs=knobs, script=_story)
    with the_dead_are_silent():
        try:
            world.run()
            return _end(world)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            gc.collect()


def _knobs(world: World, folder: Path, *, spoilt: bool) -> Knobs:
    drawn = draw(world.dice("knobs"), path=str(folder / "controller.db"))
    dice = world.dice("event faults")
    faults = {what: dice.choice((0.0, rate)) for what, rate in UNLIKE_EVENTS.items()}
    return replace(
        drawn,
        call_faults={},
        event_faults=faults if spoilt else {},
        disk_stall_probability=0.0,
        disk_fault_probability=0.0,
        nemeses={},
        crash_steps=None,
        inbox_size=4096,
    )


def _story(world: World) -> None:
    bystanders = world.dice("bystanders")
    for _ in range(world.knobs.bystanders_count):
        run_bystander(world, bystanders)
    make_wishes(world)


def _end(world: World) -> End:
    live = [one for one in world.last_sessions if one.removed_at is None]
    answers: dict[str, list[tuple[str, bool | None]]] = {}
    for wish in world.wishes:
        accepted = wish.answer.accepted if wish.answer is not None else None
        answers.setdefault(wish.session, []).append((wish.what, accepted))
    return End(
        world=world,
        sessions={one.name: _class(world, one) for one in live},
        answers=answers,
        runs={one.name: one.restarts for one in live},
    )


def _class(world: World, session: Session) -> tuple[str, str]:
    container = world.daemon.containers.get(session.container_id) if session.container_id else None
    return session.status.value, "none" if container is None else "runs" if container.alive else "rests"


def compare(plain: End, spoilt: End) -> tuple[int, int, list[str]]:
    """How many sessions were compared, how many could not be, and where the two differ."""
    compared, left_out, differing = 0, 0, []
    for name in sorted({*plain.sessions, *spoilt.sessions}):
        alike = plain.answers.get(name) == spoilt.answers.get(name)
        if not alike or plain.runs.get(name) != spoilt.runs.get(name):
            left_out += 1
        elif plain.sessions.get(name) != spoilt.sessions.get(name):
            differing.append(f"{name}: {plain.sessions.get(name)} without, {spoilt.sessions.get(name)} with")
        else:
            compared += 1
    return compared, left_out, differing


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.twins", description=__doc__)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--first", type=int, default=0)
    asked = parser.parse_args()
    gc.freeze()
    totals, failed = Tally[str](), 0
    for number in range(asked.first, asked.first + asked.seeds):
        plain, spoilt = play(str(number), spoilt=False), play(str(number), spoilt=True)
        compared, left_out, differing = compare(plain, spoilt)
        wrong = [*plain.world.violations, *spoilt.world.violations, *(f"S12: {what}" for what in differing)]
        totals.update({"sessions compared": compared, "left out": left_out, "whole worlds": not left_out})
        totals["events spoilt"] += sum(spoilt.world.menu.fired.values())
        failed += bool(wrong)
        for what in wrong:
            print(f"twins of seed {number}: {what}", flush=True)
    share = totals["whole worlds"] / asked.seeds
    print(", ".join(f"{name} {count}" for name, count in sorted(totals.items())))
    print(f"{share:.0%} of the seeds allow every session to be compared")
    print(f"{asked.seeds - failed} passed, {failed} failed")
    return 1 if failed or share < SHARE_WANTED else 0


if __name__ == "__main__":
    sys.exit(main())
