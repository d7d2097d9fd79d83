"""Runs worlds: `python -m tests.simulation.run --seeds 500`, or `--seed 4711` for one with its trace.

A seed that fails is printed with a short trace and replays exactly, in any process. A long run is
`--seeds 20000 --jobs 2 --record FILE`; broken off, the same command takes it up where it was.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from tests.simulation.campaign import M2_PER, Result, campaign, never_reached
from tests.simulation.knobs import RECALL
from tests.simulation.playing import Shape, run_seed, told


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.run", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", help="one seed only, with its whole trace")
    parser.add_argument("--only", nargs="+", default=[], help="these seeds, one after the other")
    parser.add_argument("--jobs", type=int, default=1, help="so many processes")
    parser.add_argument("--record", type=Path, help="a file of what was played; what is in it is not played again")
    parser.add_argument("--seconds", type=float, default=0.0, help="no more seeds after this long")
    parser.add_argument("--at-least", type=int, default=0, help="so many seeds all the same")
    parser.add_argument("--sessions", type=int, help="so many sessions in each world, not as drawn")
    parser.add_argument("--minutes", type=float, help="so long until the quiet hour, not as drawn")
    parser.add_argument("--usual", action="store_true", help="settings as people have them, of every fault a little")
    parser.add_argument("--recall", action="store_true", help="only worlds in which recall can be asked (recall-SEED)")
    parser.add_argument("--digests", action="store_true", help="print each seed's digest")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON line, too")
    parser.add_argument("--stop", type=int, default=10, help="give up after so many failures")
    asked = parser.parse_args()
    minutes: float | None = asked.minutes
    shape = Shape(sessions_count=asked.sessions, quiet_at_s=minutes and minutes * 60, as_usual=asked.usual)
    if asked.seed is not None:
        world = run_seed(asked.seed, shape=shape)
        print(told(world, lines=len(world.trace)))
        print(f"digest {world.digest:08x}")
        return 1 if world.violations else 0
    return _many(asked, shape)


def _many(asked: argparse.Namespace, shape: Shape) -> int:
    kind = RECALL if asked.recall else ""
    seeds = asked.only or [f"{kind}{number}" for number in range(asked.first, asked.first + asked.seeds)]
    began, total = time.monotonic(), Result()
    for result in campaign(
        seeds,
        shape,
        jobs=asked.jobs,
        seconds=asked.seconds,
        at_least=asked.at_least,
        stop=asked.stop,
        record=asked.record,
    ):
        total.add(result)
        for trace in result.failures.values():
            print(trace, flush=True)
        for seed, digest in result.digests.items() if asked.digests else ():
            print(f"seed {seed} digest {digest}", flush=True)
    took, failed = time.monotonic() - began, len(total.failures)
    passed = len(total.seeds) - failed
    print(", ".join(f"{name} {count}" for name, count in sorted(total.figures.items())))
    if asked.json:
        print(json.dumps({**total.figures, "passed": passed, "failed": failed, "seconds": round(took, 1)}))
    missed = never_reached(total)
    print(f"never reached: {', '.join(missed) or 'nothing'}")
    if total.failures:
        print(f"failed: {' '.join(sorted(total.failures, key=lambda seed: (len(seed), seed)))}")
    cores_s = max(total.figures["cpu_ms"], 1) / 1000
    print(f"{cores_s:.1f} s of one core = {(passed + failed) / cores_s * 60:.0f} a minute")
    print(f"{passed + failed} seeds in {took:.1f} s = {(passed + failed) / took * 60:.0f} a minute")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or (missed and len(total.seeds) >= M2_PER) else 0


if __name__ == "__main__":
    sys.exit(main())
