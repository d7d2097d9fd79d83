"""Where a session stands, and what is wanted of it."""

from enum import StrEnum
from typing import assert_never


class Phase(StrEnum):
    """Stored and closed: every `match` on it ends in `assert_never`."""

    PENDING = "pending"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def status(self) -> "Status":
        """The coarse view of this phase."""
        match self:
            case Phase.PENDING | Phase.STARTING | Phase.BACKOFF:
                return Status.PENDING
            case Phase.RUNNING | Phase.PAUSED | Phase.STOPPING:
                return Status.RUNNING
            case Phase.STOPPED:
                return Status.STOPPED
            case Phase.FAILED:
                return Status.FAILED
            case _:
                assert_never(self)

    @property
    def rank(self) -> int:
        """How far an attempt has come; within one attempt it never falls."""
        match self:
            case Phase.PENDING:
                return 0
            case Phase.STARTING:
                return 1
            case Phase.RUNNING | Phase.PAUSED | Phase.STOPPING:
                return 2
            case Phase.BACKOFF | Phase.STOPPED | Phase.FAILED:
                return 3
            case _:
                assert_never(self)

    @property
    def is_live(self) -> bool:
        """Whether a process of the session is believed to exist in this phase."""
        return self.rank == Phase.RUNNING.rank

    @property
    def is_ended(self) -> bool:
        """Whether the latest attempt is over in this phase."""
        return self.rank == Phase.STOPPED.rank


class Status(StrEnum):
    """The coarse view that the sketch's users know."""

    PENDING = "pending"
    RUNNING = "running"
    STOPPED = "stopped"
    FAILED = "failed"


class Desired(StrEnum):
    """What the ledger wants."""

    RUNNING = "running"
    STOPPED = "stopped"


class Health(StrEnum):
    """Beside the phase, not in it; counts only while running."""

    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"
    """Not running, or not known."""
    NONE = "none"
    """Running, and the container has no probe."""
