"""The simulated engine's event service: a ring of the last 256 events of all kinds, and its readers.

Memory only: a daemon that starts again has an empty ring. Filters do not protect the ring, so that probes' exec events
push a `die` out of it. A reader that is too slow loses events without any sign.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from controller.interfaces import BadLine, StreamItem
from controller.model.container import EngineEvent, EventAction
from controller.model.instant import Instant
from controller.model.phase import Health
from tests.simulation.containers import Container

RING_SIZE: Final = 256
READER_SIZE: Final = 1024


@dataclass(frozen=True, kw_only=True)
class StreamEnd:
    """How a stream ended: None in order, else by this cause."""

    cause: str | None


class Reader:
    """One open stream, as the engine sees it. What it holds is read by `engine.py` in the loop."""

    def __init__(self, *, until: Instant) -> None:
        self.until = until
        self.items: deque[StreamItem | StreamEnd] = deque()
        self.wake: Callable[[], None] = lambda: None
        self.half_open = False
        self.half_open_since = 0.0
        self.ended = False
        self.lost = 0
        self.last_arrival = 0.0
        """When the last event that kept its place reached it."""

    def put(self, item: StreamItem) -> None:
        """Deliver, or lose it when the reader is too slow or the connection only seems to be there."""
        if self.half_open or self.ended:
            self.lost += 1
            return
        if len(self.items) >= READER_SIZE:
            self.lost += 1
            return
        self.items.append(item)
        self.wake()

    def end(self, cause: str | None) -> None:
        """End it; nothing reaches a half-open one."""
        if self.half_open or self.ended:
            return
        self.ended = True
        self.items.append(StreamEnd(cause=cause))
        self.wake()


class EventService:
    """Ring and readers of one life of the daemon."""

    def __init__(self) -> None:
        self.ring: deque[tuple[Instant, EngineEvent | None]] = deque(maxlen=RING_SIZE)
        self.readers: list[Reader] = []
        self.deliver: Callable[[Reader, EngineEvent], None] = lambda reader, event: reader.put(event)
        """How an event travels: the fault menu may drop, double, delay or swap it."""

    def publish(self, event: EngineEvent) -> None:
        """Into the ring, and to each reader."""
        self.ring.append((event.at, event))
        for reader in self.readers:
            if event.at <= reader.until:
                self.deliver(reader, event)

    def noise(self, at: Instant, count: int) -> None:
        """Events of other kinds: they fill the ring and reach no reader of ours."""
        self.ring.extend((at, None) for _ in range(count))

    def subscribe(self, *, since: Instant, until: Instant) -> Reader:
        """Open a stream: first what the ring still has, from the newest back to the first older one."""
        reader = Reader(until=until)
        kept: list[EngineEvent] = []
        for at, event in reversed(self.ring):
            if at < since:
                break
            if event is not None and at <= until:
                kept.append(event)
        reader.items.extend(reversed(kept))
        self.readers.append(reader)
        return reader

    def close(self, reader: Reader) -> None:
        """The client went away."""
        reader.ended = True
        if reader in self.readers:
            self.readers.remove(reader)

    def close_all(self) -> None:
        """All clients went away."""
        for reader in tuple(self.readers):
            self.close(reader)

    def cut(self, cause: str | None) -> None:
        """End every stream."""
        for reader in self.readers:
            reader.end(cause)
        self.readers = [reader for reader in self.readers if reader.half_open]

    def spoil(self, why: str) -> None:
        """A line that nobody can read."""
        for reader in self.readers:
            reader.put(BadLine(why=why))


def event_of(container: Container, action: str, at: Instant, **attributes: str) -> EngineEvent:
    """One event as the adapter reads it. Labels overwrite attributes; only image and name are safe."""
    kept = {**attributes, **container.labels}
    kind, _, detail = action.partition(": ")
    return EngineEvent(
        container=container.id,
        action=EventAction(kind),
        at=at,
        name=container.name,
        image=container.image,
        attributes=kept,
        exit_code=_number(kept.get("exitCode")) if kind == "die" else None,
        signal=_number(kept.get("signal")) if kind == "kill" else None,
        health=Health(detail) if detail else None,
        old_name=kept.get("oldName", "").removeprefix("/") if kind == "rename" else "",
    )


def _number(text: str | None) -> int | None:
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None
