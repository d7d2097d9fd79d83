"""Text from outside, made safe to stand in one of our sentences.

Engine errors, log lines, labels and names are hostile: they must not forge a line or send terminal codes. Pure; what
is stored stays as it came, only what is shown goes through here.
"""

from typing import Final

_CUT: Final = "…"
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"


def one_line(text: str, *, limit: int) -> str:
    """At most `limit` characters on one line; white space becomes a blank, anything else unprintable is replaced."""
    head = text[: 4 * limit]
    line = " ".join("".join(c if c.isprintable() or c.isspace() else _REPLACEMENT for c in head).split())
    if len(line) <= limit and len(head) == len(text):
        return line
    return line[: limit - 1] + _CUT
