"""Writes lines from a thread of its own: a reader that does not read holds up that thread, and nobody else.

A pipe takes 64 KiB and then blocks whoever writes, for as long as its reader hangs: a log driver that waits for its
network, a supervisor that is stuck, a terminal after Ctrl-S. Lines that find no room are dropped and counted, and the
count stands where they would have been. The journal holds what they told. Imports nothing of ours.
"""

import os
import select
from collections import deque
from collections.abc import Callable
from threading import Condition, Thread
from typing import Final, Self, TextIO

import anyio

WAITING_MAX_BYTES: Final = 4 * 1024 * 1024
"""Lines that wait for the reader; some thousands."""
CATCH_UP_S: Final = 2.0
"""What an orderly end gives a reader for the last lines."""


class LineWriter:
    """One thread, and the lines that wait for it, in order. Lines that come after its context go nowhere.

    `lost` makes the line which says that so many are missing in its place.
    """

    def __init__(
        self, stream: TextIO, *, lost: Callable[[int], str], waiting_max_bytes: int = WAITING_MAX_BYTES
    ) -> None:
        self._stream = stream
        # Written to as a file: what is stuck in the stream's own buffer would be waited for when the interpreter ends.
        self._file = stream.fileno()
        self._encoding = stream.encoding
        self._lost = lost
        self._waiting_max_bytes = waiting_max_bytes
        self._waiting: deque[bytes | int] = deque()
        """Lines, and counts of lines that found no room."""
        self._waiting_bytes = 0
        self._is_writing = False
        self._has_ended = False
        self._is_torn = False
        self._changed = Condition()
        # A daemon: a write that never returns must not keep the process.
        self._thread = Thread(target=self._run, name="line writer", daemon=True)

    def __enter__(self) -> Self:
        """Begin to write."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Write what waits, for as long as the reader takes it within the limit."""
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()
        self._thread.join(CATCH_UP_S)

    def write(self, text: str) -> None:
        """Whole lines, from any thread. Never waits for the reader."""
        line = text.encode(self._encoding, "backslashreplace")
        with self._changed:
            if self._has_ended:
                return
            if self._waiting_bytes + len(line) <= self._waiting_max_bytes:
                self._waiting.append(line)
                self._waiting_bytes += len(line)
            elif self._waiting and isinstance(self._waiting[-1], int):
                self._waiting[-1] += 1
            else:
                self._waiting.append(1)
            self._changed.notify_all()

    def flush(self) -> None:
        """Nothing: the thread writes as soon as it can."""

    def isatty(self) -> bool:
        """Whether a person reads."""
        return self._stream.isatty()

    def is_behind(self) -> bool:
        """Whether something waits for the reader."""
        with self._changed:
            return self._is_writing or bool(self._waiting)

    async def catch_up(self) -> None:
        """Return when nothing waits any more, or when the reader has had its time."""
        await anyio.to_thread.run_sync(self._wait_until_idle, abandon_on_cancel=True)

    def _wait_until_idle(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not (self._is_writing or self._waiting), CATCH_UP_S)

    def _run(self) -> None:
        lost = 0
        while (item := self._next()) is not None:
            if isinstance(item, int):
                lost += item
            if lost and self._is_written(self._lost(lost).encode(self._encoding, "backslashreplace")):
                lost = 0
            if isinstance(item, bytes) and (lost or not self._is_written(item)):
                lost += 1

    def _next(self) -> bytes | int | None:
        """What comes next; None when it has ended."""
        with self._changed:
            self._is_writing = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._waiting or self._has_ended)
            if not self._waiting:
                return None
            self._is_writing = True
            item = self._waiting.popleft()
            if isinstance(item, bytes):
                self._waiting_bytes -= len(item)
            return item

    def _is_written(self, line: bytes) -> bool:
        """Write it, however long that takes; false when nobody reads any more, or the disk is full."""
        rest = b"\n" + line if self._is_torn else line
        while rest:
            try:
                rest = rest[os.write(self._file, rest) :]
            except BlockingIOError:
                # Whoever shares the pipe with us has made it so.
                select.select([], [self._file], [])
            except OSError:
                return False
            else:
                self._is_torn = bool(rest)
        return True
