"""What every route may reach, and the two ways of keeping time while a client waits.

The edge asks and reads; it never commits, never touches the engine and holds no rule about sessions.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

import anyio
from aiohttp import web

from controller.api.problems import Problem
from controller.api.registry import ConnectionRegistry
from controller.api.timing import OutOfTime, within
from controller.interfaces import Clock, Condition, ContainerLogs, Feed, LedgerReader, Requests, Rng
from controller.model.ids import SessionName
from controller.model.session import Session
from controller.settings import Settings

Answered = TypeVar("Answered")
STREAMS_MAX: Final = 128
"""Event and log streams open at one time; one more is refused."""


class OpenStreams:
    """The responses that do not end by themselves, so that a shutdown can end them."""

    def __init__(self) -> None:
        self._scopes: set[anyio.CancelScope] = set()

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Hold one place; leaves quietly when the server shuts down."""
        if len(self._scopes) >= STREAMS_MAX:
            raise Problem(503, f"{STREAMS_MAX} streams are open already: close one, or try again later")
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                yield
            finally:
                self._scopes.discard(scope)

    def end_all(self) -> None:
        """End every stream that is open."""
        for scope in self._scopes:
            scope.cancel()


@dataclass(frozen=True, kw_only=True)
class Edge:
    """The outside world as the routes see it."""

    settings: Settings
    ledger: LedgerReader
    requests: Requests
    condition: Condition
    feed: Feed
    logs: ContainerLogs
    clock: Clock
    rng: Rng
    registry: ConnectionRegistry
    streams: OpenStreams

    async def session(self, name: str) -> Session:
        """The session of that name, removed or not. Raises a 404 problem."""
        found = await self.ledger.find(SessionName(name))
        if found is None:
            raise Problem(404, f"no such session: {name}")
        return found

    async def present_session(self, name: str) -> Session:
        """The session of that name that is not removed. Raises a 404 problem."""
        found = await self.session(name)
        if found.removed_at is not None:
            raise Problem(404, f"no such session: {name} (the last one of that name was removed)")
        return found

    async def row_beyond(self, seq: int, *, wait_s: float) -> bool:
        """Wait for a journal row after `seq`; False when none came in that time."""
        try:
            await within(self.clock, wait_s, lambda: self.feed.wait_beyond(seq))
        except OutOfTime:
            return False
        return True

    async def ask(self, limit_s: float, question: Callable[[], Awaitable[Answered]]) -> Answered:
        """The answer to a question put to the controller, or a 504 problem when the time is up."""
        try:
            return await within(self.clock, limit_s, question)
        except OutOfTime:
            raise Problem(504, f"no answer within {limit_s:g} s; it may still happen") from None


EDGE: Final = web.AppKey("edge", Edge)
