"""Cuts the event stream's bytes into lines, each on its own. Pure.

One bad or endless line must cost one line, not the stream: it becomes a BadLine, which is counted and swept after.
"""

from typing import Final

from controller.engine.limits import EVENT_LINE_MAX_BYTES
from controller.interfaces import BadLine

TOO_LONG: Final = BadLine(why="too long")


class LineReader:
    """Feed it chunks as they come; it gives back whole lines without their ends, and never keeps more than one."""

    def __init__(self, *, max_bytes: int = EVENT_LINE_MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._rest = bytearray()
        self._skipping = False

    def feed(self, chunk: bytes) -> list[bytes | BadLine]:
        """The lines that this chunk completes. Blank ones are left out."""
        items: list[bytes | BadLine] = []
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            self._append(piece, items)
            self._end(items)
        self._append(rest, items)
        return items

    def finish(self) -> bytes:
        """What came after the last line end, when the stream is over."""
        rest, self._rest = bytes(self._rest), bytearray()
        return rest.strip()

    def _append(self, piece: bytes, items: list[bytes | BadLine]) -> None:
        if self._skipping:
            return
        if len(self._rest) + len(piece) > self._max_bytes:
            self._skipping = True
            self._rest.clear()
            items.append(TOO_LONG)
            return
        self._rest += piece

    def _end(self, items: list[bytes | BadLine]) -> None:
        self._skipping = False
        line = bytes(self._rest).strip()
        self._rest.clear()
        if line:
            items.append(line)
