"""The full comparison of ledger and engine: at each connect, on a timer, after a gap, on request; one at a time.

Two lists and `core/drift.py`; only what disagrees is looked at, and after a gap the live ones too. A list never moves a
phase, and a list that could not be had changes nothing at all.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Never

import anyio

from controller.core.drift import Finding, FindingKind, compare, is_mass_absence
from controller.core.rules import Rules
from controller.errors import EngineError, EngineUnavailable, Overloaded
from controller.interfaces import EngineReader, SweepReport
from controller.loops.condition import SWEEP_TIMEOUT_S
from controller.loops.inbox import Note, Slot
from controller.loops.look import Look, LookBatch
from controller.loops.plan import Planner
from controller.loops.roster import Roster
from controller.loops.surroundings import Surroundings
from controller.loops.waiting import Bell, within
from controller.model.container import ListedContainer
from controller.model.decision import LookWish
from controller.model.ids import ContainerId, SessionId
from controller.model.instant import Instant, after
from controller.model.journal import Gap
from controller.model.observation import LookCause
from controller.model.phase import Phase
from controller.model.session import Session

LIST_LIMIT_S: Final = 30.0
LISTS_PER_BRAKE: Final = 3
BRAKE_PAUSE_S: Final = 15.0
"""Three looks over 30 s before a mass absence is believed."""
AFTER_GAP_S: Final = 3.0
INCOMPLETE_MAX: Final = 3
"""Sweeps in a row that may end without all their looks before a gap is closed all the same, and says so."""
JITTER: Final = 0.1
RETRY_FIRST_S: Final = 1.0
RETRY_MAX_S: Final = 30.0
ORDERS_MAX: Final = 32
_OF_SESSIONS: Final = (FindingKind.MISSING, FindingKind.MISMATCH)


class _Order:
    """One sweep that somebody waits for."""

    def __init__(self, *, dry_run: bool, remove_orphans: bool) -> None:
        self.dry_run = dry_run
        self.remove_orphans = remove_orphans
        self.report: SweepReport | None = None
        self.error: EngineError | None = None
        self.ended = anyio.Event()


class Sweep:
    """Wants and orders in, findings and looks out."""

    def __init__(
        self,
        around: Surroundings,
        *,
        engine: EngineReader,
        roster: Roster,
        look: Look,
        rules: Rules,
        interval_s: float,
    ) -> None:
        self._clock = around.clock
        self._rng = around.rng
        self._condition = condition = around.condition
        self._gaps = around.gaps
        self._inbox = around.inbox
        self._engine = engine
        self._roster = roster
        self._look = look
        self._rules = rules
        self._interval_s = interval_s
        self._planner = Planner(look=look, roster=roster, condition=condition, rules=rules)
        self._orders: deque[_Order] = deque()
        self._bell = Bell()
        self._wants_count = 0
        self._reconnected = False
        self._incomplete_count = 0
        self._has_closed_gap = False
        self._failures = 0
        self._next_at: Instant | None = None
        condition.wake_on_acceptance(self._bell)

    def want(self, *, reconnected: bool = False) -> None:
        """One sweep soon, whatever the timer says. Never waits."""
        self._wants_count += 1
        self._reconnected = self._reconnected or reconnected
        self._next_at = self._clock.now()
        self._condition.sweep_owed()
        self._bell.ring()

    async def request(self, *, dry_run: bool, remove_orphans: bool) -> SweepReport:
        """One full sweep now, with its plan. Raises EngineUnavailable and Overloaded."""
        if len(self._orders) >= ORDERS_MAX:
            raise Overloaded("too many sweeps are waiting already")
        order = _Order(dry_run=dry_run, remove_orphans=remove_orphans)
        self._orders.append(order)
        self._bell.ring()
        try:
            await order.ended.wait()
        finally:
            # Whoever gives up waiting wants no sweep any more.
            if order in self._orders:
                self._orders.remove(order)
        if order.report is None:
            raise order.error or EngineUnavailable("the controller is stopping", request_sent=False)
        return order.report

    async def run(self) -> Never:
        """Sweep for ever. Waits for the first `want`, which comes when the first stream is open."""
        try:
            while True:
                # Without the engine nothing can be swept, however much is owed: the bell rings when it is back.
                until = self._next_at if self._condition.accepted else None
                await self._bell.wait(clock=self._clock, until=until)
                while self._orders:
                    await self._serve(self._orders.popleft())
                if self._next_at is not None and self._clock.now() >= self._next_at and self._condition.accepted:
                    await self._scheduled()
        finally:
            for order in self._orders:
                order.ended.set()

    async def _serve(self, order: _Order) -> None:
        try:
            order.report = await self._sweep(dry_run=order.dry_run, remove_orphans=order.remove_orphans, plan=True)
        except EngineError as error:
            order.error = error if isinstance(error, EngineUnavailable) else EngineUnavailable(str(error))
        finally:
            order.ended.set()

    async def _scheduled(self) -> None:
        wants_count = self._wants_count
        try:
            await self._sweep(dry_run=False, remove_orphans=False, plan=False)
        except EngineError:
            self._condition.sweep_owed()
            delay_s = min(RETRY_MAX_S, RETRY_FIRST_S * 2.0 ** min(self._failures, 10))
            self._failures += 1
            self._next_at = after(self._clock.now(), delay_s)
            return
        self._failures = 0
        if self._wants_count == wants_count:
            wait_s = self._interval_s * self._rng.uniform(1 - JITTER, 1 + JITTER)
            if self._has_closed_gap:
                # An engine's list may lag behind its events: what was missed last may not be in it yet.
                wait_s = min(wait_s, AFTER_GAP_S)
            self._has_closed_gap = False
            self._next_at = after(self._clock.now(), wait_s)

    async def _sweep(self, *, dry_run: bool, remove_orphans: bool, plan: bool) -> SweepReport:
        wants_count, connects_count = self._wants_count, self._condition.connects_count
        missed = self._missed()
        gaps = self._gaps.now_open() if self._condition.stream_open_since is not None else []
        listed, findings = await self._compare(connects_count)
        lines = await self._planner.lines(findings, remove_orphans=remove_orphans) if plan else ()
        if not dry_run:
            await self._follow_up(findings, gaps, missed=missed, remove_orphans=remove_orphans)
            self._condition.swept(still_owed=self._wants_count != wants_count)
        return SweepReport(
            at=self._clock.now(),
            dry_run=dry_run,
            sessions_count=sum(1 for session in self._roster.sessions.values() if session.removed_at is None),
            containers_count=len(listed),
            lines=lines,
        )

    def _assert_same_engine(self, connects_count: int) -> None:
        """After a reconnect another engine may answer, and what was asked of the one before tells nothing of it."""
        if not self._condition.accepted or self._condition.connects_count != connects_count:
            raise EngineUnavailable(self._condition.engine_trouble or "reconnected meanwhile")

    async def _compare(self, connects_count: int) -> tuple[Sequence[ListedContainer], Sequence[Finding]]:
        """The lists and what they tell. When too many are missing, the list is not believed until the third look."""
        for look in range(1, LISTS_PER_BRAKE + 1):
            self._assert_same_engine(connects_count)
            listed = await self._lists()
            self._assert_same_engine(connects_count)
            sessions = list(self._roster.sessions.values())
            findings = compare(
                sessions,
                listed,
                known=self._roster.known,
                engine_now=self._condition.engine_now(),
                rules=self._rules,
            )
            if look == LISTS_PER_BRAKE or not is_mass_absence(findings, sessions):
                break
            await self._clock.sleep(BRAKE_PAUSE_S)
        return listed, findings

    async def _lists(self) -> Sequence[ListedContainer]:
        try:
            ours = await within(self._clock, LIST_LIMIT_S, lambda: self._engine.list_ours(self._rules.prefix))
            external = await within(self._clock, LIST_LIMIT_S, self._engine.list_external)
        except EngineError as error:
            failed = error if isinstance(error, EngineUnavailable) else EngineUnavailable(str(error))
            self._condition.could_not_ask(failed)
            raise
        self._condition.answered()
        return [*ours, *external]

    async def _follow_up(
        self,
        findings: Sequence[Finding],
        gaps: Sequence[Gap],
        *,
        missed: tuple[Instant | None, int],
        remove_orphans: bool,
    ) -> None:
        before = dict(self._roster.sessions)
        reconnected, self._reconnected = self._reconnected, False
        wanted = [one for one in findings if one.wants_look and self._may_follow(one, remove_orphans=remove_orphans)]
        known = {one.container: None for one in wanted if one.kind in _OF_SESSIONS}
        known |= dict.fromkeys(self._unlisted_changes(in_gap=bool(gaps), reconnected=reconnected))
        until = after(self._clock.now(), SWEEP_TIMEOUT_S)
        # First what the ledger knows: a container that is recreated meets its session only once the old one is over.
        complete = await self._look_at(known, in_gap=bool(gaps), until=until)
        unknown = [one.container for one in wanted if one.container not in known]
        complete &= await self._look_at(unknown, in_gap=bool(gaps), remove_orphans=remove_orphans, until=until)
        self._incomplete_count = 0 if complete else self._incomplete_count + 1
        if not complete:
            self._reconnected = self._reconnected or reconnected
        if gaps and not complete and self._incomplete_count < INCOMPLETE_MAX:
            raise EngineUnavailable("not all looks after a gap could be had")
        self._has_closed_gap = self._has_closed_gap or bool(gaps)
        if gaps:
            # One container whose inspect hangs must not hold up the rest for ever: it is looked at again by itself.
            await self._close(gaps, findings, before, missed=missed, complete=complete)

    async def _close(
        self,
        gaps: Sequence[Gap],
        findings: Sequence[Finding],
        before: Mapping[SessionId, Session],
        *,
        missed: tuple[Instant | None, int],
        complete: bool,
    ) -> None:
        # What the looks showed is in the inbox before this, so it is committed by the answer.
        slot = Slot()
        await self._inbox.ask(Note(slot=slot), slot)
        if self._missed() != missed:
            # What was open has grown meanwhile, perhaps after its looks: the sweep that this has asked for closes it.
            return
        moved = sum(1 for one in before.values() if _has_moved(one, self._roster.sessions.get(one.id)))
        for gap in gaps:
            self._gaps.close(gap, found=_phrase(findings, moved=moved, complete=complete))

    def _missed(self) -> tuple[Instant | None, int]:
        """What differs once events have been missed again: the stream, and how often a gap was opened or has grown."""
        return self._condition.stream_open_since, self._gaps.openings_count

    async def _look_at(
        self, containers: Iterable[ContainerId], *, in_gap: bool, until: Instant, remove_orphans: bool = False
    ) -> bool:
        """Whether every one of them gave an answer in time."""
        batch = LookBatch()
        for container in containers:
            wish = LookWish(container=container, cause=LookCause.SWEEP, tail=True)
            self._look.ask(wish, in_gap=in_gap, remove_orphan=remove_orphans, batch=batch)
        return await batch.wait(clock=self._clock, until=until)

    def _unlisted_changes(self, *, in_gap: bool, reconnected: bool) -> Iterator[ContainerId]:
        """Containers with a change that no list shows: a bounce in a gap; a start that failed, which has no event."""
        for session in self._roster.sessions.values():
            if session.removed_at is not None or session.container_id is None:
                continue
            bounced = in_gap and session.phase not in (Phase.STOPPED, Phase.FAILED)
            if bounced or (reconnected and session.phase is Phase.PENDING):
                yield session.container_id

    def _may_follow(self, finding: Finding, *, remove_orphans: bool) -> bool:
        return finding.kind is not FindingKind.ORPHAN or self._may_clean(remove_orphans)

    def _may_clean(self, remove_orphans: bool) -> bool:  # noqa: FBT001 - the one thing that it depends on
        return remove_orphans or (self._rules.orphan_policy != "report" and self._rules.may_manage)


def _has_moved(before: Session, now: Session | None) -> bool:
    """Whether what was looked at had another story than the one that was known."""
    if now is None:
        return False
    return (before.phase, before.attempt_count, before.removed_at) != (now.phase, now.attempt_count, now.removed_at)


def _phrase(findings: Sequence[Finding], *, moved: int, complete: bool) -> str:
    counts = Counter(finding.kind for finding in findings if finding.wants_look)
    parts = [f"{counts[kind]} {kind}" for kind in FindingKind if counts[kind]]
    if moved:
        parts.append(f"{moved} that had moved on unseen")
    if not complete:
        parts.append("some that gave no answer yet")
    return ", ".join(parts) or "nothing"
