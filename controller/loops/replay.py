"""What the engine repeats when a stream is opened: which lines are new, and whether any is missing before them.

Used by `watch` alone. An event is skipped because its key was seen, never because it is old. The last event known
before, found again, proves that nothing is missing; without it, a replay is only the end of an unknown story.
"""

from dataclasses import dataclass
from typing import Final

from controller.model.container import EngineEvent
from controller.model.ids import ContainerId
from controller.model.instant import Instant, after

SEEN_FOR_S: Final = 600.0
REPLAY_SIZE_MAX: Final = 512
"""Held back while it is not known whether the replay is continuous. An engine's own memory holds 256."""

EventKey = tuple[ContainerId, str, Instant]


class SeenEvents:
    """Keys of the events of the ten minutes before the newest one."""

    def __init__(self, keys: list[EventKey], *, newest: Instant | None) -> None:
        self._keys: dict[EventKey, None] = dict.fromkeys(sorted(keys, key=lambda key: key[2]))
        self.newest = newest
        self._forget_at: Instant | None = None
        # After a long silence the ledger has forgotten the keys around its cursor. What is not newer than the cursor
        # was committed then; the price is an event that came out of order just before a silence of ten minutes.
        told_apart = newest is None or any(key[2] == newest for key in keys)
        self._forgotten_until = None if told_apart else newest

    def __contains__(self, event: EngineEvent) -> bool:
        if self._forgotten_until is not None and event.at <= self._forgotten_until:
            return True
        return event.key in self._keys

    def add(self, event: EngineEvent) -> None:
        """Remember it; forget those that are too old to come again."""
        self._keys[event.key] = None
        if self.newest is None or event.at > self.newest:
            self.newest = event.at
        if self._forget_at is None or self.newest > self._forget_at:
            oldest = after(self.newest, -SEEN_FOR_S)
            self._keys = {key: None for key in self._keys if key[2] >= oldest}
            self._forget_at = after(self.newest, SEEN_FOR_S / 10)

    def is_newest(self, event: EngineEvent) -> bool:
        """Whether this is the event that was known last, or one of that very instant."""
        return self.newest is not None and event.at == self.newest


@dataclass(frozen=True, kw_only=True)
class Line:
    """An event, and how it came."""

    event: EngineEvent
    replayed: bool
    continuous: bool


class Replay:
    """The lines of one stream from its opening until it is known what they are worth."""

    def __init__(self, seen: SeenEvents, *, opened_at: Instant, proven: bool) -> None:
        self._opened_at = opened_at
        self._wanted = seen.newest
        self._held: list[EngineEvent] = []
        self._live = False
        self.continuous: bool | None = True if proven else None
        """None until it is known."""
        self.found_the_newest = self._wanted is None
        """Whether the event that was known last has been repeated."""

    def take(self, event: EngineEvent) -> list[Line]:
        """The lines that may be passed on now, in order."""
        self.found_the_newest = self.found_the_newest or event.at == self._wanted
        if self.continuous is not None:
            return [self._line(event)]
        self._held.append(event)
        if event.at == self._wanted:
            return self._classified(continuous=True)
        is_live = event.at >= self._opened_at and (self._wanted is None or event.at > self._wanted)
        if is_live or len(self._held) >= REPLAY_SIZE_MAX:
            return self._classified(continuous=False)
        return []

    def settle(self) -> list[Line]:
        """Silence: whatever was to be repeated has been. What comes from now on is live."""
        lines = [] if self.continuous is not None else self._classified(continuous=False)
        self._live = True
        return lines

    def _classified(self, *, continuous: bool) -> list[Line]:
        self.continuous = continuous
        held, self._held = self._held, []
        return [self._line(event) for event in held]

    def is_past(self, event: EngineEvent) -> bool:
        """Whether it happened before this stream was opened."""
        return not self._live and event.at < self._opened_at

    def _line(self, event: EngineEvent) -> Line:
        replayed = self.is_past(event)
        return Line(event=event, replayed=replayed, continuous=not replayed or bool(self.continuous))
