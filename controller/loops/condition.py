"""How the controller is doing: what the loops know of the engine and of themselves, and what readiness says of it.

Written by the loops, read by the HTTP edge. It is memory only; whatever must survive a crash is in the ledger.
"""

from typing import Final

from controller.errors import EngineUnavailable
from controller.interfaces import Clock, Readiness
from controller.loops.waiting import Bell, Tide
from controller.model.container import EngineInfo
from controller.model.instant import Instant, after, seconds_between

SWEEP_TIMEOUT_S: Final = 60.0
"""A sweep that is owed for more than twice this long makes the controller not ready."""
OK: Final = "ok"


class ControllerCondition:
    """Implements `Condition`. Unknown is told as unknown: nothing here is ready before it was seen to be."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._acceptance = Tide()
        self._bells: list[Bell] = []
        self.doubt = Bell()
        """Rings when it is not known whether the engine still answers."""
        self.engine: EngineInfo | None = None
        self.accepted = False
        """The engine that answers is the ledger's own. False while there is no connection: then nobody knows."""
        self.connects_count = 0
        """Times that the engine was accepted: a sweep that began before the latest of them is worth nothing."""
        self.accepted_since: Instant | None = None
        """Our clock when it was last accepted: what was due before that is done late."""
        self.engine_trouble = "not asked yet"
        self.reachable = False
        self.refused_since: Instant | None = None
        """Since when every request was refused before it reached the engine; None when the last one was not."""
        self.offset_ns = 0
        self.offset_doubt_s = 0.0
        """So much later than `offset_ns` says the engine's clock may show."""
        self.answered_at: Instant | None = None
        self.stream_open_since: Instant | None = None
        self.stream_seen_until: Instant | None = None
        """Our clock when a stream was last known to be open, in this life or, until then, an earlier one."""
        self.stream_trouble = "not opened yet"
        self.first_sweep_ended = False
        self.sweep_owed_since: Instant | None = None
        self.last_sweep_at: Instant | None = None
        self.defects_count = 0
        self.last_defect = ""
        self.bad_lines_count = 0
        self.ledger_trouble = ""
        self.open_gaps_count = 0

    def engine_now(self) -> Instant:
        """The engine's clock as it was measured, which may be late by the time that an answer takes, never early."""
        return Instant(self._clock.now() + self.offset_ns)

    def wake_on_acceptance(self, bell: Bell) -> None:
        """Ring this bell whenever the engine turns out to be ours."""
        self._bells.append(bell)

    async def acceptance(self, *, until: Instant) -> None:
        """Return when the engine is accepted, or at the instant, or after a stretch on the way to it."""
        if not self.accepted:
            await self._acceptance.wait(clock=self._clock, until=until)

    def answered(self) -> None:
        """The engine gave a definite answer."""
        self.answered_at = self._clock.now()
        self.reachable = True
        self.refused_since = None

    def could_not_ask_about_one(self, error: EngineUnavailable) -> None:
        """A call about one container had no answer: perhaps it is the container, which makes no engine unreachable."""
        if error.request_sent:
            self.doubt.ring()
        else:
            self.could_not_ask(error)

    def could_not_ask(self, error: EngineUnavailable) -> None:
        """The engine did not answer. That says nothing about any container."""
        self.reachable = False
        self.engine_trouble = str(error)
        if error.request_sent:
            return
        if self.refused_since is None:
            self.refused_since = self._clock.now()

    def connected(self, info: EngineInfo, *, offset_ns: int, doubt_s: float) -> None:
        """An engine said who it is and what time it has, in an answer that took so long."""
        self.engine = info
        self.offset_ns = offset_ns
        self.offset_doubt_s = doubt_s
        self.answered()

    def accept(self) -> None:
        """It is the ledger's engine: the loops may ask and act."""
        self.accepted = True
        self.connects_count += 1
        self.accepted_since = self._clock.now()
        self.engine_trouble = ""
        self._acceptance.turn()
        for bell in self._bells:
            bell.ring()

    def refuse(self, why: str) -> None:
        """It is another engine: nothing is asked of it and nothing is done to it."""
        self.accepted = False
        self.engine_trouble = why

    def stream_opened(self) -> None:
        """A stream is open."""
        self.answered()
        if self.stream_open_since is None:
            self.stream_open_since = self._clock.now()
        self.stream_trouble = ""

    def stream_signed(self) -> None:
        """A line, or an orderly beginning or end, shows that the stream is whole up to now."""
        self.stream_seen_until = self._clock.now()
        self.answered()

    def stream_broke(self, why: str) -> None:
        """No stream is open any more: until the next connect nobody knows whose engine answers."""
        self.accepted = False
        self.engine_trouble = why
        self.stream_open_since = None
        self.stream_trouble = why

    def sweep_owed(self) -> None:
        """A sweep is wanted."""
        if self.sweep_owed_since is None:
            self.sweep_owed_since = self._clock.now()

    def swept(self, *, still_owed: bool) -> None:
        """A sweep has ended well."""
        self.first_sweep_ended = True
        self.last_sweep_at = self._clock.now()
        self.sweep_owed_since = self.last_sweep_at if still_owed else None

    def defect(self, what: str) -> None:
        """A decision failed; it is in the journal."""
        self.defects_count += 1
        self.last_defect = what

    def readiness(self) -> Readiness:
        """Just now."""
        checks = {
            "ledger": self.ledger_trouble or OK,
            "engine": OK if self.accepted and self.reachable else self.engine_trouble or "it did not answer",
            "stream": self.stream_trouble or OK,
            "sweep": self._sweep_check(),
            "defects": f"{self.defects_count}, the last: {self.last_defect}" if self.defects_count else OK,
        }
        return Readiness(
            ready=all(said == OK for name, said in checks.items() if name != "defects"),
            reachable=self.reachable,
            checks=checks,
            engine=self.engine,
            clock_offset_s=self.offset_ns / 1e9 if self.engine is not None else None,
            stream_open_since=self.stream_open_since,
            last_sweep_at=self.last_sweep_at,
            open_gaps=self.open_gaps_count,
            bad_lines=self.bad_lines_count,
        )

    def _sweep_check(self) -> str:
        if not self.first_sweep_ended:
            return "the first one has not ended"
        owed = self.sweep_owed_since
        if owed is not None and self._clock.now() > after(owed, 2 * SWEEP_TIMEOUT_S):
            return f"owed for {seconds_between(owed, self._clock.now()):.0f} s"
        return OK
