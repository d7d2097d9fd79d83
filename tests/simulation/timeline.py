"""Virtual time, and all that happens outside the controller: containers that end, daemons that die, clocks that jump.

A timeline outlives the lives of the controller: the loop of each life (`loop.py`) asks it for the next appointment and
moves time on. Nothing here knows asyncio.
"""

import heapq
from collections.abc import Callable
from typing import Final

from controller.model.instant import NANOS_PER_S, Instant

EPOCH: Final = 1_790_000_000 * NANOS_PER_S
"""The engine's wall clock at virtual time 0."""


class Appointment:
    """Something that will happen at a set time, unless it is called off."""

    __slots__ = ("act", "called_off", "when")

    def __init__(self, when: float, act: Callable[[], None]) -> None:
        self.when = when
        self.act = act
        self.called_off = False

    def call_off(self) -> None:
        """It will not happen; safe to repeat."""
        self.called_off = True


class Timeline:
    """The one clock of a simulated world, and its diary."""

    def __init__(self) -> None:
        self.now = 0.0
        self._diary: list[tuple[float, int, Appointment]] = []
        self._entries = 0

    def at(self, when: float, act: Callable[[], None]) -> Appointment:
        """Make an appointment; those at the same instant keep the order in which they were made."""
        appointment = Appointment(max(when, self.now), act)
        self._entries += 1
        heapq.heappush(self._diary, (appointment.when, self._entries, appointment))
        return appointment

    def after(self, seconds: float, act: Callable[[], None]) -> Appointment:
        """Make an appointment that many seconds from now."""
        return self.at(self.now + seconds, act)

    def next_at(self) -> float | None:
        """When the next appointment is; None when the diary is empty."""
        while self._diary and self._diary[0][2].called_off:
            heapq.heappop(self._diary)
        return self._diary[0][0] if self._diary else None

    def keep_next(self) -> None:
        """Move time to the next appointment and let it happen."""
        when, _, appointment = heapq.heappop(self._diary)
        self.now = max(self.now, when)
        if not appointment.called_off:
            appointment.act()

    def move_to(self, when: float) -> None:
        """Let everything happen until then: how time passes while no controller lives."""
        while (following := self.next_at()) is not None and following <= when:
            self.keep_next()
        self.now = max(self.now, when)

    def instant(self) -> Instant:
        """The true time as an instant."""
        return Instant(EPOCH + round(self.now * NANOS_PER_S))
