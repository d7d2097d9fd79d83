"""Sizes, lengths of time and counts as people type them. A ValueError is a usage error."""

import math
import re
from typing import Final

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([bkmgt]?)(?:i?b)?", re.IGNORECASE)
_SIZE_UNITS: Final = {"": 1, "b": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
_LENGTH: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)", re.IGNORECASE)
_LENGTH_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def size_bytes(text: str) -> int:
    """`512m` is 536870912."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is not a size: use such as 512m or 2g")
    return int(_finite(float(found[1]) * _SIZE_UNITS[found[2].lower()], text))


def seconds(text: str) -> float:
    """`15m` is 900."""
    found = _LENGTH.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is not a length of time: use such as 90, 90s, 15m or 2h")
    return _finite(float(found[1]) * _LENGTH_UNITS[found[2].lower()], text)


def number(text: str) -> float:
    """`0.5` as it is."""
    try:
        return _finite(float(text), text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number: use such as 0.5 or 2") from None


def count(text: str) -> int:
    """A whole number, not negative."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def _finite(value: float, text: str) -> float:
    # JSON has no word for anything else.
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is too large")
    return value
