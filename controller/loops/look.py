"""Inspects single containers: after an event, on a sweep's disagreement, at a due time.

Bounded in parallel, one in flight a container, each with a time limit: an inspect can hang. A wish that comes while its
container is being looked at is looked at again, because the answer under way may be older than the reason to ask.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import anyio
from anyio.abc import TaskGroup

from controller.errors import ContainerGone, EngineError, EngineUnavailable
from controller.interfaces import Clock, ContainerLogs, EngineReader
from controller.loops.condition import ControllerCondition
from controller.loops.inbox import Envelope, Inbox
from controller.loops.waiting import Bell, within
from controller.model.container import ContainerState, LogTail, Snapshot
from controller.model.decision import LookWish
from controller.model.ids import ContainerId
from controller.model.instant import Instant, after
from controller.model.observation import ContainerAbsent, ContainerSeen, LookCause

PARALLEL_MAX: Final = 8
LIMIT_S: Final = 5.0
TAIL_LIMIT_S: Final = 2.0
TAIL_LINES: Final = 80
TAIL_BYTES: Final = 8192
TAIL_SLACK_S: Final = 1.0
"""Lines this long after the end still belong to it."""
RETRY_FIRST_S: Final = 0.5
RETRY_MAX_S: Final = 10.0
WISHES_MAX: Final = 8
"""Different due times that one container may have; one more replaces the last."""


class LookReader(EngineReader, ContainerLogs, Protocol):
    """What a look needs of a backend."""


class LookBatch:
    """Counts looks that belong together, so that a sweep knows when the last one has ended."""

    def __init__(self) -> None:
        self._open_count = 0
        self._bell = Bell()
        self.failed_count = 0

    def add(self) -> None:
        """One more to wait for."""
        self._open_count += 1

    def done(self, *, failed: bool) -> None:
        """One of them has ended."""
        self._open_count -= 1
        self.failed_count += failed
        self._bell.ring()

    async def wait(self, *, clock: Clock, until: Instant) -> bool:
        """Whether all had ended by then, none of them failed."""
        while self._open_count and clock.now() < until:
            await self._bell.wait(clock=clock, until=until)
        return not self._open_count and not self.failed_count


@dataclass(kw_only=True)
class _Wish:
    due_at: Instant
    cause: LookCause
    tail: bool
    in_gap: bool
    remove_orphan: bool
    batches: list[LookBatch] = field(default_factory=list)
    failures: int = 0


class Look:
    """The containers to look at, and the looking."""

    def __init__(self, *, clock: Clock, engine: LookReader, inbox: Inbox, condition: ControllerCondition) -> None:
        self._clock = clock
        self._engine = engine
        self._inbox = inbox
        self._condition = condition
        self._wishes: dict[ContainerId, list[_Wish]] = {}
        self._in_flight: dict[ContainerId, None] = {}
        self._bell = Bell()
        condition.wake_on_acceptance(self._bell)

    def ask(
        self,
        wish: LookWish,
        *,
        in_gap: bool = False,
        remove_orphan: bool = False,
        batch: LookBatch | None = None,
    ) -> None:
        """Look at that container when the wish is due. Never waits."""
        new = _Wish(
            due_at=after(self._clock.now(), wish.delay_s),
            cause=wish.cause,
            tail=wish.tail,
            in_gap=in_gap,
            remove_orphan=remove_orphan,
        )
        if batch is not None:
            batch.add()
            new.batches.append(batch)
        self._add(wish.container, new)

    async def now(self, container: ContainerId | str) -> ContainerSeen:
        """Look at one container at once, for a request; the caller submits what comes of it. Raises EngineError."""
        if not self._condition.accepted:
            raise EngineUnavailable(self._condition.engine_trouble)
        asked_at = self._clock.now()
        try:
            snapshot = await within(self._clock, LIMIT_S, lambda: self._engine.inspect(container))
        except EngineUnavailable as error:
            self._condition.could_not_ask_about_one(error)
            raise
        return self._seen(snapshot, asked_at=asked_at, cause=LookCause.REQUEST)

    async def run(self) -> None:
        """Look for ever."""
        async with anyio.create_task_group() as group:
            while True:
                due_at = self._start_due(group)
                await self._bell.wait(clock=self._clock, until=due_at)

    def _start_due(self, group: TaskGroup) -> Instant | None:
        """Start what is due and fits; return when the next one is."""
        if not self._condition.accepted:
            return None
        now = self._clock.now()
        next_at: Instant | None = None
        for container in sorted(self._wishes, key=lambda container: self._wishes[container][0].due_at):
            if container in self._in_flight:
                continue
            due_at = self._wishes[container][0].due_at
            if due_at > now:
                next_at = due_at
                break
            if len(self._in_flight) >= PARALLEL_MAX:
                break
            wishes = self._wishes.pop(container)
            due = [wish for wish in wishes if wish.due_at <= now]
            later = wishes[len(due) :]
            if later:
                self._wishes[container] = later
            self._in_flight[container] = None
            group.start_soon(self._one, container, _merged(due))
        return next_at

    async def _one(self, container: ContainerId, wish: _Wish) -> None:
        try:
            observation = await self._observe(container, wish)
            self._condition.answered()
            await self._inbox.put(Envelope(observation=observation, remove_orphan=wish.remove_orphan))
            _end(wish, failed=False)
        except EngineError as error:
            self._could_not(container, wish, error)
        finally:
            self._in_flight.pop(container, None)
            self._bell.ring()

    async def _observe(self, container: ContainerId, wish: _Wish) -> ContainerSeen | ContainerAbsent:
        asked_at = self._clock.now()
        in_gap = wish.in_gap or self._was_held_back(wish)
        try:
            snapshot = await within(self._clock, LIMIT_S, lambda: self._engine.inspect(container))
        except ContainerGone:
            return ContainerAbsent(
                container=container,
                cause=wish.cause,
                asked_at=asked_at,
                observed_at=self._clock.now(),
                in_gap=in_gap,
            )
        tail = await self._tail(snapshot) if wish.tail and has_ended(snapshot) else None
        seen = self._seen(snapshot, asked_at=asked_at, cause=wish.cause)
        return replace(seen, tail=tail, in_gap=in_gap)

    def _was_held_back(self, wish: _Wish) -> bool:
        """Whether it was due while the engine could not be asked: what it shows happened unwatched."""
        accepted_since = self._condition.accepted_since
        return accepted_since is not None and wish.due_at < accepted_since

    async def _tail(self, snapshot: Snapshot) -> LogTail:
        ended_at = snapshot.finished_at
        try:
            return await within(
                self._clock,
                TAIL_LIMIT_S,
                lambda: self._engine.tail(
                    snapshot.facts.id,
                    lines=TAIL_LINES,
                    max_bytes=TAIL_BYTES,
                    # An engine may stamp StartedAt after the first output.
                    since=after(snapshot.started_at, -TAIL_SLACK_S) if snapshot.started_at is not None else None,
                    until=after(ended_at, TAIL_SLACK_S) if ended_at is not None else None,
                ),
            )
        except ContainerGone:
            return LogTail(lines=(), truncated=False, absent="container gone")
        except EngineError:
            return LogTail(lines=(), truncated=False, absent="could not ask")

    def _seen(self, snapshot: Snapshot, *, asked_at: Instant, cause: LookCause) -> ContainerSeen:
        return ContainerSeen(
            snapshot=snapshot,
            cause=cause,
            asked_at=asked_at,
            observed_at=self._clock.now(),
        )

    def _could_not(self, container: ContainerId, wish: _Wish, error: EngineError) -> None:
        """Whatever it was, it was no definite answer: ask again later."""
        failed = error if isinstance(error, EngineUnavailable) else EngineUnavailable(str(error))
        self._condition.could_not_ask_about_one(failed)
        _end(wish, failed=True)
        delay_s = min(RETRY_MAX_S, RETRY_FIRST_S * 2.0 ** min(wish.failures, 10))
        wish.failures += 1
        wish.due_at = after(self._clock.now(), delay_s)
        self._add(container, wish)

    def _add(self, container: ContainerId, wish: _Wish) -> None:
        wishes = self._wishes.setdefault(container, [])
        if len(wishes) >= WISHES_MAX:
            wish = _merged([wishes.pop(), wish])
        wishes.append(wish)
        wishes.sort(key=lambda one: one.due_at)
        self._bell.ring()


def has_ended(snapshot: Snapshot) -> bool:
    """Whether its process is over, as it is while the engine waits to start it again: its last words are there."""
    return snapshot.state in (ContainerState.EXITED, ContainerState.DEAD, ContainerState.RESTARTING)


def _merged(wishes: Sequence[_Wish]) -> _Wish:
    """One look that does for all of them; it is the first one's."""
    return _Wish(
        due_at=wishes[0].due_at,
        cause=wishes[0].cause,
        tail=any(wish.tail for wish in wishes),
        in_gap=any(wish.in_gap for wish in wishes),
        remove_orphan=any(wish.remove_orphan for wish in wishes),
        batches=[batch for wish in wishes for batch in wish.batches],
        failures=max(wish.failures for wish in wishes),
    )


def _end(wish: _Wish, *, failed: bool) -> None:
    for batch in wish.batches:
        batch.done(failed=failed)
    wish.batches.clear()
