"""The connection registry: which agents are connected now, at most one connection a session.

A change is reported as an observation, by level: what is reported last is what is so, however quickly connections
replace each other. Messages are counted and forgotten; nothing here decides what a missing connection means.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import anyio
from aiohttp import WSCloseCode, WSMsgType, web

from controller.model.ids import SessionId

REPLACED: Final = 4001
"""Close code for a connection whose session has connected anew."""
MESSAGE_MAX_BYTES: Final = 64 * 1024
PING_S: Final = 10.0
"""A ping after that much silence; half of it without a pong, and the connection is dead."""
CLOSE_TIMEOUT_S: Final = 3.0

Report = Callable[[SessionId, bool], Awaitable[None]]


@dataclass(kw_only=True)
class _Place:
    """What the registry knows of one session."""

    socket: web.WebSocketResponse | None = None
    reported: bool = False
    message_count: int = 0
    reporting: anyio.Lock = field(default_factory=anyio.Lock)


class ConnectionRegistry:
    """The connected agents. One object for the life of the server."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._places: dict[SessionId, _Place] = {}
        self._closing = False

    def connected(self) -> int:
        """How many sessions hold a connection."""
        return sum(place.socket is not None for place in self._places.values())

    def message_count(self, session_id: SessionId) -> int:
        """Messages of the session since it connected first, as long as it is connected."""
        place = self._places.get(session_id)
        return place.message_count if place is not None else 0

    async def hold(self, session_id: SessionId, socket: web.WebSocketResponse) -> None:
        """Keep the session's connection until it ends; an older one is closed and no longer counts."""
        place = self._places.setdefault(session_id, _Place())
        old, place.socket = place.socket, socket
        async with anyio.create_task_group() as group:
            if old is not None:
                group.start_soon(_close, old)
            group.start_soon(self._tell, session_id, place)
            await self._count_messages(place, socket)
        if place.socket is socket:
            place.socket = None
            await self._tell(session_id, place)

    async def close_all(self) -> None:
        """End every connection; a shutdown says nothing about the agents, so nothing is reported."""
        self._closing = True
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
            if place.reported == connected or self._closing:
                return
            await self._report(session_id, connected)
            place.reported = connected
        if place.socket is None and not place.reported:
            self._places.pop(session_id, None)


async def _close(socket: web.WebSocketResponse) -> None:
    await socket.close(code=REPLACED, message=b"replaced by a newer connection")


async def _close_going_away(socket: web.WebSocketResponse) -> None:
    await socket.close(code=WSCloseCode.GOING_AWAY, message=b"the controller is stopping")
