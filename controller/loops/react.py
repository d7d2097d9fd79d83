"""The one loop that decides and commits.

It takes observations from the inbox in batches, asks `decide` about each, writes all that follows in one transaction,
and only then changes memory, answers, and hands actions and looks on. No action leaves before its commit. A decision
that fails becomes a `defect` row and the program goes on; only the ledger can end it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Never, TypeVar

import anyio

from controller.core.rules import Rules
from controller.core.transitions import decide
from controller.core.untrusted import one_line
from controller.errors import LedgerError
from controller.interfaces import Answer, Batch, EngineCursor, Ledger
from controller.loops.act import Act
from controller.loops.inbox import Envelope, Item, Note
from controller.loops.look import Look
from controller.loops.publish import Publish
from controller.loops.roster import Roster
from controller.loops.routing import Route, Routing
from controller.loops.rows import row_of_defect, row_of_gap
from controller.loops.surroundings import Surroundings
from controller.loops.waiting import Bell
from controller.loops.working_copy import WorkingCopy
from controller.model.decision import Decision
from controller.model.ids import ContainerId, EngineId, SessionId
from controller.model.instant import Instant, seconds_between
from controller.model.journal import Gap, JournalRow
from controller.model.observation import EventSeen, Observation
from controller.model.session import Session

CURSOR_EVERY_S: Final = 5.0
"""Events that concern nobody move the cursor at most this often; a quiet stream is noted six times less often."""
QUIET_EVERY_S: Final = 30.0
DISK_RETRY_FIRST_S: Final = 0.5
DISK_RETRY_MAX_S: Final = 10.0
_DISK_FULL: Final = "SQLITE_FULL"

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Outlets:
    """Where the consequences of a commit go."""

    act: Act
    look: Look
    publish: Publish
    wake: Bell


class React:
    """Decides and commits. Nobody else does either."""

    def __init__(
        self,
        around: Surroundings,
        *,
        ledger: Ledger,
        roster: Roster,
        rules: Rules,
        outlets: Outlets,
        cursor: Instant | None,
    ) -> None:
        self._clock = around.clock
        self._inbox = around.inbox
        self._condition = around.condition
        self._gaps = around.gaps
        self._ledger = ledger
        self._roster = roster
        self._rules = rules
        self._outlets = outlets
        self._routing = Routing(rules)
        self._keys: dict[tuple[ContainerId, str, Instant], None] = {}
        self._cursor = cursor
        self._cursor_at = around.clock.now()
        self._seen_until = self._condition.stream_seen_until

    async def run(self) -> None:
        """React for ever. Raises LedgerError when the ledger cannot be written."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._tick)
            while True:
                await self._react(await self._inbox.take())

    async def _tick(self) -> Never:
        while True:
            await self._clock.sleep(CURSOR_EVERY_S)
            self._inbox.offer(Note())

    async def _react(self, items: Sequence[Item]) -> None:
        if self._condition.accepted and self._inbox.is_empty:
            # Nothing is missing up to then: its replay has settled, and what it has told is in this commit or before.
            self._seen_until = self._condition.stream_seen_until
        copy = WorkingCopy(self._roster)
        engine_id: EngineId | None = None
        prune_before: Instant | None = None
        last = False
        for item in items:
            if isinstance(item, Note):
                last = last or item.last
                engine_id = item.engine_id or engine_id
                prune_before = item.prune_before or prune_before
                if item.slot is not None:
                    copy.answers.append((item.slot, Answer(accepted=True)))
            else:
                self._take(item, copy)
        gaps = self._gaps.uncommitted()
        for gap in gaps:
            copy.add_row(None, row_of_gap(gap, now=self._clock.now()))
        await self._commit(copy, gaps=gaps, engine_id=engine_id, prune_before=prune_before, last=last)

    # --- deciding ---

    def _take(self, envelope: Envelope, copy: WorkingCopy) -> None:
        observation = envelope.observation
        if isinstance(observation, EventSeen):
            self._keys[observation.event.key] = None
            # The last one, not the latest: the engine's clock may have been ahead, and been set right since.
            self._cursor = observation.event.at
        route = self._guarded(copy, observation, None, lambda: self._route(envelope, copy))
        if route is None:
            self._answer(envelope, copy, Answer(accepted=False, message="an internal defect: see the journal"))
            return
        copy.looks.extend(route.looks)
        answer = route.answer
        for session_id, target in route.targets:
            answer = self._decide(session_id, target, envelope, copy) or answer
        self._answer(envelope, copy, answer or Answer(accepted=True))

    def _route(self, envelope: Envelope, copy: WorkingCopy) -> Route:
        return self._routing.route(envelope, copy, engine_now=self._condition.engine_now())

    def _decide(
        self, session_id: SessionId, observation: Observation, envelope: Envelope, copy: WorkingCopy
    ) -> Answer | None:
        before = copy.session(session_id)
        rules = self._routing.rules_for(envelope)

        def deciding() -> Decision:
            # The observation's own instant, so that a replay of the journal comes to the same decision.
            decision = decide(before, observation, now=observation.observed_at, rules=rules)
            assert decision.session == before or decision.rows, "a session changed without a row"
            assert decision.session is None or copy.has_its_name(decision.session), "another session has its name"
            return decision

        decision = self._guarded(copy, observation, before, deciding)
        if decision is None:
            return Answer(accepted=False, message="an internal defect: see the journal", session_id=session_id)
        copy.add(observation, decision)
        copy.looks.extend(decision.looks)
        if decision.reply is None:
            return None
        return Answer(accepted=decision.reply.accepted, message=decision.reply.message, session_id=session_id)

    def _guarded(
        self, copy: WorkingCopy, observation: Observation, session: Session | None, call: Callable[[], T]
    ) -> T | None:
        """What the call returns; when it raises, a defect row with the observation as evidence."""
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - whatever it is, one bad decision must not end the watch over all
            what = one_line(f"{type(error).__name__}: {error}", limit=300)
            self._condition.defect(what)
            copy.add_row(observation, row_of_defect(observation, session, what, now=self._clock.now()))
            return None

    def _answer(self, envelope: Envelope, copy: WorkingCopy, answer: Answer) -> None:
        if envelope.slot is not None:
            copy.answers.append((envelope.slot, answer))

    # --- committing ---

    async def _commit(
        self,
        copy: WorkingCopy,
        *,
        gaps: Sequence[Gap],
        engine_id: EngineId | None,
        prune_before: Instant | None,
        last: bool,
    ) -> None:
        stream = self._stream_to_commit(eager=last or not copy.is_empty)
        if copy.is_empty and stream is None and engine_id is None and prune_before is None and not last:
            self._hand_on(copy)
            return
        batch = Batch(
            decisions=copy.decisions,
            sessions=list(copy.changed.values()),
            left_behind=[(session_id, attempt) for (session_id, _), attempt in copy.left_behind.items()],
            actions=list(copy.actions.values()),
            closed=list(copy.closed),
            evidence=copy.evidence,
            gaps=gaps,
            stream=stream,
            engine_id=engine_id,
            published=self._outlets.publish.printed(),
            prune_before=prune_before,
        )
        rows = await self._written(batch)
        # Nothing between the commit and the end of the hand-over can be cancelled: there is no await in it.
        self._gaps.committed(len(gaps))
        if stream is not None:
            for key in stream.keys:
                self._keys.pop(key, None)
            self._cursor_at = self._clock.now()
        self._roster.replace(copy.changed.values())
        self._outlets.publish.give(rows)
        self._hand_on(copy)
        if prune_before is not None:
            kept = await self._ledger.sessions(include_removed=True)
            self._roster.forget_all_but({session.id: None for session in kept}.keys())

    async def _written(self, batch: Batch) -> Sequence[JournalRow]:
        """The committed rows. A full disk is waited out, and nothing is decided meanwhile."""
        delay_s = DISK_RETRY_FIRST_S
        while True:
            try:
                with anyio.CancelScope(shield=True):
                    rows = await self._ledger.commit(batch)
            except LedgerError as error:
                if _DISK_FULL not in str(error):
                    raise
                self._condition.ledger_trouble = str(error)
                await self._clock.sleep(delay_s)
                delay_s = min(2 * delay_s, DISK_RETRY_MAX_S)
                continue
            self._condition.ledger_trouble = ""
            return rows

    def _stream_to_commit(self, *, eager: bool) -> EngineCursor | None:
        """The stream's progress: with every other commit, else now and then."""
        is_open = self._condition.stream_open_since is not None
        waited_s = seconds_between(self._cursor_at, self._clock.now())
        due_s = CURSOR_EVERY_S if self._keys else QUIET_EVERY_S
        if not (self._keys or is_open) or not (eager or waited_s >= due_s):
            return None
        return EngineCursor(
            keys=list(self._keys),
            cursor=self._cursor,
            seen_until=self._seen_until,
        )

    def _hand_on(self, copy: WorkingCopy) -> None:
        for slot, answer in copy.answers:
            slot.fill(answer)
        self._outlets.act.take(copy.new_actions())
        for wish in copy.looks:
            self._outlets.look.ask(wish)
        self._outlets.wake.ring()
