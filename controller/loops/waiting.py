"""Ways to wait that the loops share, all on the injected clock.

A wait towards a deadline returns after at most 5 s, due or not: a machine that was suspended must notice soon after
it wakes. So every caller loops, and looks at the clock again.
"""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import anyio

from controller.errors import EngineUnavailable
from controller.interfaces import Clock
from controller.model.instant import Instant, seconds_between

STRETCH_MAX_S: Final = 5.0
"""The longest sleep at a stretch."""

T = TypeVar("T")


class Bell:
    """Wakes the one task that waits for it. A ring while nobody waits is kept."""

    def __init__(self) -> None:
        self._rung = anyio.Event()

    def ring(self) -> None:
        """Wake the waiting task, or let its next wait return at once."""
        self._rung.set()

    async def wait(self, *, clock: Clock, until: Instant | None = None) -> None:
        """Return when rung, or at the instant, or after a stretch on the way to it."""
        if until is None:
            await self._rung.wait()
        else:
            await _event_or_instant(self._rung, clock=clock, until=until)
        self._rung = anyio.Event()


class Tide:
    """Wakes everybody who waits just now."""

    def __init__(self) -> None:
        self._turned = anyio.Event()

    def turn(self) -> None:
        """Wake all that wait."""
        turned, self._turned = self._turned, anyio.Event()
        turned.set()

    async def wait(self, *, clock: Clock, until: Instant | None = None) -> None:
        """Return at the next turn, or at the instant, or after a stretch on the way to it."""
        turned = self._turned
        if until is None:
            await turned.wait()
        else:
            await _event_or_instant(turned, clock=clock, until=until)


async def sleep_until(clock: Clock, instant: Instant) -> None:
    """Sleep towards an instant in stretches, so that a suspend does not put it off."""
    while (left_s := seconds_between(clock.now(), instant)) > 0:
        await clock.sleep(min(left_s, STRETCH_MAX_S))


async def within(clock: Clock, seconds: float, call: Callable[[], Awaitable[T]]) -> T:
    """The engine's answer, or EngineUnavailable when it does not come in time. Its own errors pass unchanged."""
    with clock.move_on_after(seconds):
        return await call()
    raise EngineUnavailable(f"no answer within {seconds:g} s")


async def _event_or_instant(event: anyio.Event, *, clock: Clock, until: Instant) -> None:
    left_s = seconds_between(clock.now(), until)
    if event.is_set() or left_s <= 0:
        await anyio.lowlevel.checkpoint()
        return
    with clock.move_on_after(min(left_s, STRETCH_MAX_S)):
        await event.wait()
