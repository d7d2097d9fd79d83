"""Restarts counted by what the engine told, not by the controller: none beyond the policy, none forgotten.

For sessions that fail each time, soon, and that nobody drives: their starts follow from their policy alone. A restart
is judged as forgotten only where the oracle heard all along; where the engine was down, nobody can tell.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from tests.support.stream_oracle import Happening, Stretch

BACKOFF_FIRST_S: Final = 10.0
JITTER: Final = 1.25
LATE_S: Final = 30.0
"""The controller may just be dead, or not be ready yet, when a restart is due."""
_S: Final = 1_000_000_000


@dataclass(kw_only=True)
class RestartCount:
    """What was wrong, and how much was counted."""

    extra: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    counted: int = 0


def count_restarts(
    happened: Sequence[Happening], deaf: Sequence[Stretch], *, containers: Iterable[str], granted: int, now: int
) -> RestartCount:
    """Each of the containers, known by name, may have so many restarts, and must have them after each failure."""
    found = RestartCount()
    for name in containers:
        told = [one for one in happened if one.name == name and one.action in ("start", "die")]
        starts = sum(one.action == "start" for one in told)
        found.counted += max(starts - 1, 0)
        if starts > 1 + granted:
            found.extra.append(f"{name} was started {starts} times, its policy grants {granted} restarts")
        found.forgotten += _forgotten(name, told, deaf, granted=granted, now=now)
    return found


def _forgotten(
    name: str, told: Sequence[Happening], deaf: Sequence[Stretch], *, granted: int, now: int
) -> Iterable[str]:
    starts = 0
    for one, following in pairwise([*told, None]):
        assert one is not None
        if one.action == "start":
            starts += 1
            continue
        # Its own word: an end by a signal is somebody's deed, and 255 is what an engine says that has seen nothing.
        failed = 0 < int(one.attributes["exitCode"]) < 128
        if not failed or starts > granted:
            continue
        until = one.at + int((BACKOFF_FIRST_S * 2.0 ** max(starts - 1, 0) * JITTER + LATE_S) * _S)
        came_at = following.at if following is not None else now
        if came_at > until and not any(each.meets(one.at, until) for each in deaf):
            yield f"{name} failed at {one.at} after {starts} starts, and was not started by {until}"
