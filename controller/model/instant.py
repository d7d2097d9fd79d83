"""Instants are whole nanoseconds since 1970-01-01 UTC, as the engine's own `timeNano` is.

An int loses no digit of an engine's StartedAt (which is part of an attempt's identity), compares and adds
exactly, and is a plain INTEGER in the ledger. RFC 3339 is for the edges.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Final, NewType

Instant = NewType("Instant", int)

NANOS_PER_S: Final = 1_000_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339: Final = re.compile(r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)")


def after(instant: Instant, seconds: float) -> Instant:
    """The instant that many seconds later (earlier when negative)."""
    return Instant(instant + round(seconds * NANOS_PER_S))


def seconds_between(earlier: Instant, later: Instant) -> float:
    """Seconds from the first instant to the second; negative when they are in the other order."""
    return (later - earlier) / NANOS_PER_S


def to_rfc3339(instant: Instant) -> str:
    """RFC 3339 in UTC with nine digits of fraction, so that text sorts as time does."""
    seconds, nanos = divmod(instant, NANOS_PER_S)
    moment = _EPOCH + timedelta(seconds=seconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanos:09d}Z"


def from_rfc3339(text: str) -> Instant | None:
    """Read an engine's timestamp, to the nanosecond. None for its zero time (`0001-01-01…`), for "" and for junk."""
    found = _RFC3339.fullmatch(text)
    if found is None:
        return None
    whole, fraction, zone = found.groups()
    try:
        moment = datetime.fromisoformat(whole.upper() + ("+00:00" if zone in "Zz" else zone))
    except ValueError:
        return None
    if moment.year < 1970:
        return None
    since_epoch = moment - _EPOCH
    seconds = since_epoch.days * 86_400 + since_epoch.seconds
    return Instant(seconds * NANOS_PER_S + int((fraction or "").ljust(9, "0")[:9]))
