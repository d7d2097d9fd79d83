"""Times, lengths, sizes and actors in the words that people read. Pure; used wherever a sentence is made."""

from typing import Final

from controller.core.untrusted import one_line
from controller.model.instant import NANOS_PER_S, Instant, to_rfc3339
from controller.model.reason import ACTOR_CONTROLLER, ACTOR_ENGINE, ACTOR_EXTERNAL

MIB: Final = 1024**2
GIB: Final = 1024**3
ACTOR_MAX_CHARS: Final = 80

_ACTORS: Final = {
    ACTOR_CONTROLLER: "the controller",
    ACTOR_ENGINE: "the engine",
    ACTOR_EXTERNAL: "somebody else",
}


def clock(instant: Instant, *, now: Instant) -> str:
    """`14:03:10 UTC`; with the date when that is not the day of `now`."""
    text, today = to_rfc3339(instant), to_rfc3339(now)
    time = f"{text[11:19]} UTC"
    return time if text[:10] == today[:10] else f"{text[:10]} {time}"


def stamp(instant: Instant) -> str:
    """RFC 3339 to the millisecond: `2026-03-02T14:03:10.123Z`."""
    return f"{to_rfc3339(instant)[:23]}Z"


def length(seconds: float) -> str:
    """`less than 1 s`, `12 s`, `4 min 10 s`, `3 h 5 min`, `2 d 4 h`."""
    whole = int(seconds)
    if whole < 1:
        return "less than 1 s"
    for unit, per, next_unit in ((86_400, 3600, ("d", "h")), (3600, 60, ("h", "min")), (60, 1, ("min", "s"))):
        if whole >= unit:
            rest = whole % unit // per
            return f"{whole // unit} {next_unit[0]}" + (f" {rest} {next_unit[1]}" if rest else "")
    return f"{whole} s"


def between(earlier: Instant, later: Instant) -> str:
    """The length from one instant to the next; never negative, because two clocks may be compared."""
    return length(max(later - earlier, 0) / NANOS_PER_S)


def memory(count: int) -> str:
    """`64 MiB`, `2 GiB`; in bytes where it is no whole number of either."""
    if count > 0 and count % GIB == 0:
        return f"{count // GIB} GiB"
    if count > 0 and count % MIB == 0:
        return f"{count // MIB} MiB"
    return f"{count} bytes"


def person(actor: str) -> str:
    """Who did it, as one says it: `alice`, `the controller`, `somebody else`."""
    name = actor.removeprefix("user:")
    if name != actor:
        return one_line(name, limit=ACTOR_MAX_CHARS) or "a user"
    return _ACTORS.get(actor, "nobody known")
