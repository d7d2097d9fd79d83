"""What an engine shows, in our types. Nothing here assumes Docker's JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from controller.model.ids import ContainerId, EngineId
from controller.model.instant import Instant
from controller.model.phase import Health


class ContainerState(StrEnum):
    """An engine's own word for a container."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"
    UNKNOWN = "unknown"


class EngineRestart(StrEnum):
    """The engine's own restart policy of a container. Ours always have `no`: one owner of restarts."""

    NO = "no"
    ON_FAILURE = "on-failure"
    ALWAYS = "always"
    UNLESS_STOPPED = "unless-stopped"


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """One run of a container's health probe."""

    started_at: Instant | None
    exit_code: int
    output: str
    """At most 4096 characters, as the engine kept them. Untrusted text."""


@dataclass(frozen=True, kw_only=True)
class ContainerFacts:
    """What does not change while a container lives (its name can)."""

    id: ContainerId
    name: str
    """Without the leading slash."""
    image: str
    labels: Mapping[str, str] = field(default_factory=dict)
    created_at: Instant | None = None
    """By the engine's clock."""
    engine_restart: EngineRestart = EngineRestart.NO
    engine_restart_limit: int = 0
    auto_remove: bool = False
    memory_limit_bytes: int = 0
    """0 means no limit."""
    has_probe: bool = False


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """One inspect of one container."""

    facts: ContainerFacts
    state: ContainerState
    started_at: Instant | None = None
    """By the engine's clock; None when it never started."""
    finished_at: Instant | None = None
    exit_code: int | None = None
    """None unless the container has ended."""
    oom_killed: bool = False
    error: str = ""
    """The engine's own words about a failed start. Untrusted text."""
    health: Health = Health.UNKNOWN
    """UNKNOWN whenever the container is not running, whatever the engine says; NONE when it has no probe."""
    probes: tuple[ProbeResult, ...] = ()
    restart_count: int = 0


@dataclass(frozen=True, kw_only=True)
class ListedContainer:
    """One row of a container list: cheap, partial, and as old as the request."""

    id: ContainerId
    name: str
    image: str
    labels: Mapping[str, str]
    state: ContainerState
    created_at: Instant | None
    exit_code: int | None
    """Read from the status text; None when it does not tell."""
    health: Health
    """UNKNOWN when the list does not tell."""


class EventAction(StrEnum):
    """The container events that the controller understands. Others are ignored by the adapter."""

    CREATE = "create"
    START = "start"
    RESTART = "restart"
    DIE = "die"
    KILL = "kill"
    STOP = "stop"
    OOM = "oom"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    RENAME = "rename"
    UPDATE = "update"
    DESTROY = "destroy"
    HEALTH = "health_status"


@dataclass(frozen=True, kw_only=True)
class EngineEvent:
    """One line of the event stream. Labels overwrite attributes there: see `spoofable`."""

    container: ContainerId
    action: EventAction
    at: Instant
    """`timeNano`, by the engine's clock."""
    name: str = ""
    image: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """Everything else the engine attached, container labels among it (the adapter drops nothing but noise).
    An attribute such as `exitCode` may be a label of that name."""
    exit_code: int | None = None
    signal: int | None = None
    health: Health | None = None
    old_name: str = ""

    @property
    def key(self) -> tuple[ContainerId, EventAction, Instant]:
        """What makes two lines the same event."""
        return (self.container, self.action, self.at)


@dataclass(frozen=True, kw_only=True)
class EngineInfo:
    """Who answered, measured anew at each connect."""

    id: EngineId
    name: str
    """`docker`, or what else speaks its API (`podman`)."""
    version: str
    api_version: str
    system_time: Instant | None
    """The engine's clock at that moment; None when it does not tell."""
    live_restore: bool = False
    containerised: bool = False


@dataclass(frozen=True, kw_only=True)
class LogTail:
    """The last lines of a container's output: bounded, decoded with replacement, secrets masked."""

    lines: tuple[str, ...]
    truncated: bool
    absent: str = ""
    """Why there is nothing (`container gone`, `log driver`, `could not ask`); empty when the lines are the answer."""
