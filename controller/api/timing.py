"""A limit on waiting, counted by the injected clock, so that it also holds in simulated time."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from controller.interfaces import Clock

Answered = TypeVar("Answered")


class OutOfTime(Exception):
    """The limit was reached first."""


async def within(clock: Clock, limit_s: float, ask: Callable[[], Awaitable[Answered]]) -> Answered:
    """What `ask` answers. Raises OutOfTime when that takes longer, and otherwise what `ask` raises."""
    with clock.move_on_after(limit_s):
        return await ask()
    raise OutOfTime
