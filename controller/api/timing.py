"""A limit on waiting, counted by the injected clock, so that it also holds in simulated time."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from controller.interfaces import Clock

Answered = TypeVar("Answered")


class OutOfTime(Exception):
    """The limit was reached first."""


async def within(clock: Clock, limit_s: float, ask: Callable[[], Awaitable[Answered]]) -> Answered:
    """What `ask` answers. Raises OutOfTime when that takes longer, and otherwise what `ask` raises."""
    answers: list[Answered] = []

    async def give_up() -> None:
        await clock.sleep(limit_s)
        group.cancel_scope.cancel()

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(give_up)
            answers.append(await ask())
            group.cancel_scope.cancel()
    except ExceptionGroup as errors:
        # Only `ask` can raise here; its caller wants the error itself, not anyio's wrapping of it.
        raise errors.exceptions[0] from None
    if not answers:
        raise OutOfTime
    return answers[0]
