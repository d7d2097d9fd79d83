"""The connection registry: which agents are connected now, at most one connection a session.

A change is reported as an observation, by level: what is reported last is what is so, however quickly connections
replace each other. The end of a connection that keeps coming and going is reported late, so that an agent in a loop
does not fill the ledger. Messages are counted and forgotten; nothing here decides what a missing connection means.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import anyio
from aiohttp import WSCloseCode, WSMsgType, web

from controller.interfaces import Clock
from controller.model.ids import SessionId
from controller.model.instant import Instant, seconds_between

REPLACED: Final = 4001
"""Close code for a connection whose session has connected anew."""
MESSAGE_MAX_BYTES: Final = 64 * 1024
PING_S: Final = 10.0
"""A ping after that much silence; half of it without a pong, and the connection is dead."""
CLOSE_TIMEOUT_S: Final = 3.0
FLAPPING_S: Final = 60.0
"""Ends within this time make the next one wait: 1 s, 2 s, 4 s, up to ..."""
PATIENCE_MAX_S: Final = 30.0

Report = Callable[[SessionId, bool], Awaitable[None]]


@dataclass(kw_only=True)
class _Place:
    """What the registry knows of one session."""

    socket: web.WebSocketResponse | None = None
    reported: bool = False
    message_count: int = 0
    ends: deque[Instant] = field(default_factory=lambda: deque(maxlen=8))
    """When its latest connections ended."""
    reporting: anyio.Lock = field(default_factory=anyio.Lock)


class ConnectionRegistry:
    """The connected agents. One object for the life of the server."""

    def __init__(self, report: Report, *, clock: Clock) -> None:
        self._report = report
        self._clock = clock
        self._places: dict[SessionId, _Place] = {}
        self._closing = anyio.Event()

    def connected(self) -> int:
        """How many sessions hold a connection."""
        return sum(place.socket is not None for place in self._places.values())

    def message_count(self, session_id: SessionId) -> int:
        """Messages of the session since it connected first, as long as it is connected."""
        place = self._places.get(session_id)
        return place.message_count if place is not None else 0

    async def hold(self, session_id: SessionId, socket: web.WebSocketResponse) -> None:
        """Keep the session's connection until it ends; an older one is closed and no longer counts."""
        self._forget_the_quiet()
        place = self._places.setdefault(session_id, _Place())
        old, place.socket = place.socket, socket
        async with anyio.create_task_group() as group:
            if old is not None:
                group.start_soon(_close, old)
            group.start_soon(self._tell, session_id, place)
            await self._count_messages(place, socket)
        if place.socket is socket:
            place.socket = None
            if patience_s := self._patience_s(place):
                with self._clock.move_on_after(patience_s):
                    await self._closing.wait()
            await self._tell(session_id, place)

    async def close_all(self) -> None:
        """End every connection; a shutdown says nothing about the agents, so nothing is reported."""
        self._closing.set()
        sockets = [place.socket for place in self._places.values() if place.socket is not None]
        async with anyio.create_task_group() as group:
            for socket in sockets:
                group.start_soon(_close_going_away, socket)

    async def _count_messages(self, place: _Place, socket: web.WebSocketResponse) -> None:
        async for message in socket:
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                place.message_count += 1

    async def _tell(self, session_id: SessionId, place: _Place) -> None:
        async with place.reporting:
            connected = place.socket is not None
            if place.reported == connected or self._closing.is_set():
                return
            await self._report(session_id, connected)
            place.reported = connected

    def _patience_s(self, place: _Place) -> float:
        """How long the end of this connection waits for the next one before it is told."""
        now = self._clock.now()
        recent = sum(seconds_between(ended_at, now) < FLAPPING_S for ended_at in place.ends)
        place.ends.append(now)
        return min(2.0 ** (recent - 1), PATIENCE_MAX_S) if recent else 0.0

    def _forget_the_quiet(self) -> None:
        """Drop what is known of sessions that have been away for long."""
        now = self._clock.now()
        for session_id, place in list(self._places.items()):
            away = place.socket is None and not place.reported and bool(place.ends)
            if away and seconds_between(place.ends[-1], now) >= FLAPPING_S:
                del self._places[session_id]


async def _close(socket: web.WebSocketResponse) -> None:
    await socket.close(code=REPLACED, message=b"replaced by a newer connection")


async def _close_going_away(socket: web.WebSocketResponse) -> None:
    await socket.close(code=WSCloseCode.GOING_AWAY, message=b"the controller is stopping")
