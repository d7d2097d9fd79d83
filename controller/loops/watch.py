"""The event stream: connect, prove whose engine it is, read, and connect again for ever.

First road into the inbox. It never waits for the ledger or an inspect while it reads: when the inbox is full, a gap is
opened and a sweep wanted instead. A line is a hint; what it costs to lose one is time.
"""

from typing import Final, Never

from controller.core.untrusted import one_line
from controller.errors import EngineError, EngineUnavailable
from controller.interfaces import BadLine, EngineReader
from controller.loops.inbox import Envelope, Note, Slot
from controller.loops.replay import Line, SeenEvents
from controller.loops.surroundings import Surroundings
from controller.loops.sweep import Sweep
from controller.loops.waiting import Bell
from controller.loops.windows import Told, Windows
from controller.model.container import EngineInfo
from controller.model.ids import EngineId
from controller.model.instant import Instant, after, seconds_between
from controller.model.journal import Gap
from controller.model.observation import EngineLost, EventSeen

BACKOFF_FIRST_S: Final = 0.1
BACKOFF_MAX_S: Final = 10.0
STREAM_CUT: Final = "stream cut"
HALF_OPEN: Final = "stream half open"
HELD_UP_S: Final = 10.0
"""A line that cannot be read may tell of what happened so long before it came."""
STRANGER_RETRY_S: Final = 30.0
"""How often to ask an engine that is not ours whether it still is not."""


class EngineLostForGood(EngineError):
    """The engine's socket has refused for so long that a new mount of it is the only hope left."""


class Watch:
    """Keeps a stream open. The only one that decides whether the engine that answers is the ledger's."""

    def __init__(
        self,
        around: Surroundings,
        *,
        engine: EngineReader,
        sweep: Sweep,
        seen: SeenEvents,
        engine_id: EngineId | None,
        seen_until: Instant | None,
        give_up_after_s: float,
    ) -> None:
        self._clock = around.clock
        self._rng = around.rng
        self._inbox = around.inbox
        self._condition = around.condition
        self._gaps = around.gaps
        self._log = around.log
        self._engine = engine
        self._sweep = sweep
        self._seen = seen
        self._engine_id = engine_id
        self._down_since = seen_until
        self._give_up_after_s = give_up_after_s
        self._last_sign_at = seen_until
        self._break: Gap | None = None
        self._accepting = Bell()
        self._told = ""
        self._failures = 0

    async def run(self) -> Never:
        """Watch for ever. Raises EngineLostForGood when so set and the socket stays dead."""
        while True:
            try:
                info = await self._connect()
            except EngineError as error:
                self._could_not_connect(error)
                await self._back_off()
                continue
            if not await self._is_ours(info):
                await self._accepting.wait(clock=self._clock, until=after(self._clock.now(), STRANGER_RETRY_S))
                continue
            await self._read()
            await self._back_off()

    async def accept_engine(self) -> str:
        """Believe the engine that answers now. Returns why not, or nothing."""
        info = self._condition.engine
        if info is None or not self._condition.reachable:
            return "no engine answers"
        if info.id == self._engine_id:
            return ""
        await self._belongs_to(info)
        self._accepting.ring()
        return ""

    async def _connect(self) -> EngineInfo:
        asked_at = self._clock.now()
        info = await self._engine.connect()
        # Its clock shows at least this by now, however long the answer took: no grace may end early.
        offset_ns = info.system_time - self._clock.now() if info.system_time is not None else 0
        doubt_s = max(0.0, seconds_between(asked_at, self._clock.now()))
        self._condition.connected(info, offset_ns=offset_ns, doubt_s=doubt_s)
        return info

    async def _is_ours(self, info: EngineInfo) -> bool:
        if self._engine_id is None:
            await self._belongs_to(info)
        if info.id == self._engine_id:
            self._say("")
            return True
        why = (
            f"the engine that answers is {one_line(info.id, limit=64)}, the ledger belongs to {self._engine_id}: "
            "nothing is done until it is accepted"
        )
        self._condition.refuse(why)
        if self._told != why:
            # Whatever was wrong before: this is news.
            self._told = ""
        self._say(why)
        return False

    async def _belongs_to(self, info: EngineInfo) -> None:
        slot = Slot()
        await self._inbox.ask(Note(engine_id=info.id, slot=slot), slot)
        self._engine_id = info.id

    async def _read(self) -> None:
        windows = Windows(
            clock=self._clock,
            engine=self._engine,
            condition=self._condition,
            seen=self._seen,
            resume_from=self._resume_from(),
            told=Told(
                line=self._on_line,
                bad_line=self._on_bad_line,
                settled=self._on_settled,
                half_open=self._on_half_open,
            ),
        )
        began_at = self._clock.now()
        why = await windows.read()
        self._condition.stream_broke(why)
        self._last_sign_at = windows.last_sign_at or self._last_sign_at
        if windows.last_sign_at is not None:
            await self._broke(since=windows.last_sign_at)
        if seconds_between(began_at, self._clock.now()) >= BACKOFF_MAX_S:
            self._failures = 0
        self._say(f"the event stream broke: {why}")

    def _resume_from(self) -> Instant | None:
        """By the engine's clock: when a stream of this life, or else of an earlier one, was last known to be open."""
        return Instant(self._last_sign_at + self._condition.offset_ns) if self._last_sign_at is not None else None

    async def _broke(self, *, since: Instant) -> None:
        # One that is open already was not proven empty, and its sweep is still to come: it grows.
        if not self._gaps.is_open(STREAM_CUT):
            self._break = self._gaps.open(STREAM_CUT, since=since)
        await self._inbox.put(Envelope(observation=EngineLost(observed_at=self._clock.now())))

    def _on_settled(self, continuous: bool) -> None:  # noqa: FBT001 - one answer, given to a callback
        """The replay has told whether anything is missing before it."""
        self._say("")
        broken, self._break = self._break, None
        down_since, self._down_since = self._down_since, None
        if continuous and broken is not None:
            self._gaps.close(broken, found="nothing: the engine repeated the last event that was known")
        if not continuous and down_since is not None:
            self._gaps.open("controller down", since=down_since)
        # Not before: a look that overtook the replay would see an end without what explains it.
        self._condition.accept()
        self._sweep.want(reconnected=True)

    def _on_half_open(self, since: Instant) -> None:
        """A renewal has shown that the stream before it was dead, and that the engine has forgotten what it missed."""
        self._gaps.open(HALF_OPEN, since=since)
        self._sweep.want()

    def _on_line(self, line: Line) -> None:
        observation = EventSeen(
            event=line.event,
            observed_at=self._clock.now(),
            replayed=line.replayed,
            continuous=line.continuous,
            after_gap=not line.continuous or self._condition.open_gaps_count > 0,
        )
        if self._inbox.offer(Envelope(observation=observation)):
            self._seen.add(line.event, now=observation.observed_at)
            return
        # Its key is not remembered, so that the next window may bring it again.
        happened_at = Instant(line.event.at - self._condition.offset_ns)
        self._gaps.open("overflow", since=min(happened_at, self._clock.now()))
        self._sweep.want()

    def _on_bad_line(self, line: BadLine) -> None:
        self._condition.bad_lines_count += 1
        self._log.warning("a line of the event stream could not be read", why=line.why)
        # It happened after the event before it, and may have been held up on the way.
        now, known_at = self._clock.now(), self._seen.last_at
        after_it = Instant(known_at - self._condition.offset_ns) if known_at is not None else now
        self._gaps.open("bad line", since=min(now, max(after_it, after(now, -HELD_UP_S))))
        self._sweep.want()

    def _could_not_connect(self, error: EngineError) -> None:
        failed = error if isinstance(error, EngineUnavailable) else EngineUnavailable(str(error))
        self._condition.could_not_ask(failed)
        self._say(f"the engine does not answer: {error}")
        refused_since = self._condition.refused_since
        if self._give_up_after_s and refused_since is not None:
            refused_s = seconds_between(refused_since, self._clock.now())
            if refused_s >= self._give_up_after_s:
                raise EngineLostForGood(f"the engine has refused for {refused_s:.0f} s: {error}")

    def _say(self, trouble: str) -> None:
        """One line when trouble begins and one when it is over; readiness has the rest."""
        if trouble and not self._told:
            self._log.warning("engine trouble", why=one_line(trouble, limit=300))
        if self._told and not trouble:
            self._log.info("engine is back")
        self._told = trouble

    async def _back_off(self) -> None:
        longest_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(self._failures, 10))
        self._failures += 1
        await self._clock.sleep(self._rng.uniform(longest_s / 2, longest_s))
