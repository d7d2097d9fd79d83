"""A session: what a user asked for, or a container that asks to be watched. It outlives its containers."""

from dataclasses import dataclass, field
from enum import StrEnum

from controller.model.container import ContainerFacts
from controller.model.exit import Exit
from controller.model.ids import ActionId, ContainerId, SessionId, SessionName
from controller.model.instant import Instant
from controller.model.phase import Desired, Health, Phase, Status
from controller.model.reason import Reason
from controller.model.spec import RestartPolicy, SessionSpec


class Origin(StrEnum):
    """How a session came into the ledger; it bounds what may be done to it."""

    REQUESTED = "requested"
    """Created by us on request: ours to start, stop, restart and remove."""
    EXTERNAL = "external"
    """Carries `agentd.watch`: acted on only by explicit request or its own labels, never removed."""
    ADOPTED = "adopted"
    """Taken over by container id: ours from then on, without a spec to create it anew."""
    ORPHAN = "orphan"
    """One of ours that no record knew, recorded in the moment it is to be removed."""


class StopCause(StrEnum):
    """Why we are stopping a session: our intent, committed before the engine is called."""

    REQUEST = "request"
    RESTART = "restart"
    REMOVE = "remove"
    SHUTDOWN = "shutdown"
    EXPIRED = "expired"
    NOT_CONNECTED = "not_connected"
    UNHEALTHY = "unhealthy"
    ORPHAN = "orphan"


@dataclass(frozen=True, kw_only=True)
class Intent:
    """A stop that we decided, and for whom."""

    cause: StopCause
    actor: str
    at: Instant
    """By our clock."""
    grace_s: float


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One run of one container, known by (container, started_at)."""

    number: int
    container: ContainerId
    started_at: Instant | None
    """The engine's StartedAt; None while the container is only created."""
    provisional: bool = False
    """started_at is the `start` event's time, until a look replaces it."""
    start_told: bool = False
    """Its `start` event was seen: another one is that of another run."""
    opened_at: Instant
    """When we first knew of it, by our clock."""
    finished_at: Instant | None = None
    """By the engine's clock."""
    ended_at: Instant | None = None
    """When we learnt of the end, by our clock; None while it runs."""
    exit: Exit | None = None
    oom_at: Instant | None = None
    """Engine time of the latest `oom` event."""
    kill_signal: int | None = None
    """The latest signal that somebody sent through the engine."""
    kill_at: Instant | None = None
    first_kill_signal: int | None = None
    """The signal that began the latest series of kills (a stop sends its signal, then 9)."""
    stop_at: Instant | None = None
    """Engine time of the `stop` event."""
    died_at: Instant | None = None
    """Engine time of the `die` event; None when nobody saw one."""
    died_after_gap: bool = False
    """Events were missing before that one, the start of a later run perhaps, and no look has shown this very run
    since: the end may be that one's."""
    restarted_at: Instant | None = None
    """Engine time of a `start` event that came while no end was known: of a later run, which a look should show."""
    looked_at_end: bool = False
    """Whether an inspect has confirmed or refined the end."""
    restart_count: int = 0
    """The engine's RestartCount when last seen."""
    intent: Intent | None = None
    """Our own stop of this attempt, if there was one."""
    evidence_kept: bool = False
    connected_once: bool = False


@dataclass(frozen=True, kw_only=True)
class ProvisionalEnd:
    """An end that looks like somebody's stop, until it is sure that the engine itself was not stopping."""

    until: Instant
    """By our clock: 30 s after it was seen."""


@dataclass(frozen=True, kw_only=True)
class Session:
    """Everything the ledger holds of one session but its history."""

    id: SessionId
    name: SessionName
    engine: str
    """The engine's name in our settings, so that one controller can later hold several."""
    origin: Origin
    external_key: str = ""
    """What identifies an external container across recreations: compose (project, service, number) or its name."""
    may_act: bool = True
    """False for an external container that another prefix claims by `agentd.watch=PREFIX`."""
    spec: SessionSpec | None = None
    spec_hash: str = ""
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    desired: Desired
    phase: Phase
    health: Health = Health.UNKNOWN
    reason: Reason
    message: str = ""
    created_at: Instant
    since: Instant
    """When the phase last changed, by our clock."""
    container: ContainerFacts | None = None
    attempt: Attempt | None = None
    earlier: tuple[Attempt, ...] = ()
    """The few attempts before, newest first, so that a late observation can complete its own."""
    attempt_count: int = 0
    """Number of the latest attempt."""
    restarts: int = 0
    """Restarts that the controller made on its own."""
    engine_restarts: int = 0
    """Restarts that the engine's own policy made."""
    granted_at: tuple[Instant, ...] = ()
    """When the restart policy granted attempts, newest last, no further back than the window needs."""
    backoff_step: int = 0
    """Failures in a row; the next wait doubles with each. Zero again after ten minutes of running."""
    next_attempt_at: Instant | None = None
    provisional: ProvisionalEnd | None = None
    look_owed_until: Instant | None = None
    """Restart, verdict and notification wait until then for the look at an ended attempt."""
    stop_wanted: Intent | None = None
    """A stop that is decided and not yet carried out: it waits for an open action, or its own is under way."""
    restart_wanted: bool = False
    """A stop is under way that is to be followed by a start."""
    removal_wanted: bool = False
    """The container is to be removed once it has ended."""
    connected: bool = False
    connection_due_at: Instant | None = None
    """When a session that must hold a connection is restarted for lack of one."""
    unhealthy_since: Instant | None = None
    expires_at: Instant | None = None
    expiry_warned: bool = False
    removal_again_at: Instant | None = None
    """The engine has not removed its container for certain: not to be asked before, and what takes it until then may be
    that removal, come late."""
    removed_at: Instant | None = None
    action_count: int = 0
    """Actions ever decided for this session: the next one's number is one higher."""
    open_actions: tuple[ActionId, ...] = ()
    crash_looping: bool = False
    """The restart budget is spent; a user's start clears it."""
    due_at: Instant | None = None
    """The earliest of this session's deadlines, kept by `core/deadlines.py` for the index."""

    @property
    def status(self) -> Status:
        """The coarse view."""
        return self.phase.status

    @property
    def is_external(self) -> bool:
        """Whether somebody else made it and it is only watched."""
        return self.origin is Origin.EXTERNAL

    @property
    def engine_backs_off(self) -> bool:
        """Whether the engine, by its own restart policy, is about to start its container again."""
        return self.phase is Phase.BACKOFF and self.next_attempt_at is None and self.container is not None

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The latest and those before it that it carries, newest first."""
        return self.earlier if self.attempt is None else (self.attempt, *self.earlier)

    @property
    def container_id(self) -> ContainerId | None:
        """The engine's id of the container that it has now or had last."""
        return self.container.id if self.container is not None else None
