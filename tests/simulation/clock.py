"""Time and chance as one life of the controller sees them."""

import random
from collections.abc import Callable
from contextlib import AbstractContextManager

import anyio

from controller.model.instant import Instant, after
from tests.simulation.timeline import Timeline


class SimulatedClock:
    """The wall at the start of this life, carried on by a clock that no setting of the time moves."""

    def __init__(self, timeline: Timeline, *, wall_offset_s: Callable[[], float]) -> None:
        self._timeline = timeline
        self._began = timeline.now
        self._wall_offset_s = wall_offset_s
        self._wall = self.wall()

    def wall(self) -> Instant:
        """The time of day, which people and time servers set."""
        return after(self._timeline.instant(), self._wall_offset_s())

    def now(self) -> Instant:
        return after(self._wall, self._timeline.now - self._began)

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(max(seconds, 0.0))

    def move_on_after(self, seconds: float) -> AbstractContextManager[anyio.CancelScope]:
        return anyio.move_on_after(max(seconds, 0.0))


class SimulatedRng:
    """Chance from the seed."""

    def __init__(self, seed: str) -> None:
        self._rng = random.Random(seed)

    def token(self, bytes_count: int) -> str:
        return self._rng.randbytes(bytes_count).hex()

    def uniform(self, low: float, high: float) -> float:
        return self._rng.uniform(low, high)
