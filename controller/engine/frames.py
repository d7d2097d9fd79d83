"""Turns the bytes of a log answer into lines: takes the engine's frames apart, or reads raw text. Pure.

Without a terminal the engine sends frames (`stream 0 0 0 length`, then the bytes); with one, plain bytes. Older
engines do not say which, so the first bytes decide. Each of the two streams has its own unfinished line, so that half
a line of one is never glued to the other's.
"""

from collections.abc import Iterator
from typing import Final

from controller.engine.limits import LOG_LINE_MAX_BYTES

_HEAD_BYTES: Final = 8
_STREAMS: Final = (0, 1, 2)


class LogLines:
    """Feed it chunks as they come; it gives back whole lines as bytes, long ones cut."""

    def __init__(self, *, line_max_bytes: int = LOG_LINE_MAX_BYTES) -> None:
        self._line_max_bytes = line_max_bytes
        self._pending = bytearray()
        self._framed: bool | None = None
        self._stream = 0
        self._missing = 0
        """Bytes of the current frame that have not come yet."""
        self._unfinished: dict[int, bytearray] = {}
        self.cut = False
        """Whether any line was too long."""

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that this chunk completes."""
        self._pending += chunk
        if self._framed is None:
            if len(self._pending) < 4:
                return []
            self._framed = self._pending[0] in _STREAMS and self._pending[1:4] == b"\0\0\0"
        return [line for stream, payload in self._payloads() for line in self._split(stream, payload)]

    def finish(self) -> list[bytes]:
        """Unfinished lines, when the output is over."""
        lines = self._split(0, bytes(self._pending)) if self._framed is None else []
        self._pending.clear()
        rest = [bytes(self._unfinished[stream]) for stream in sorted(self._unfinished)]
        self._unfinished.clear()
        return lines + [line for line in rest if line]

    def _payloads(self) -> Iterator[tuple[int, bytes]]:
        if not self._framed:
            yield 0, bytes(self._pending)
            self._pending.clear()
            return
        position = 0
        while True:
            if self._missing == 0:
                if len(self._pending) - position < _HEAD_BYTES:
                    break
                self._stream = self._pending[position]
                self._missing = int.from_bytes(self._pending[position + 4 : position + _HEAD_BYTES], "big")
                position += _HEAD_BYTES
            payload = bytes(self._pending[position : position + self._missing])
            position += len(payload)
            self._missing -= len(payload)
            if payload:
                yield self._stream, payload
            if self._missing:
                break
        del self._pending[:position]

    def _split(self, stream: int, payload: bytes) -> list[bytes]:
        unfinished = self._unfinished.setdefault(stream, bytearray())
        lines = []
        *ended, rest = payload.split(b"\n")
        for piece in ended:
            self._append(unfinished, piece)
            lines.append(bytes(unfinished))
            unfinished.clear()
        self._append(unfinished, rest)
        return lines

    def _append(self, unfinished: bytearray, piece: bytes) -> None:
        room = self._line_max_bytes - len(unfinished)
        if len(piece) > room:
            self.cut = True
        unfinished += piece[: max(room, 0)]
