"""Many worlds: on one process or on several, from a numbered range that can be broken off and taken up again.

Each process has a folder of its own and is replaced after some hundred worlds. What each handful of worlds came to is
one line of a file, if one is named: who starts again with the same file plays only what is not in it yet.
"""

import gc
import json
import time
from collections import Counter as Tally
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, Self

from controller.model.reason import Reason
from tests.simulation.faults import STREAM_FAULTS
from tests.simulation.nemesis import STRIKES
from tests.simulation.playing import Shape, run_seed, told
from tests.simulation.rarer import RARE
from tests.simulation.sqlite import FAILURES
from tests.simulation.world import World

HANDFUL: Final = 10
HANDFULS_PER_PROCESS: Final = 50
AHEAD: Final = 2
"""Handfuls that wait for each process, so that none is ever idle."""


@dataclass(kw_only=True)
class Result:
    """What some worlds came to."""

    seeds: list[str] = field(default_factory=list)
    figures: Tally[str] = field(default_factory=Tally)
    reached: Tally[str] = field(default_factory=Tally)
    """How often each fault hit each kind of call, and each reason of a journal row was seen."""
    failures: dict[str, str] = field(default_factory=dict)
    """Seed -> its short trace."""
    digests: dict[str, str] = field(default_factory=dict)

    def add(self, other: Self) -> None:
        """Both together."""
        self.seeds += other.seeds
        self.figures.update(other.figures)
        self.reached.update(other.reached)
        self.failures.update(other.failures)
        self.digests.update(other.digests)

    @classmethod
    def of_line(cls, line: str) -> Self:
        """Read back from a file."""
        stored: dict[str, Any] = json.loads(line)
        return cls(**{**stored, "figures": Tally(stored["figures"]), "reached": Tally(stored["reached"])})


def figures_of(world: World) -> dict[str, int]:
    """What one world adds to the figures."""
    recalled = world.oracle.recall
    return {
        "seeds": 1,
        "lives": world.lives,
        "steps": world.steps,
        "virtual_s": int(world.timeline.now),
        "requests": len(world.wire.requests),
        "call faults": sum(world.menu.fired.values()),
        "disk faults": world.disk.failures.total(),
        "strikes": sum(world.struck.values()),
        "wishes": len(world.wishes),
        "journal rows": world.oracle.rows_count,
        "transitions told": recalled.told,
        "transitions covered by a gap": recalled.covered,
        "transitions lost": recalled.lost,
        "transitions invented": recalled.invented,
        **{f"life {how}": count for how, count in world.ends.items()},
        **world.oracle.asked,
    }


def play(seeds: Sequence[str], shape: Shape) -> Result:
    """These worlds, one after the other, in this process."""
    result = Result()
    for seed in seeds:
        began = time.process_time()
        world = run_seed(seed, shape=shape)
        result.figures["cpu_ms"] += round((time.process_time() - began) * 1000)
        result.seeds.append(seed)
        result.figures.update(figures_of(world))
        result.reached.update(world.menu.fired)
        result.reached.update({f"strike: {name}": count for name, count in world.struck.items()})
        result.reached.update({f"disk: {name}": count for name, count in world.disk.failures.items()})
        result.reached.update({f"reason: {reason}": count for reason, count in world.oracle.reasons.items()})
        result.digests[seed] = f"{world.digest:08x}"
        if world.violations:
            result.failures[seed] = told(world)
    return result


def campaign(
    seeds: Sequence[str],
    shape: Shape,
    *,
    jobs: int = 1,
    seconds: float = 0.0,
    at_least: int = 0,
    stop: int = 0,
    record: Path | None = None,
) -> Iterator[Result]:
    """Play them all, and tell what each handful came to. An end is put to it by time, or by so many failures.

    `at_least` so many are played, however long that takes.
    """
    played: set[str] = set()
    for result in _recorded(record):
        played.update(result.seeds)
        yield result
    left = [seed for seed in seeds if seed not in played]
    began, failures, played_count = time.monotonic(), 0, 0
    handfuls = (left[place : place + HANDFUL] for place in range(0, len(left), HANDFUL))
    playing = _side_by_side if jobs > 1 else _one_by_one
    for result in playing(handfuls, shape, jobs):
        if record is not None:
            with record.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(vars(result)) + "\n")
        failures += len(result.failures)
        played_count += len(result.seeds)
        yield result
        out_of_time = seconds and time.monotonic() - began > seconds and played_count >= at_least
        if (stop and failures >= stop) or out_of_time:
            return


def _recorded(record: Path | None) -> Iterator[Result]:
    if record is not None and record.exists():
        for line in record.read_text(encoding="utf-8").splitlines():
            yield Result.of_line(line)


def _one_by_one(handfuls: Iterator[Sequence[str]], shape: Shape, jobs: int) -> Iterator[Result]:
    del jobs
    gc.freeze()  # What is there for good need not be looked through after each world.
    for handful in handfuls:
        for seed in handful:
            yield play([seed], shape)


def _side_by_side(handfuls: Iterator[Sequence[str]], shape: Shape, jobs: int) -> Iterator[Result]:
    with ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=_begin, max_tasks_per_child=HANDFULS_PER_PROCESS
    ) as processes:
        waiting: set[Future[Result]] = set()
        try:
            while True:
                while len(waiting) < AHEAD * jobs and (handful := next(handfuls, None)):
                    waiting.add(processes.submit(play, handful, shape))
                if not waiting:
                    return
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            processes.shutdown(wait=True, cancel_futures=True)


def _begin() -> None:
    gc.freeze()


ALWAYS_POSSIBLE: Final = ("refused", "error", "hang", "late", "lost reply", "stale")
_KINDS: Final = (
    "connect",
    "events",
    "list ours",
    "list external",
    "inspect",
    "create",
    "start",
    "stop",
    "remove",
    "logs",
)
_ONLY: Final = {
    "gone": ("start", "stop", "remove", "inspect", "logs"),
    "conflict": ("create", "start", "remove"),
    "partial": ("list ours", "list external"),
}
UNREACHED: Final = frozenset({Reason.DEFECT, Reason.DUPLICATE, Reason.UNEXPECTED})
"""A reason that must never be seen, and two that no code gives."""
M2_PER: Final = 1000


def never_reached(result: Result) -> list[str]:
    """M2: kinds of faults that hit no call of a kind, strikes that never fell, and reasons that no row had."""
    wanted = [f"{kind}: {fault}" for kind in _KINDS for fault in ALWAYS_POSSIBLE]
    wanted += [f"{kind}: {fault}" for fault, kinds in _ONLY.items() for kind in kinds]
    wanted += [f"events: {what}" for what in STREAM_FAULTS]
    wanted += [f"strike: {name}" for name in (*STRIKES, *RARE)]
    wanted += [f"disk: {failure.name}" for failure in FAILURES]
    wanted += [f"reason: {reason.value}" for reason in Reason if reason not in UNREACHED]
    return [what for what in wanted if not result.reached[what]]
