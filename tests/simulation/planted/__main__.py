"""Looks for each planted bug: `python -m tests.simulation.planted`. Prints where it was found, or that it was not."""

import argparse
import random
import sys
import time
from collections.abc import Iterator

from tests.simulation.complete import mishaps, play
from tests.simulation.planted.bugs import BUGS, Planted
from tests.simulation.playing import run_seed
from tests.simulation.scenarios import SCENARIOS, Scenario

RUNS_MAX = 120
SEEDS_MAX = 50


def find(bug: Planted, *, seeds: int = SEEDS_MAX, runs: int = RUNS_MAX) -> tuple[str, int]:
    """Where it shows first, and after how many runs; "" when it hides."""
    with bug.plant():
        for number, (where, violation) in enumerate(_violations(bug, seeds=seeds, runs=runs), start=1):
            if "TypeError" in violation or "AttributeError" in violation:
                return "", number  # Not the bug shows there, but that it no longer fits the program.
            if violation:
                return f"{where}: {violation}", number
    return "", 0


def _violations(bug: Planted, *, seeds: int, runs: int) -> Iterator[tuple[str, str]]:
    if not bug.scenario:
        for seed in range(seeds):
            world = run_seed(str(seed))
            yield f"seed {seed}", "".join(world.violations[:1])
        return
    scenario = scenario_named(bug.scenario)
    world, space = play(scenario)
    yield scenario.name, "".join(world.violations[:1])
    every = list(mishaps(scenario, space))
    random.Random(scenario.name).shuffle(every)
    for mishap in every[:runs]:
        world, _ = play(scenario, mishap)
        yield f"{scenario.name}, {mishap}", "".join(world.violations[:1])


def scenario_named(name: str) -> Scenario:
    """One of the thirteen."""
    return next(scenario for scenario in SCENARIOS if scenario.name == name)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.planted", description=__doc__)
    parser.add_argument("--only", default="", help="bugs whose name contains this")
    asked = parser.parse_args()
    missed = 0
    for bug in BUGS:
        if asked.only not in bug.name:
            continue
        began = time.monotonic()
        where, runs = find(bug)
        missed += not where
        shown = f"found in run {runs}: {where[:150]}" if where else "NOT FOUND"
        print(f"{bug.name:40} {time.monotonic() - began:6.1f} s  {shown}", flush=True)
    print(f"{len(BUGS) - missed} passed, {missed} failed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
