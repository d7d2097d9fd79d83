"""One connected stretch of the event stream, read in windows that overlap.

Used by `watch`. The next window is opened before the old one ends: a planned renewal is never a gap, and doubles as the
test for a connection that is only half open. It reads and passes on; it never waits for the ledger or an inspect.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

import anyio
from anyio.abc import TaskGroup

from controller.errors import EngineError, EngineUnavailable
from controller.interfaces import BadLine, Clock, EngineReader, StreamItem
from controller.loops.condition import ControllerCondition
from controller.loops.replay import Line, Replay, SeenEvents
from controller.loops.waiting import sleep_until
from controller.model.instant import NANOS_PER_S, Instant, after, seconds_between

WINDOW_S: Final = 300.0
OVERLAP_S: Final = 10.0
SINCE_MARGIN_S: Final = 5.0
"""A stream is asked to begin this long before the event that came last."""
SILENCE_S: Final = 0.5
"""After so long without a line, a replay is over."""
RENEWAL_RETRY_S: Final = 1.0
RENEWAL_SLACK_S: Final = 1.0
"""An event this close to a planned renewal is live, whichever of the two streams brought it."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """Who is told what the windows bring."""

    line: Callable[[Line], None]
    bad_line: Callable[[BadLine], None]
    settled: Callable[[bool], None]
    """Once for each connect: whether nothing is missing before the first window."""
    half_open: Callable[[Instant], None]
    """A window has turned out dead since then, and what it kept silent about cannot be had any more."""


class Windows:
    """Reads from one connect to the next break. `read` returns only with the reason why it broke.

    `resume_from` is the engine time at which a stream was open last. Without it, and without an event that is known,
    this is the very first stream, and nothing can be missing before it.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        engine: EngineReader,
        condition: ControllerCondition,
        seen: SeenEvents,
        resume_from: Instant | None,
        told: Told,
    ) -> None:
        self._clock = clock
        self._engine = engine
        self._condition = condition
        self._seen = seen
        self._resume_from = resume_from
        self._first_asked_at: Instant | None = None
        self._on = told
        self._renewal: Replay | None = None
        self._half_open_is_said = False
        self._half_open_since: Instant | None = None
        self._open_count = 0
        self._broken = anyio.Event()
        self._why = ""
        self._has_settled = False
        self.last_sign_at: Instant | None = None
        """Our clock at the last line or orderly end; a gap begins there."""

    async def read(self) -> str:
        """Keep a window open for as long as the engine lets us."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._renew)
            await self._broken.wait()
            group.cancel_scope.cancel()
        return self._why

    async def _renew(self) -> None:
        """Open the first window, and each next one before the last one ends."""
        async with anyio.create_task_group() as group:
            planned = False
            while True:
                until = after(self._condition.engine_now(), WINDOW_S)
                opened = await self._open(group, until=until, planned=planned)
                if not opened:
                    await self._clock.sleep(RENEWAL_RETRY_S)
                    continue
                planned = True
                renew_at = after(until, -OVERLAP_S - self._condition.offset_ns / NANOS_PER_S)
                await sleep_until(self._clock, renew_at)

    async def _open(self, group: TaskGroup, *, until: Instant, planned: bool) -> bool:
        """Start a window, and return once it is known whether the engine opened it."""
        answered = anyio.Event()
        before = self._open_count

        async def window() -> None:
            try:
                await self._window(until=until, planned=planned, answered=answered)
            except EngineError as error:
                self._failed(error)
            answered.set()
            if self._open_count == 0:
                self._why = self._why or "the engine ended the stream"
                self._broken.set()

        group.start_soon(window)
        await answered.wait()
        return self._open_count > before

    async def _window(self, *, until: Instant, planned: bool, answered: anyio.Event) -> None:
        asked_at = self._condition.engine_now()
        known_at = self._seen.last_at or self._resume_from or self._first_asked_at
        # Never later than now: an engine whose clock was set back refuses a stream that begins after its end.
        since = after(min(known_at or asked_at, asked_at), -SINCE_MARGIN_S)
        async with self._engine.events(since=since, until=until) as items:
            self._open_count += 1
            # While no event is known, each window repeats all since the first: that one may be dead.
            self._first_asked_at = self._first_asked_at or asked_at
            self._why = ""
            sign_before = self.last_sign_at if planned else None
            self._sign()
            self._condition.stream_opened()
            answered.set()
            # Where the engine's clock is not known exactly, what is repeated must not seem live.
            renewed_at = after(asked_at, self._condition.offset_doubt_s - RENEWAL_SLACK_S)
            opened_at = renewed_at if planned else asked_at
            replay = Replay(self._seen, opened_at=opened_at, proven=planned or known_at is None)
            self._renewal = replay if planned else None
            try:
                await self._read_to_end(items, replay, until=until, sign_before=sign_before)
            except EngineError as error:
                self._failed(error)
            finally:
                self._open_count -= 1

    async def _read_to_end(
        self, items: AsyncIterator[StreamItem], replay: Replay, *, until: Instant, sign_before: Instant | None
    ) -> None:
        overdue_at = after(until, OVERLAP_S - self._condition.offset_ns / NANOS_PER_S)
        errors: list[EngineError] = []
        is_overdue = False
        own_sign_at = self.last_sign_at
        self._tell(replay)
        async with anyio.create_task_group() as group:

            async def end_when_overdue() -> None:
                nonlocal is_overdue
                await sleep_until(self._clock, overdue_at)
                self._did_not_end(replay, since=own_sign_at)
                is_overdue = True
                group.cancel_scope.cancel()

            group.start_soon(end_when_overdue)
            group.start_soon(self._settle_when_silent, replay)
            try:
                async for item in items:
                    if sign_before is not None and self._tells_of_a_half_open(item, replay):
                        self._say_half_open(sign_before)
                    self._take(item, replay)
                    self._half_open_is_said = self._half_open_is_said and (
                        isinstance(item, BadLine) or replay.is_past(item)
                    )
                    own_sign_at = self.last_sign_at
            except EngineError as error:
                errors.append(error)
                if self._condition.engine_now() > until:
                    self._did_not_end(replay, since=own_sign_at)
            group.cancel_scope.cancel()
        self._pass_on(replay.settle(), replay)
        if errors:
            raise errors[0]
        if is_overdue:
            self._why = self._why or "it did not end when it had to: it was half open"
        else:
            self._sign()

    def _did_not_end(self, replay: Replay, *, since: Instant | None) -> None:
        """A window whose end does not come is half open; the next one has taken over long since."""
        if self._renewal is not None and self._renewal is not replay and not self._renewal.found_the_last:
            self._say_half_open(since)

    def _tells_of_a_half_open(self, item: StreamItem, replay: Replay) -> bool:
        """Whether the window before has kept silent about an event, and how many more there were cannot be known."""
        if isinstance(item, BadLine) or item in self._seen:
            return False
        return replay.is_past(item) and not replay.found_the_last

    def _say_half_open(self, since: Instant | None) -> None:
        """Once until a line comes again: an engine whose clock was set ends every window late, and loses nothing.

        And once for each silence: first the renewal shows it, then that the dead window does not end.
        """
        if since is not None and since != self._half_open_since and not self._half_open_is_said:
            self._half_open_is_said = True
            self._half_open_since = since
            self._on.half_open(since)

    def _take(self, item: StreamItem, replay: Replay) -> None:
        self._sign()
        if isinstance(item, BadLine):
            self._on.bad_line(item)
        else:
            self._pass_on(replay.take(item), replay)

    def _pass_on(self, lines: list[Line], replay: Replay) -> None:
        # First whether anything is missing before them: it says what they are worth.
        self._tell(replay)
        for line in lines:
            if line.event not in self._seen:
                self._on.line(line)

    def _tell(self, replay: Replay) -> None:
        if not self._has_settled and replay.continuous is not None:
            self._has_settled = True
            self._on.settled(replay.continuous)

    async def _settle_when_silent(self, replay: Replay) -> None:
        began_at = self._clock.now()
        while True:
            silent_since = max(self.last_sign_at or began_at, began_at)
            left_s = SILENCE_S - seconds_between(silent_since, self._clock.now())
            if left_s <= 0:
                break
            await self._clock.sleep(left_s)
        self._pass_on(replay.settle(), replay)

    def _sign(self) -> None:
        self._condition.stream_signed()
        self.last_sign_at = self._condition.stream_seen_until

    def _failed(self, error: EngineError) -> None:
        self._why = str(error)
        if isinstance(error, EngineUnavailable):
            self._condition.could_not_ask(error)
        if self._open_count:
            self._condition.stream_trouble = f"a renewal failed: {error}"
