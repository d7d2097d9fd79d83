"""The wall clock, for people: how long ago, how soon."""

from datetime import UTC, datetime

from controller.model.instant import Instant, from_rfc3339, seconds_between


def wall_now() -> Instant:
    """Now, by this host's wall clock."""
    moment = datetime.now(UTC)
    return Instant(int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1_000)


def ago(stamp: str | None) -> str:
    """`3m ago`."""
    instant = from_rfc3339(stamp or "")
    return "" if instant is None else f"{length(max(seconds_between(instant, wall_now()), 0))} ago"


def ahead(stamp: str | None) -> str:
    """`in 8s`; `now` when it is due."""
    instant = from_rfc3339(stamp or "")
    if instant is None:
        return ""
    left = seconds_between(wall_now(), instant)
    return f"in {length(left)}" if left >= 1 else "now"


def length(seconds: float) -> str:
    """The two largest units at most: `2h 5m`."""
    whole = int(seconds)
    for size, unit, below, smaller in ((86_400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            rest = whole % size // below
            return f"{whole // size}{unit} {rest}{smaller}" if rest else f"{whole // size}{unit}"
    return f"{whole}s"
