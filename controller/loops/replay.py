"""What the engine repeats when a stream is opened: which lines are new, and whether any is missing before them.

Used by `watch` alone. An event is skipped because its key was seen, never because it is old. The last event known
before, found again, proves that nothing is missing; without it, a replay is only the end of an unknown story.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from controller.model.container import EngineEvent
from controller.model.ids import ContainerId
from controller.model.instant import Instant, after

SEEN_FOR_S: Final = 600.0
SEEN_MIN: Final = 512
"""So many keys are kept however old they are: after a long silence, too, an engine repeats its last 256."""
REPLAY_SIZE_MAX: Final = 512
"""Held back while it is not known whether the replay is continuous. An engine's own memory holds 256."""

EventKey = tuple[ContainerId, str, Instant]


class SeenEvents:
    """Keys of the events that have come in the last ten minutes, and always of the last few hundred.

    The engine's clock may have been ahead when it stamped one, and be right by now. So nothing rests on the latest of
    these times: the last event is the one that came last, and the age of a key is how long ago it came, by our clock.
    """

    def __init__(self, keys: Sequence[EventKey], *, last_at: Instant | None, now: Instant) -> None:
        self._came_at = OrderedDict.fromkeys(keys, now)
        self.last_at = last_at
        """The engine's time of the event that came last."""

    def __contains__(self, event: EngineEvent) -> bool:
        return event.key in self._came_at

    def add(self, event: EngineEvent, *, now: Instant) -> None:
        """Remember it; forget those that came too long ago to come again."""
        self._came_at[event.key] = now
        self.last_at = event.at
        oldest = after(now, -SEEN_FOR_S)
        while len(self._came_at) > SEEN_MIN and next(iter(self._came_at.values())) < oldest:
            self._came_at.popitem(last=False)


@dataclass(frozen=True, kw_only=True)
class Line:
    """An event, and how it came."""

    event: EngineEvent
    replayed: bool
    continuous: bool


class Replay:
    """The lines of one stream from its opening until it is known what they are worth."""

    def __init__(self, seen: SeenEvents, *, opened_at: Instant, proven: bool) -> None:
        self._seen = seen
        self._opened_at = opened_at
        self._wanted = seen.last_at
        self._held: list[EngineEvent] = []
        self._live = False
        self.continuous: bool | None = True if proven else None
        """None until it is known."""
        self.found_the_last = False
        """Whether the event that was known last has been repeated. Never, while none is known."""

    def take(self, event: EngineEvent) -> list[Line]:
        """The lines that may be passed on now, in order."""
        self.found_the_last = self.found_the_last or event.at == self._wanted
        if self.continuous is not None:
            return [self._line(event)]
        self._held.append(event)
        if event.at == self._wanted:
            return self._classified(continuous=True)
        # One that is known is being repeated, whatever the time on it: the engine's clock may have been ahead then.
        is_live = event.at >= self._opened_at and event not in self._seen
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
