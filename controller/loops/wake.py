"""Sees to it that a session whose deadline has come is decided anew.

The deadlines are instants in the ledger (`due_at`); here they are only waited for.
"""

from typing import Final, Never

from controller.interfaces import Clock
from controller.loops.inbox import Envelope, Inbox
from controller.loops.roster import Roster
from controller.loops.waiting import Bell
from controller.model.ids import SessionId
from controller.model.instant import Instant, after
from controller.model.observation import DeadlineReached

AGAIN_AFTER_S: Final = 5.0
"""A deadline that a decision left in place comes again only after this long."""


class Wake:
    """The earliest deadline first."""

    def __init__(self, *, clock: Clock, inbox: Inbox, roster: Roster) -> None:
        self._clock = clock
        self._inbox = inbox
        self._roster = roster
        self._told: dict[SessionId, tuple[Instant, Instant]] = {}
        self._halted = False
        self.bell = Bell()

    def halt(self) -> None:
        """Wake nobody any more: what is due from now on is the next life's, as the ledger has it."""
        self._halted = True

    async def run(self) -> Never:
        """Wake for ever."""
        while True:
            next_at = None if self._halted else await self._tell_due()
            await self.bell.wait(clock=self._clock, until=next_at)

    async def _tell_due(self) -> Instant | None:
        """Put in every deadline that has come; return when the next one does."""
        now = self._clock.now()
        next_at: Instant | None = None
        for due_at, session_id in self._roster.due_by(now):
            told = self._told.get(session_id)
            if told is not None and told[0] == due_at and now < after(told[1], AGAIN_AFTER_S):
                again_at = after(told[1], AGAIN_AFTER_S)
                next_at = again_at if next_at is None else min(next_at, again_at)
                continue
            self._told[session_id] = (due_at, now)
            await self._inbox.put(Envelope(observation=DeadlineReached(observed_at=now), session_id=session_id))
        self._told = {one: told for one, told in self._told.items() if self._roster.due_at(one) == told[0]}
        later = self._roster.next_due_after(now)
        return later if next_at is None or (later is not None and later < next_at) else next_at
