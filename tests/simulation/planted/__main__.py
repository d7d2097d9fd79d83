"""Looks for each planted bug: `python -m tests.simulation.planted`. Prints where it was found, or that it was not."""

import argparse
import gc
import random
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

from tests.simulation.complete import NOTHING, Mishap, mishaps, play
from tests.simulation.planted.bugs import BUGS, Planted
from tests.simulation.playing import run_seed
from tests.simulation.scenarios import SCENARIOS, Scenario

RUNS_MAX = 400
SEEDS_MAX = 300
"""As many as CI plays."""


def find(bug: Planted, *, seeds: int = SEEDS_MAX, runs: int = RUNS_MAX) -> tuple[str, int]:
    """Where it shows first, and after how many runs; "" when it hides.

    What a world shows without the bug, too, does not count: no run is its own proof.
    """
    number = 0
    for where, play_it in _runs(bug, seeds=seeds, runs=runs):
        number += 1
        with bug.plant():
            violation = play_it()
        if "TypeError" in violation or "AttributeError" in violation:
            return "", number  # Not the bug shows there, but that it no longer fits the program.
        if violation and not play_it():
            return f"{where}: {violation}", number
    return "", number


def _runs(bug: Planted, *, seeds: int, runs: int) -> Iterator[tuple[str, Callable[[], str]]]:
    """Where, and what plays it and returns the first violation."""
    if not bug.scenario:
        for seed in range(seeds):
            yield f"seed {seed}", partial(_violation_of_seed, str(seed))
        return
    scenario = scenario_named(bug.scenario)
    yield scenario.name, partial(_violation_of_run, scenario, NOTHING)
    _, space = play(scenario)
    every = list(mishaps(scenario, space))
    random.Random(scenario.name).shuffle(every)
    every.sort(key=lambda mishap: mishap.kind != bug.kind)
    for mishap in every[:runs]:
        yield f"{scenario.name}, {mishap}", partial(_violation_of_run, scenario, mishap)


def _violation_of_seed(seed: str) -> str:
    return "".join(run_seed(seed).violations[:1])


def _violation_of_run(scenario: Scenario, mishap: Mishap) -> str:
    return "".join(play(scenario, mishap)[0].violations[:1])


def scenario_named(name: str) -> Scenario:
    """One of them."""
    return next(scenario for scenario in SCENARIOS if scenario.name == name)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.planted", description=__doc__)
    parser.add_argument("--only", default="", help="bugs whose name contains this")
    asked = parser.parse_args()
    gc.freeze()
    chosen = [bug for bug in BUGS if asked.only in bug.name]
    missed = 0
    for bug in chosen:
        began = time.monotonic()
        where, runs = find(bug)
        missed += not where
        shown = f"found in run {runs}: {where[:150]}" if where else "NOT FOUND"
        print(f"{bug.name:40} {time.monotonic() - began:6.1f} s  {shown}", flush=True)
    print(f"all of it took {time.process_time():.0f} s of one core")
    print(f"{len(chosen) - missed} passed, {missed} failed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
