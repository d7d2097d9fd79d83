"""Makes text from outside harmless before it is kept or shown. Pure.

What a container prints and what an engine says can hold terminal codes, forged line ends and broken characters.
"""

import re
from typing import Final

from controller.engine.limits import ERROR_TEXT_MAX_CHARS

_TERMINAL_CODE: Final = re.compile(
    r"\x1b\[[0-?]{0,64}[ -/]{0,8}[@-~]"  # a colour, a cursor movement
    r"|\x1b\][^\x07\x1b]{0,512}(?:\x07|\x1b\\)"  # a window title, a hyperlink
    r"|\x1b[@-Z\\-_]"
)
_CONTROL: Final = re.compile(
    r"[\x00-\x08\x0a-\x1f\x7f-\x9f"  # C0 without the tab, DEL, C1
    r"\u2028\u2029"  # line and paragraph separators
    r"\u200e\u200f\u202a-\u202e\u2066-\u2069"  # text that runs the other way
    r"\ud800-\udfff]"  # halves of characters
)
_BREAK: Final = re.compile(r"[\r\n\t\u2028\u2029]+")


def whole_characters(text: str) -> str:
    """Replace lone surrogates, which JSON can carry and no file or socket can."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def one_line(text: str) -> str:
    """Without terminal codes, control characters (a tab stays) and line ends."""
    return _CONTROL.sub("", _TERMINAL_CODE.sub("", text))


def brief(text: str) -> str:
    """An engine's message as one bounded line."""
    line = one_line(_BREAK.sub(" ", text[: 4 * ERROR_TEXT_MAX_CHARS])).strip()
    return line if len(line) <= ERROR_TEXT_MAX_CHARS else line[: ERROR_TEXT_MAX_CHARS - 1] + "…"
