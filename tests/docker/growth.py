"""What a controller holds, watched from outside, and whether it grows."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final, Self

from tests.support.controller_process import ControllerProcess

FILES_MAX: Final = 120
THREADS_MAX: Final = 40
TASKS_MAX: Final = 300
TASKS_AT_REST_MAX: Final = 30
"""17 were measured: the loops, and what belongs to the edge and to one window of the stream."""
TASKS_GROWTH_MAX: Final = 1
"""One who asks may still be on the line."""
WARM_UP_S: Final = 60.0
"""Of the steady stretch: what a life needs anyway is not growth."""
JUDGED_MIN_S: Final = 60.0
RSS_SETTLING_MIB: Final = 4.0
"""The allocator's own: half of it was measured after the warm-up."""
RSS_MIB_PER_H: Final = 30.0
"""What a thousand or two of sessions an hour take, which stay known for days after their removal."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What one life of the controller holds at one moment."""

    life: int
    at_s: float
    sessions: int
    """How many were made so far, by all lives: what was removed is known until it is pruned, after days."""
    steady: bool
    """The controller is not killed any more."""
    at_rest: bool
    """Nothing is on its way."""
    rss_mib: float
    files: int
    threads: int
    tasks: int | None
    """By its own word; None when it gave none."""

    @classmethod
    def of(
        cls, controller: ControllerProcess, *, life: int, at_s: float, sessions: int, steady: bool, at_rest: bool
    ) -> Self | None:
        """From /proc, and from what it says; None when it is gone."""
        if not controller.alive:
            return None
        try:
            lines = Path(f"/proc/{controller.pid}/status").read_text().splitlines()
            files = len(list(Path(f"/proc/{controller.pid}/fd").iterdir()))
        except OSError:
            return None
        status = dict(line.split(":", 1) for line in lines if ":" in line)
        if "VmRSS" not in status:
            return None
        return cls(
            life=life,
            at_s=at_s,
            sessions=sessions,
            steady=steady,
            at_rest=at_rest,
            rss_mib=int(status["VmRSS"].split()[0]) / 1024,
            files=files,
            threads=int(status["Threads"]),
            tasks=_tasks(controller),
        )


def _tasks(controller: ControllerProcess) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        told = controller.request("GET", "/healthz", timeout_s=5)[1].get("tasks")
        return told if isinstance(told, int) else None
    return None


def highest(samples: Sequence[Sample]) -> dict[str, float]:
    """The most that any life held of anything."""
    return {
        "rss_mib_max": round(max(one.rss_mib for one in samples), 1),
        "files_max": max(one.files for one in samples),
        "threads_max": max(one.threads for one in samples),
        "tasks_max": max(one.tasks or 0 for one in samples),
    }


def judge_growth(samples: Sequence[Sample]) -> tuple[dict[str, float | None], list[str]]:
    """Figures of the steady stretch, and what is beyond its limit. Memory that was not judged is None, and told."""
    complaints = [
        f"{most:g} {what}, at most {limit} are expected"
        for what, limit in (("files", FILES_MAX), ("threads", THREADS_MAX), ("tasks", TASKS_MAX))
        if (most := highest(samples)[f"{what}_max"]) > limit
    ]
    at_rest = [one.tasks for one in samples if one.steady and one.at_rest and one.tasks is not None]
    if not at_rest:
        complaints.append("it never told its tasks at rest")
    elif max(at_rest) > TASKS_AT_REST_MAX or at_rest[-1] - at_rest[0] > TASKS_GROWTH_MAX:
        complaints.append(f"tasks at rest: {at_rest}, at most {TASKS_AT_REST_MAX} are expected, and no growth")
    judged_s, grown_mib = _memory(samples)
    limit_mib = RSS_SETTLING_MIB + RSS_MIB_PER_H * judged_s / 3600
    if grown_mib is not None and grown_mib > limit_mib:
        complaints.append(
            f"memory grew by {grown_mib:.1f} MiB within {judged_s:.0f} s, at most {limit_mib:.1f} are expected"
        )
    figures = {
        "rss_judged_s": round(judged_s),
        "rss_grown_mib": None if grown_mib is None else round(grown_mib, 2),
        "rss_limit_mib": round(limit_mib, 1),
        "tasks_at_rest_first": at_rest[0] if at_rest else None,
        "tasks_at_rest_last": at_rest[-1] if at_rest else None,
    }
    return figures, complaints


def _memory(samples: Sequence[Sample]) -> tuple[float, float | None]:
    """For how long it was watched, from the middle of the first third to that of the last, and how much it grew."""
    steady = [one for one in samples if one.steady]
    # Should a life end by itself, which is a fault of its own, only the last one is compared.
    of_life = [one for one in steady if one.life == steady[-1].life] if steady else []
    warm = [one for one in of_life if one.at_s - of_life[0].at_s > WARM_UP_S]
    length_s = warm[-1].at_s - warm[0].at_s if warm else 0.0
    if length_s < JUDGED_MIN_S:
        return 0.0, None
    first = [one.rss_mib for one in warm if one.at_s - warm[0].at_s <= length_s / 3]
    last = [one.rss_mib for one in warm if warm[-1].at_s - one.at_s <= length_s / 3]
    return length_s * 2 / 3, median(last) - median(first)
