"""One window of the engine's event stream, read by our own line reader on aiodocker's session.

aiodocker's event helper ends for good on one bad line, and hides why a stream ended. Here each line stands alone, an
end before its time is an error, and a stream that does not end when it should is dead.
"""

import json
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import aiohttp
import anyio

from controller.engine import translate
from controller.engine.connection import EngineClock
from controller.engine.failures import asking
from controller.engine.lines import LineReader
from controller.errors import EngineUnavailable
from controller.interfaces import BadLine, StreamItem
from controller.model.instant import NANOS_PER_S, Instant

CUT: Final = BadLine(why="cut")

_ACTIONS: Final = (
    "create",
    "start",
    "restart",
    "die",
    "kill",
    "stop",
    "oom",
    "pause",
    "unpause",
    "rename",
    "update",
    "destroy",
    "health_status",
    "died",
    "remove",
)
"""The last two are Podman's words for `die` and `destroy`."""

_EARLY_S: Final = 2.0
"""An end this much before `until` is the engine going away; less is the two clocks' disagreement."""

_LAST_READ_S: Final = 1.0
"""For what is already on its way when the time is up."""

_CHUNKS_AHEAD: Final = 256
"""Read and not yet asked for: mostly one event each, at most about 128 KiB each. Beyond it the engine has to wait."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """What to ask for, and how long to wait for it. Instants are the engine's."""

    since: Instant
    until: Instant
    clock: EngineClock
    head_s: float
    overdue_s: float

    def params(self) -> dict[str, str]:
        """The query of the request. No label filter: engines AND or OR them as they like; the core sorts."""
        return {
            "since": engine_time(self.since),
            "until": engine_time(self.until),
            "filters": json.dumps({"type": ["container"], "event": list(_ACTIONS)}),
        }

    @property
    def length_s(self) -> float:
        """Seconds from now within which the stream must have ended. A window that lies in the past is a replay."""
        return max(self.clock.until(self.until), 0.0) + self.overdue_s

    @property
    def ends_early(self) -> bool:
        """Whether an end just now comes before its time."""
        return self.clock.until(self.until) > _EARLY_S


def engine_time(instant: Instant) -> str:
    """Seconds and nine digits, the one form that every engine reads without loss."""
    seconds, nanos = divmod(instant, NANOS_PER_S)
    return f"{seconds}.{nanos:09d}"


class EventStream:
    """Iterates over events and bad lines. Ends at `until`; raises EngineUnavailable when it breaks before.

    A task reads ahead, because aiohttp throws away what it has buffered when a connection breaks: an engine that
    stops sends its last `die`s and hangs up in one breath.
    """

    def __init__(self, *, window: Window, request: Callable[[], Awaitable[aiohttp.ClientResponse]]) -> None:
        self._window = window
        self._request = request
        self._deadline = anyio.current_time() + window.length_s
        self._chunks_in, self._chunks_out = anyio.create_memory_object_stream[bytes](_CHUNKS_AHEAD)
        self._lines = LineReader()
        self._ready: deque[StreamItem] = deque()
        self._asked = anyio.Event()
        self._has_head = False
        self._over = False
        self._broken: EngineUnavailable | None = None

    async def read_ahead(self) -> None:
        """Send the request and read until the stream is over; to be run beside the one who iterates."""
        with self._chunks_in:
            try:
                await self._read_all()
            except EngineUnavailable as error:
                self._broken = error
            finally:
                self._asked.set()

    async def answered(self) -> None:
        """Return once the response head came. Raises EngineUnavailable when it does not."""
        with anyio.move_on_after(self._window.head_s):
            await self._asked.wait()
            if self._broken is not None and not self._has_head:
                raise self._broken
            return
        raise EngineUnavailable(f"open the event stream: no answer within {self._window.head_s:g} s")

    def close(self) -> None:
        """Forget what has not been asked for."""
        self._chunks_out.close()

    def __aiter__(self) -> "EventStream":
        return self

    async def __anext__(self) -> StreamItem:
        while not self._ready:
            if not self._over:
                await self._take_chunk()
            elif self._broken is not None:
                raise self._broken
            else:
                raise StopAsyncIteration
        return self._ready.popleft()

    async def _read_all(self) -> None:
        async with asking("open the event stream", limit_s=self._left_s()):
            response = await self._request()
        self._has_head = True
        self._asked.set()
        try:
            while chunk := await self._read(response):
                await self._chunks_in.send(chunk)
        finally:
            response.close()
        if self._window.ends_early:
            raise EngineUnavailable("the engine ended the event stream before its time")

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        async with asking("read the event stream", limit_s=self._left_s()):
            return await response.content.readany()

    def _left_s(self) -> float:
        return max(self._deadline - anyio.current_time(), _LAST_READ_S)

    async def _take_chunk(self) -> None:
        try:
            chunk = await self._chunks_out.receive()
        except anyio.EndOfStream:
            self._over = True
            self._take_rest(self._lines.finish())
            return
        for line in self._lines.feed(chunk):
            self._take(line)

    def _take_rest(self, rest: bytes) -> None:
        if rest:
            # A whole object without its line end is whole all the same; anything else was cut.
            self._take(CUT if translate.event_line(rest) == translate.NOT_JSON else rest)

    def _take(self, line: bytes | BadLine) -> None:
        item = line if isinstance(line, BadLine) else translate.event_line(line)
        if item is not None:
            self._ready.append(item)
