"""What goes wrong between the controller and its engine, call by call and event by event.

A menu of probabilities, drawn anew for each world; or a script that names the one call to spoil, for the complete runs.
A fault is honest: a 404 comes from a container that was really removed, a stale list from one that was really asked
for earlier. Only what a broken connection can do to bytes is done to events.
"""

import random
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum


class Fault(StrEnum):
    """What may happen to one call."""

    NONE = "none"
    REFUSED = "refused"
    """The connection is refused: the engine never gets the request."""
    ERROR = "error"
    """The engine answers 500 and does nothing."""
    HANG = "hang"
    """The engine gets the request and never acts nor answers."""
    LATE = "late"
    """The engine acts, but only after the caller has given up."""
    LOST_REPLY = "lost reply"
    """The engine acts, and the answer is lost."""
    STALE = "stale"
    """The answer is as old as the caller's patience: what it shows has passed."""
    GONE = "gone"
    """Somebody removes the container just before."""
    CONFLICT = "conflict"
    """Somebody takes the name, or starts the container, just before."""
    PARTIAL = "partial"
    """A list with some of its rows missing."""


CALL_FAULTS = (
    Fault.REFUSED,
    Fault.ERROR,
    Fault.HANG,
    Fault.LATE,
    Fault.LOST_REPLY,
    Fault.STALE,
    Fault.GONE,
    Fault.CONFLICT,
    Fault.PARTIAL,
)


STREAM_FAULTS = ("dropped", "doubled", "swapped", "delayed", "bad line")


@dataclass(kw_only=True)
class FaultMenu:
    """Probabilities of one world, and a count of what really fired."""

    rng: random.Random
    calls: dict[Fault, float] = field(default_factory=dict)
    drop: float = 0.0
    double: float = 0.0
    swap: float = 0.0
    delay: float = 0.0
    delay_s: float = 5.0
    bad_line: float = 0.0
    script: dict[int, Fault] = field(default_factory=dict)
    """Number of the call -> what happens to it: for the complete runs."""
    event_script: dict[int, str] = field(default_factory=dict)
    """Number of the event that sets out for a reader -> what happens to it."""
    events: int = 0
    lost_on_the_way: list[tuple[str, int]] = field(default_factory=list)
    """Container and time of each event that was late, or overtaken by others, when its stream ended."""
    calm: bool = False
    asked: int = 0
    fired: Counter[str] = field(default_factory=Counter)
    """How often each kind of fault hit each kind of call."""

    def of_call(self, kind: str) -> Fault:
        """What happens to this call."""
        self.asked += 1
        fault = self.script.get(self.asked, Fault.NONE)
        if fault is Fault.NONE and not self.calm and self.calls:
            fault = self._draw()
        if fault is not Fault.NONE:
            self.fired[f"{kind}: {fault.value}"] += 1
        return fault

    def _draw(self) -> Fault:
        ticket = self.rng.random()
        for fault, probability in self.calls.items():
            if ticket < probability:
                return fault
            ticket -= probability
        return Fault.NONE

    def strikes(self, what: str, probability: float) -> bool:
        """Whether one of the stream's faults fires now."""
        by_chance = not self.calm and probability and self.rng.random() < probability
        if not by_chance and self.event_script.get(self.events) != what:
            return False
        self.fired[f"events: {what}"] += 1
        return True
