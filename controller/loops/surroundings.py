"""What nearly every loop has around it, so that it is handed over once."""

from dataclasses import dataclass

from controller.interfaces import Clock, Rng
from controller.loops.condition import ControllerCondition
from controller.loops.gaps import Gaps
from controller.loops.inbox import Inbox
from controller.loops.log import Log


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Time, chance, the inbox, what is known of the engine, the open gaps, and the log."""

    clock: Clock
    rng: Rng
    inbox: Inbox
    condition: ControllerCondition
    gaps: Gaps
    log: Log
