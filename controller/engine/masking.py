"""Hides secrets in text that a container printed. Pure.

It knows the shapes of common keys and the words that stand before a secret. It is a net with holes, not a promise:
a secret without shape and without such a word passes. Every repetition is bounded, so that a hostile line costs
little time.
"""

import re
from typing import Final

MASK: Final = "***"

_SHAPES: Final = re.compile(
    r"\b(?:"
    r"sk-[A-Za-z0-9_-]{8,}"
    r"|gh[pousr]_[A-Za-z0-9]{16,}"
    r"|github_pat_[A-Za-z0-9_]{20,}"
    r"|glpat-[A-Za-z0-9_-]{16,}"
    r"|(?:AKIA|ASIA)[0-9A-Z]{12,}"
    r"|AIza[0-9A-Za-z_-]{20,}"
    r"|xox[abprs]-[A-Za-z0-9-]{10,}"
    r"|(?:hf|gsk|npm)_[A-Za-z0-9]{20,}"
    r"|xai-[A-Za-z0-9]{20,}"
    r"|[rs]k_(?:live|test)_[A-Za-z0-9]{16,}"
    # Only where a run of its signs begins: else a hostile line has each of its runs searched from everywhere.
    r"|(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,2000}\.[A-Za-z0-9_-]{8,4000}(?:\.[A-Za-z0-9_-]{0,2000})?"
    r")"
)
_SCHEME: Final = re.compile(r"(?i)\b(bearer|basic)[ \t]{1,4}[A-Za-z0-9+/=._~-]{8,}")
_USER: Final = re.compile(r"(://[^\s/:@]{0,100}:)[^\s/@]{1,200}@")
_VALUE: Final = r"""(?:"[^"\n]{%d,400}"?|'[^'\n]{%d,400}'?|[^\s"',;&]{%d,})"""
_PASSWORD: Final = re.compile(
    r"""(?i)((?:passwor[dt]|passwd|passphrase|pwd)["']?[ \t]{0,3}[:=][ \t]{0,3})""" + _VALUE % (1, 1, 1)
)
_NAMED: Final = re.compile(
    r"""(?i)((?:key|token|secret|credential)s?["']?[ \t]{0,3}[:=][ \t]{0,3})""" + _VALUE % (8, 8, 8)
)


def masked(line: str) -> str:
    """The line with what looks like a secret replaced."""
    line = _SHAPES.sub(MASK, line)
    line = _SCHEME.sub(rf"\1 {MASK}", line)
    line = _USER.sub(rf"\1{MASK}@", line)
    line = _PASSWORD.sub(rf"\1{MASK}", line)
    return _NAMED.sub(rf"\1{MASK}", line)
