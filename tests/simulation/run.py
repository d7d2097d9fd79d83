"""Runs worlds: `python -m tests.simulation.run --seeds 500`, or `--seed 4711` for one with its trace.

A seed that fails is printed with a short trace and replays exactly, in any process.
"""

import argparse
import gc
import json
import os
import shutil
import sys
import time
import warnings
from collections import Counter as Tally
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import structlog

from tests.simulation.world import World

SCRATCH: Final = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path("/tmp")
TRACE_LINES: Final = 60


def run_seed(seed: str, *, folder: Path | None = None) -> World:
    """One world, from its seed to its end."""
    where = folder or SCRATCH / f"agentd-sim-{os.getpid()}"
    world = World(seed, where)
    with the_dead_are_silent():
        try:
            world.run()
        finally:
            shutil.rmtree(where, ignore_errors=True)
            gc.collect()
    return world


@contextmanager
def the_dead_are_silent() -> Iterator[None]:
    """What was killed is taken apart by the collector; its generators complain that their loop is gone.

    And the ledger's own log lines go nowhere: a world has its trace.
    """
    before, sys.unraisablehook = sys.unraisablehook, lambda _: None
    logging = structlog.get_config()
    structlog.configure(
        processors=[_nothing], logger_factory=structlog.ReturnLoggerFactory(), cache_logger_on_first_use=False
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.unraisablehook = before
        structlog.configure(**logging)


def _nothing(logger: object, method: str, event: MutableMapping[str, Any]) -> str:
    del logger, method, event
    return ""


def told(world: World, lines: int = TRACE_LINES) -> str:
    """What a person needs to see of a world that failed."""
    said = [f"seed {world.seed}: {violation}" for violation in world.violations]
    return "\n".join([*(f"    {line}" for line in world.trace[-lines:]), *said])


def _figures(world: World) -> dict[str, int]:
    """What one world adds to the figures."""
    recalled = world.oracle.recall
    return {
        "seeds": 1,
        "requests": len(world.wire.requests),
        "call faults": sum(world.menu.fired.values()),
        "disk faults": world.disk.failures,
        "strikes": sum(world.struck.values()),
        "wishes": len(world.wishes),
        "journal rows": len(world.oracle.rows),
        "transitions told": recalled.told,
        "transitions covered by a gap": recalled.covered,
        "transitions lost": recalled.lost,
        "transitions invented": recalled.invented,
    }


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.run", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", help="one seed only, with its whole trace")
    parser.add_argument("--only", nargs="+", default=[], help="these seeds, one after the other")
    parser.add_argument("--seconds", type=float, default=0.0, help="no more seeds after this long")
    parser.add_argument("--digests", action="store_true", help="print each seed's digest")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON line, too")
    parser.add_argument("--stop", type=int, default=10, help="give up after so many failures")
    asked = parser.parse_args()
    if asked.seed is not None:
        world = run_seed(asked.seed)
        print(told(world, lines=len(world.trace)))
        print(f"digest {world.digest:08x}")
        return 1 if world.violations else 0
    began, failed, passed, totals = time.monotonic(), 0, 0, Tally[str]()
    for number in asked.only or range(asked.first, asked.first + asked.seeds):
        world = run_seed(str(number))
        totals.update(lives=world.lives, steps=world.steps, virtual_s=int(world.timeline.now))
        totals.update({f"life {how}": count for how, count in world.ends.items()})
        totals.update(_figures(world))
        if world.violations:
            failed += 1
            print(told(world), flush=True)
        else:
            passed += 1
        if asked.digests:
            print(f"seed {number} digest {world.digest:08x}", flush=True)
        if failed >= asked.stop or (asked.seconds and time.monotonic() - began > asked.seconds):
            break
    took = time.monotonic() - began
    print(", ".join(f"{name} {count}" for name, count in sorted(totals.items())))
    if asked.json:
        print(json.dumps({**totals, "passed": passed, "failed": failed, "seconds": round(time.monotonic() - began, 1)}))
    print(f"{passed + failed} seeds in {took:.1f} s = {(passed + failed) / took * 60:.0f} a minute")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
