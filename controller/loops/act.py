"""Carries out committed actions. The only loop that changes the engine.

One road for all: look first where it is not certain that nothing was sent, send, look again, and let the outcome
return through the inbox. What is already so is success; an unknown answer is asked about, never repeated blindly.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import anyio

from controller.core.rules import Rules
from controller.core.specs import LABEL_CREATE
from controller.core.untrusted import one_line
from controller.errors import ContainerGone, EngineConflict, EngineError, EngineRefused, EngineUnavailable
from controller.interfaces import Clock, EngineWriter
from controller.loops.condition import ControllerCondition
from controller.loops.creation import Creation
from controller.loops.inbox import Envelope, Inbox
from controller.loops.roster import Roster
from controller.loops.target import already, is_image, is_of_another
from controller.loops.waiting import Bell, within
from controller.model.action import Action, ActionKind, Outcome, OutcomeKind
from controller.model.container import Snapshot
from controller.model.ids import ActionId, ContainerId, SessionId
from controller.model.instant import seconds_between
from controller.model.observation import OutcomeSeen

PARALLEL_MAX: Final = 1024
"""Sessions that something is done to at one time; most of them wait for a stop's grace to pass."""
PARALLEL_STOPS: Final = 512
PARALLEL_CHANGES: Final = 32
"""Creates, starts and removes are work for the engine: more at once only make each of them slower."""
PARALLEL_ASKS: Final = 16
INSPECT_LIMIT_S: Final = 5.0
LIST_LIMIT_S: Final = 30.0
CALL_LIMIT_S: Final = 60.0
STOP_SLACK_S: Final = 20.0
"""What a stop may take beyond its own grace."""
RETRY_FIRST_S: Final = 0.5
RETRY_MAX_S: Final = 10.0
_UNANSWERED: Final = (OutcomeKind.GONE, OutcomeKind.SUPERSEDED, OutcomeKind.DROPPED)


class Act:
    """The open actions, one at a time for each session, and many sessions side by side."""

    def __init__(
        self,
        *,
        clock: Clock,
        engine: EngineWriter,
        inbox: Inbox,
        roster: Roster,
        condition: ControllerCondition,
        creation: Creation,
        rules: Rules,
    ) -> None:
        self._clock = clock
        self._engine = engine
        self._inbox = inbox
        self._roster = roster
        self._condition = condition
        self._creation = creation
        self._rules = rules
        self._queues: dict[SessionId, deque[tuple[Action, bool]]] = {}
        self._busy: dict[SessionId, None] = {}
        self._maybe_sent: set[ActionId] = set()
        self._bell = Bell()
        # They wait here for their turn, not at the engine, so that a call's time limit begins with the call.
        self._stops = anyio.CapacityLimiter(PARALLEL_STOPS)
        self._changes = anyio.CapacityLimiter(PARALLEL_CHANGES)
        self._asks = anyio.CapacityLimiter(PARALLEL_ASKS)

    def take(self, actions: Sequence[Action], *, resumed: bool = False) -> None:
        """Carry these out; they are committed. A resumed one may have been sent by an earlier life."""
        for action in actions:
            self._queues.setdefault(action.session_id, deque()).append((action, resumed))
        if actions:
            self._bell.ring()

    async def run(self) -> None:
        """Act for ever."""
        async with anyio.create_task_group() as group:
            while True:
                for session_id in list(self._queues):
                    if len(self._busy) >= PARALLEL_MAX:
                        break
                    if session_id not in self._busy:
                        self._busy[session_id] = None
                        group.start_soon(self._serve, session_id)
                await self._bell.wait(clock=self._clock)

    async def _serve(self, session_id: SessionId) -> None:
        """All that waits for one session, in order."""
        queue = self._queues[session_id]
        try:
            while queue:
                action, resumed = queue.popleft()
                # A decision may have closed it while it waited.
                if self._roster.is_open(action):
                    if resumed:
                        self._maybe_sent.add(action.id)
                    outcome = self._told(await self._carry_out(action, resumed=resumed))
                    self._maybe_sent.discard(action.id)
                    observation = OutcomeSeen(outcome=outcome, observed_at=self._clock.now())
                    await self._inbox.put(Envelope(observation=observation, session_id=session_id))
        finally:
            del self._queues[session_id]
            del self._busy[session_id]
            self._bell.ring()

    def _told(self, outcome: Outcome) -> Outcome:
        """With what its kind does not say: that an earlier try may have been sent, and come to the engine yet."""
        unanswered = outcome.kind in _UNANSWERED and outcome.action.id in self._maybe_sent
        return replace(outcome, maybe_done=True) if unanswered else outcome

    async def _carry_out(self, action: Action, *, resumed: bool) -> Outcome:
        """Until there is a certain answer, or its time is up."""
        look_first = resumed or action.kind is not ActionKind.CREATE
        delay_s = RETRY_FIRST_S
        said = ""
        while self._clock.now() < action.drop_at:
            if not self._condition.accepted:
                said = self._condition.engine_trouble
                await self._condition.acceptance(until=action.drop_at)
                continue
            try:
                if outcome := await self._in_turn(action, look_first=look_first):
                    return outcome
                continue
            except EngineUnavailable as error:
                self._condition.could_not_ask_about_one(error)
                said = str(error)
            except EngineConflict as error:
                said = str(error)
            look_first = True
            left_s = seconds_between(self._clock.now(), action.drop_at)
            await self._clock.sleep(max(0.0, min(delay_s, left_s)))
            delay_s = min(2 * delay_s, RETRY_MAX_S)
        message = "no certain answer in time" + (f": {one_line(said, limit=300)}" if said else "")
        return Outcome(action=action, kind=OutcomeKind.DROPPED, message=message)

    async def _in_turn(self, action: Action, *, look_first: bool) -> Outcome | None:
        """Look and send, once there is room for it; None when the wait has outlived its sense."""
        async with self._stops if action.kind is ActionKind.STOP else self._changes:
            if not self._condition.accepted or self._clock.now() >= action.drop_at:
                return None
            asked_at = self._clock.now()
            found = await self._look_first(action) if look_first else None
            if found is not None:
                return replace(found, asked_at=asked_at)
            if forbidden := self._forbidden(action):
                return Outcome(action=action, kind=OutcomeKind.REFUSED, message=forbidden)
            return await self._send(action)

    def _forbidden(self, action: Action) -> str:
        """Why the mode does not let it be sent: it may be of an earlier life, under other settings."""
        manages = action.kind in (ActionKind.CREATE, ActionKind.REMOVE)
        allowed = self._rules.may_manage if manages else self._rules.may_restart
        return "" if allowed else f"the mode forbids to {action.kind}"

    async def _look_first(self, action: Action) -> Outcome | None:
        """The outcome, when the target shows that nothing is to be sent. Raises EngineUnavailable."""
        name = self._creation.name_of(action.session_id)
        try:
            snapshot = await self._inspect(name if action.container is None else action.container)
        except ContainerGone:
            if action.container is not None:
                return Outcome(action=action, kind=OutcomeKind.GONE)
            return await self._made_and_renamed(action)
        if action.container is None:
            return self._met(action, snapshot)
        return already(action, snapshot, attempts=self._roster.sessions[action.session_id].attempts)

    async def _made_and_renamed(self, action: Action) -> Outcome | None:
        """What this create may have made already, if somebody has renamed it since: a label of its own still says so.

        A name alone would let the repeated create make a second container for one session. What somebody has run from
        an image of that container (`docker commit`) carries the label too, and names another image.
        """
        rows = await within(self._clock, LIST_LIMIT_S, lambda: self._engine.list_ours(self._rules.prefix))
        for row in rows:
            if row.id in self._roster.known or row.labels.get(LABEL_CREATE) != action.id:
                continue
            try:
                snapshot = await self._inspect(row.id)
            except ContainerGone:
                continue
            spec = self._roster.sessions[action.session_id].spec
            if spec is not None and is_image(snapshot.facts.image, asked=spec.image):
                return Outcome(action=action, kind=OutcomeKind.DONE, snapshot=snapshot)
        return None

    def _met(self, action: Action, snapshot: Snapshot) -> Outcome:
        """A container has the name that a create asks for: the one that it made, or somebody else's."""
        session = self._roster.sessions[action.session_id]
        stranger = is_of_another(snapshot.facts.labels, session=session, rules=self._rules)
        holder = self._roster.known.get(snapshot.facts.id, action.session_id)
        if holder != action.session_id:
            stranger = f"session {self._roster.sessions[holder].name} has its container"
        if not stranger:
            return Outcome(action=action, kind=OutcomeKind.DONE, snapshot=snapshot)
        return Outcome(
            action=action,
            kind=OutcomeKind.REFUSED,
            message=f"the container name is taken: {stranger}",
            conflict=f"{snapshot.facts.name} ({snapshot.facts.id[:12]})",
        )

    async def _send(self, action: Action) -> Outcome:
        """Ask the engine, and look at what came of it. Raises EngineUnavailable and EngineConflict."""
        sent_before = action.id in self._maybe_sent
        self._maybe_sent.add(action.id)
        try:
            if action.container is None:
                container = await self._create(action)
            else:
                container = action.container
                await self._change(action, container)
        except EngineError as error:
            if not (sent_before or _is_open(error)):
                self._maybe_sent.discard(action.id)
            return await self._not_done(action, error)
        self._condition.answered()
        if action.kind is ActionKind.REMOVE:
            return Outcome(action=action, kind=OutcomeKind.DONE)
        asked_at = self._clock.now()
        seen = await self._after(container)
        if seen is None and action.kind is ActionKind.CREATE:
            raise EngineUnavailable("it was created, and could not be looked at")
        return Outcome(action=action, kind=OutcomeKind.DONE, snapshot=seen, asked_at=asked_at)

    async def _not_done(self, action: Action, error: EngineError) -> Outcome:
        """What an answer other than success comes to. Raises what is asked again: EngineUnavailable, EngineConflict."""
        if isinstance(error, ContainerGone):
            return Outcome(action=action, kind=OutcomeKind.GONE)
        if isinstance(error, EngineConflict) and action.kind is ActionKind.CREATE:
            found = await self._look_first(action)
            if found is not None:
                return found
        if isinstance(error, (EngineUnavailable, EngineConflict)):
            raise error
        self._condition.answered()
        asked_at = self._clock.now()
        seen = await self._after(action.container) if action.container is not None else None
        said = one_line(str(error), limit=1000)
        return Outcome(action=action, kind=OutcomeKind.REFUSED, message=said, snapshot=seen, asked_at=asked_at)

    async def _create(self, action: Action) -> ContainerId:
        plan = self._creation.plan_for(action)
        if plan is None:
            raise EngineRefused("it has no spec to create a container from")
        return await within(self._clock, CALL_LIMIT_S, lambda: self._engine.create(plan))

    async def _change(self, action: Action, container: ContainerId) -> None:
        if action.kind is ActionKind.START:
            await within(self._clock, CALL_LIMIT_S, lambda: self._engine.start(container))
        elif action.kind is ActionKind.STOP:
            limit_s = action.grace_s + STOP_SLACK_S
            await within(self._clock, limit_s, lambda: self._engine.stop(container, grace_s=action.grace_s))
        else:
            await within(self._clock, CALL_LIMIT_S, lambda: self._engine.remove(container))

    async def _after(self, container: ContainerId) -> Snapshot | None:
        """The target as it is now; None when it could not be had, which says nothing."""
        try:
            return await self._inspect(container)
        except EngineError:
            return None

    async def _inspect(self, container: ContainerId | str) -> Snapshot:
        async with self._asks:
            snapshot = await within(self._clock, INSPECT_LIMIT_S, lambda: self._engine.inspect(container))
        self._condition.answered()
        return snapshot


def _is_open(error: EngineError) -> bool:
    """Whether it may come to pass yet, or has: only an answer rules that out, or a request that never left."""
    return isinstance(error, EngineUnavailable) and error.request_sent
