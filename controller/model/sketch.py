"""The two answers that the sketch's backend operations give, under the sketch's names."""

from dataclasses import dataclass
from enum import StrEnum

from controller.model.instant import Instant


class SessionHealth(StrEnum):
    """`session_health()`: a running container without a probe counts as healthy; not running is unknown."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    STARTING = "starting"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class SessionExitInfo:
    """`session_exit_info()`: how a container that has ended ended, as its engine tells it."""

    exit_code: int
    oom_killed: bool
    error: str
    """The engine's own words; empty when it had none."""
    finished_at: Instant | None
