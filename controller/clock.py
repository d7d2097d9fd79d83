"""The real clock and the real dice. Everything else gets its time and its chance from outside.

The time of day is read once, at start; from then on a clock that no setting of the time moves carries it, and that
keeps counting while the machine sleeps.
"""

import random
import secrets
import time
from contextlib import AbstractContextManager

import anyio

from controller.model.instant import Instant

_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class RealClock:
    """UTC that never jumps: the wall at start, and the time elapsed since, suspends included."""

    def __init__(self) -> None:
        self._wall_ns = time.time_ns()
        self._began_ns = time.clock_gettime_ns(_BOOT_CLOCK)

    def now(self) -> Instant:
        """Now, as nanoseconds since 1970."""
        return Instant(self._wall_ns + time.clock_gettime_ns(_BOOT_CLOCK) - self._began_ns)

    async def sleep(self, seconds: float) -> None:
        """Wait that long while the machine is awake."""
        await anyio.sleep(max(seconds, 0.0))

    def move_on_after(self, seconds: float) -> AbstractContextManager[anyio.CancelScope]:
        """A scope that is cancelled after that long."""
        return anyio.move_on_after(max(seconds, 0.0))


class RealRng:
    """Randomness of the operating system for identifiers, and of a generator for jitter."""

    def __init__(self) -> None:
        self._generator = random.SystemRandom()

    def token(self, bytes_count: int) -> str:
        """That many random bytes, as hex."""
        return secrets.token_hex(bytes_count)

    def uniform(self, low: float, high: float) -> float:
        """A float between the two."""
        return self._generator.uniform(low, high)
