"""The orderly end: sessions of ours are stopped side by side under one deadline, or left running, as the settings say.

It decides nothing: it tells `react` that we were told to stop, and waits for what follows. Whatever is still open when
time is up stays in the ledger, and the next life sees to it.
"""

from typing import Final

import anyio

from controller.loops.inbox import Envelope, Note, Slot
from controller.loops.publish import Publish
from controller.loops.roster import Roster
from controller.loops.surroundings import Surroundings
from controller.loops.waiting import sleep_until
from controller.loops.wake import Wake
from controller.model.instant import Instant, after
from controller.model.observation import ControllerStopping
from controller.model.phase import Phase
from controller.model.session import Origin, Session

KILL_AND_COMMIT_S: Final = 5.0
"""Of the time-out, kept from the graces for the kills and for what follows from them."""
LAST_COMMIT_S: Final = 1.0
_OURS: Final = (Origin.REQUESTED, Origin.ADOPTED)


class Shutdown:
    """Waits to be told, then returns once everything is as it should be left."""

    def __init__(
        self,
        around: Surroundings,
        *,
        roster: Roster,
        publish: Publish,
        wake: Wake,
        leave_running: bool,
        timeout_s: float,
        stops_sessions: bool,
    ) -> None:
        self._clock = around.clock
        self._inbox = around.inbox
        self._roster = roster
        self._publish = publish
        self._wake = wake
        self._log = around.log
        self._leave_running = leave_running
        self._timeout_s = timeout_s
        self._stops_sessions = stops_sessions

    async def run(self, *, asked: anyio.Event, hurried: anyio.Event) -> None:
        """Return when the controller may end. Being hurried cuts it short wherever it is."""
        await asked.wait()
        deadline = after(self._clock.now(), self._timeout_s)
        self._log.info("stopping", leave_running=self._leave_running, timeout_s=self._timeout_s)
        async with anyio.create_task_group() as group:
            group.start_soon(_cancel_when, hurried, group.cancel_scope)
            group.start_soon(self._cancel_at, deadline, group.cancel_scope)
            await self._stop(until=after(deadline, -min(LAST_COMMIT_S, self._timeout_s / 10)))
            group.cancel_scope.cancel()

    async def _stop(self, *, until: Instant) -> None:
        # A back-off that ends now would start what nobody is left to stop.
        self._wake.halt()
        slot = Slot()
        stopping = ControllerStopping(
            leave_running=self._leave_running,
            grace_s=max(self._timeout_s - KILL_AND_COMMIT_S, self._timeout_s / 2),
            observed_at=self._clock.now(),
        )
        await self._inbox.ask(Envelope(observation=stopping, slot=slot), slot)
        while self._clock.now() < until and any(self._keeps_us(one) for one in self._roster.sessions.values()):
            await self._roster.changed.wait(clock=self._clock, until=until)
        await self._publish.finish()
        last = Slot()
        await self._inbox.ask(Note(last=True, slot=last), last)

    def _keeps_us(self, session: Session) -> bool:
        """Whether something of ours is still being stopped."""
        if self._leave_running or not self._stops_sessions or session.origin not in _OURS:
            return False
        return bool(session.open_actions) or session.phase.is_live or session.phase is Phase.STARTING

    async def _cancel_at(self, deadline: Instant, scope: anyio.CancelScope) -> None:
        await sleep_until(self._clock, deadline)
        self._log.warning("the time for stopping is over; the rest is left to the next start")
        scope.cancel()


async def _cancel_when(hurried: anyio.Event, scope: anyio.CancelScope) -> None:
    await hurried.wait()
    scope.cancel()
