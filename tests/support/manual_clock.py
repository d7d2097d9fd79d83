"""A clock that moves only when a test says so, and dice that always fall the same way."""

import heapq
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import anyio
import anyio.lowlevel

from controller.model.instant import NANOS_PER_S, Instant, after

START: Final = Instant(1_800_000_000 * NANOS_PER_S)
_SETTLE_STEPS: Final = 60
"""Checkpoints in which a woken task and those behind it get their turn."""


@dataclass(order=True)
class _Sleeper:
    until: Instant
    number: int
    wake: Callable[[], object] = field(compare=False)


class ManualClock:
    """Implements `Clock`."""

    def __init__(self, start: Instant = START) -> None:
        self._now = start
        self._sleepers: list[_Sleeper] = []
        self._count = 0

    def now(self) -> Instant:
        return self._now

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await anyio.lowlevel.checkpoint()
            return
        woken = anyio.Event()
        with self._due_in(seconds, woken.set):
            await woken.wait()

    @contextmanager
    def move_on_after(self, seconds: float) -> Iterator[anyio.CancelScope]:
        with anyio.CancelScope() as scope, self._due_in(seconds, scope.cancel):
            yield scope

    @contextmanager
    def _due_in(self, seconds: float, wake: Callable[[], object]) -> Iterator[None]:
        self._count += 1
        sleeper = _Sleeper(after(self._now, seconds), self._count, wake)
        heapq.heappush(self._sleepers, sleeper)
        try:
            yield
        finally:
            if sleeper in self._sleepers:
                self._sleepers.remove(sleeper)
                heapq.heapify(self._sleepers)

    async def advance(self, seconds: float) -> None:
        """Let that much time pass, waking each sleeper at its own instant, with turns for the others in between."""
        target = after(self._now, seconds)
        while self._sleepers and self._sleepers[0].until <= target:
            sleeper = heapq.heappop(self._sleepers)
            self._now = max(self._now, sleeper.until)
            sleeper.wake()
            await turns()
        self._now = target
        await turns()


async def turns(count: int = _SETTLE_STEPS) -> None:
    """Let every task that can run do so for a while."""
    for _ in range(count):
        await anyio.lowlevel.checkpoint()


class FixedRng:
    """Implements `Rng`: counted tokens, and always the middle."""

    def __init__(self) -> None:
        self._count = 0

    def token(self, bytes_count: int) -> str:
        self._count += 1
        return f"{self._count:0{2 * bytes_count}x}"[-2 * bytes_count :]

    def uniform(self, low: float, high: float) -> float:
        return (low + high) / 2
