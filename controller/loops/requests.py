"""What the HTTP edge may ask for. Every request goes through the inbox; its answer comes after the commit."""

from typing import Final

from controller.errors import ContainerGone, EngineUnavailable
from controller.interfaces import Answer, SweepReport
from controller.loops.inbox import Envelope, Inbox, Slot
from controller.loops.look import Look
from controller.loops.sweep import Sweep
from controller.loops.watch import Watch
from controller.model.ids import SessionId
from controller.model.observation import Observation

ID_PREFIX_MIN: Final = 12
_DIGITS: Final = frozenset("0123456789abcdef")


class InboxRequests:
    """Implements `Requests`."""

    def __init__(self, *, inbox: Inbox, look: Look, sweep: Sweep, watch: Watch) -> None:
        self._inbox = inbox
        self._look = look
        self._sweep = sweep
        self._watch = watch

    async def create(self, observation: Observation) -> Answer:
        """Submit a SessionRequested."""
        slot = Slot()
        return await self._inbox.ask(Envelope(observation=observation, slot=slot), slot)

    async def verb(self, session_id: SessionId, observation: Observation) -> Answer:
        """Submit a VerbRequested or ConnectionChanged for one session."""
        slot = Slot()
        return await self._inbox.ask(Envelope(observation=observation, session_id=session_id, slot=slot), slot)

    async def sweep(self, *, dry_run: bool, remove_orphans: bool = False) -> SweepReport:
        """One full sweep now. Raises EngineUnavailable."""
        return await self._sweep.request(dry_run=dry_run, remove_orphans=remove_orphans)

    async def adopt(self, container: str, *, actor: str) -> Answer:
        """Take over one container, named by id, id prefix of at least 12 digits, or name. Raises EngineUnavailable."""
        try:
            seen = await self._look.now(container)
        except ContainerGone:
            return Answer(accepted=False, message=f"no such container: {container}")
        except EngineUnavailable:
            raise
        facts = seen.snapshot.facts
        if facts.name != container and len(container) < ID_PREFIX_MIN and not set(container) - _DIGITS:
            return Answer(accepted=False, message=f"name it in full, or by at least {ID_PREFIX_MIN} digits of its id")
        slot = Slot()
        return await self._inbox.ask(Envelope(observation=seen, adopted_by=actor, slot=slot), slot)

    async def accept_engine(self) -> Answer:
        """Believe the engine that answers now."""
        refused = await self._watch.accept_engine()
        return Answer(accepted=not refused, message=refused)
