"""What containers printed, through aiodocker's session: bounded, cleaned, with secrets masked.

Read here rather than by aiodocker, which loses whose line it was and leaves the connection of a followed log open.
"""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import aiohttp

from controller.engine.cleaning import one_line
from controller.engine.connection import Connection, get
from controller.engine.failures import Refusal, about_question, asking
from controller.engine.frames import LogLines
from controller.engine.masking import masked
from controller.engine.reader import checked_name
from controller.engine.stream import engine_time
from controller.errors import ContainerGone, EngineError, EngineRefused
from controller.model.container import LogTail
from controller.model.ids import ContainerId
from controller.model.instant import Instant

GONE: Final = LogTail(lines=(), truncated=False, absent="container gone")
NO_DRIVER: Final = LogTail(lines=(), truncated=False, absent="log driver")
NOT_ASKED: Final = LogTail(lines=(), truncated=False, absent="could not ask")

_UNREADABLE_DRIVER: Final = "does not support reading"


class DockerLogs:
    """`ContainerLogs` over one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def tail(
        self, container: ContainerId, *, lines: int, max_bytes: int, since: Instant | None, until: Instant | None
    ) -> LogTail:
        """The last lines between two engine instants. Never raises: `absent` says what was in the way."""
        params = {"stdout": "1", "stderr": "1", "tail": str(lines)}
        params |= {} if since is None else {"since": engine_time(since)}
        params |= {} if until is None else {"until": engine_time(until)}
        kept = _Kept(lines=lines, max_bytes=max_bytes)
        try:
            async with asking("read a log", limit_s=self._connection.limits.logs_s, judge=_about_log):
                path = f"containers/{checked_name(container)}/logs"
                response = await get(self._connection.connected.clients.calls, path, params)
                async with response:
                    await _read_all(response, kept)
        except ContainerGone:
            return GONE
        except EngineRefused:
            return NO_DRIVER
        except EngineError:
            return NOT_ASKED
        return kept.tail()

    @asynccontextmanager
    async def follow(self, container: ContainerId, *, lines: int) -> AsyncIterator[AsyncIterator[str]]:
        """The last lines, then each new one until the container ends. Raises ContainerGone, EngineUnavailable."""
        params = {"stdout": "1", "stderr": "1", "tail": str(lines), "follow": "1"}
        async with asking("follow a log", limit_s=self._connection.limits.head_s):
            path = f"containers/{checked_name(container)}/logs"
            response = await get(self._connection.connected.clients.followers, path, params)
        try:
            yield _Followed(response)
        finally:
            response.close()


class _Kept:
    """The newest lines that fit."""

    def __init__(self, *, lines: int, max_bytes: int) -> None:
        self._max_lines = lines
        self._max_bytes = max_bytes
        self._lines: deque[str] = deque()
        self._bytes = 0
        self._dropped = False
        self.reader = LogLines()

    def add(self, raw: list[bytes]) -> None:
        for line in map(_shown, raw):
            self._lines.append(line)
            self._bytes += len(line.encode())
        while self._lines and (self._bytes > self._max_bytes or len(self._lines) > self._max_lines):
            self._bytes -= len(self._lines.popleft().encode())
            self._dropped = True

    def tail(self) -> LogTail:
        return LogTail(lines=tuple(self._lines), truncated=self._dropped or self.reader.cut)


class _Followed:
    """Iterates over the lines of one response."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._reader = LogLines()
        self._ready: deque[str] = deque()
        self._over = False

    def __aiter__(self) -> "_Followed":
        return self

    async def __anext__(self) -> str:
        while not self._ready:
            if self._over:
                raise StopAsyncIteration
            # A container may say nothing for days: this is the one read without a limit of its own.
            async with asking("follow a log", limit_s=float("inf")):
                chunk = await self._response.content.readany()
            self._over = not chunk
            self._ready.extend(map(_shown, self._reader.feed(chunk) if chunk else self._reader.finish()))
        return self._ready.popleft()


async def _read_all(response: aiohttp.ClientResponse, kept: _Kept) -> None:
    while chunk := await response.content.readany():
        kept.add(kept.reader.feed(chunk))
    kept.add(kept.reader.finish())


def _about_log(refusal: Refusal) -> EngineError:
    if _UNREADABLE_DRIVER in refusal.message:
        return EngineRefused(str(refusal))
    return about_question(refusal)


def _shown(raw: bytes) -> str:
    return masked(one_line(raw.decode("utf-8", "replace")))
