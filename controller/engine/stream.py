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
"""For what is already on its way when the consumer comes back late."""


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
    """Iterates over events and bad lines. Ends at `until`; raises EngineUnavailable when it breaks before."""

    def __init__(self, *, window: Window, request: Callable[[], Awaitable[aiohttp.ClientResponse]]) -> None:
        self._window = window
        self._request = request
        self._deadline = anyio.current_time() + window.length_s
        self._lines = LineReader()
        self._ready: deque[StreamItem] = deque()
        self._response: aiohttp.ClientResponse | None = None
        self._over = False
        self._broken: EngineUnavailable | None = None

    async def open(self) -> None:
        """Send the request and wait for the response head."""
        async with asking("open the event stream", limit_s=self._window.head_s):
            self._response = await self._request()

    def close(self) -> None:
        """Hang up."""
        self._over = True
        if self._response is not None:
            self._response.close()

    def __aiter__(self) -> "EventStream":
        return self

    async def __anext__(self) -> StreamItem:
        while not self._ready:
            if self._broken is not None:
                raise self._broken
            if self._over:
                raise StopAsyncIteration
            await self._read()
        return self._ready.popleft()

    async def _read(self) -> None:
        try:
            async with asking("read the event stream", limit_s=self._read_limit_s()):
                if self._response is None:
                    self._response = await self._request()
                chunk = await self._response.content.readany()
        except EngineUnavailable as error:
            self._end(error)
            return
        for line in self._lines.feed(chunk):
            self._take(line)
        if not chunk:
            early = EngineUnavailable("the engine ended the event stream before its time")
            self._end(early if self._window.ends_early else None)

    def _read_limit_s(self) -> float:
        return max(self._deadline - anyio.current_time(), _LAST_READ_S)

    def _take(self, line: bytes | BadLine) -> None:
        item = line if isinstance(line, BadLine) else translate.event_line(line)
        if item is not None:
            self._ready.append(item)

    def _end(self, broken: EngineUnavailable | None) -> None:
        rest = self._lines.finish()
        if rest:
            # A whole object without its line end is whole all the same; anything else was cut.
            self._take(CUT if translate.event_line(rest) == translate.NOT_JSON else rest)
        self._broken = broken
        self.close()
