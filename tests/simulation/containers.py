"""Simulated containers: what their programs do, what the engine keeps of them, and what it shows.

A program is told to the simulated engine by the last word of the container's command, so that the very same command,
with a shell in front, runs on a real engine (`Program.command`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from enum import StrEnum

from controller.model.container import (
    ContainerFacts,
    ContainerState,
    EngineRestart,
    ListedContainer,
    ProbeResult,
    Snapshot,
)
from controller.model.ids import ContainerId
from controller.model.instant import Instant
from controller.model.phase import Health
from tests.simulation.timeline import Appointment

_WORD = "program:"


@dataclass(frozen=True, kw_only=True)
class Program:
    """What the main process of a container does, from its start on. Lengths are seconds; None is never."""

    runs_s: float | None = None
    """Ends by itself after this long."""
    code: int = 0
    """With this exit code."""
    ends_after_term_s: float | None = 0.05
    """How long it takes to obey SIGTERM; None ignores it."""
    term_code: int = 143
    oom_at_s: float | None = None
    """The main process runs out of memory."""
    child_oom_at_s: float | None = None
    """A child of it does; the main process goes on."""
    healthy_at_s: float = 0.0
    """Its probe succeeds from here on ..."""
    sick_at_s: float | None = None
    """... and fails again from here on."""
    start_fails: bool = False
    runs_once: bool = False
    """It deletes what it was started from: its next start fails."""

    def word(self) -> str:
        """The program as one word."""
        changed = [f for f in fields(self) if getattr(self, f.name) != f.default]
        return _WORD + ",".join(f"{f.name}={_text(getattr(self, f.name))}" for f in changed)

    def command(self) -> tuple[str, ...]:
        """A command that does this on a real engine with a shell, and carries the word for a simulated one."""
        if self.start_fails:
            return ("/no-such-program", self.word())
        trap = "trap '' TERM; "
        if self.ends_after_term_s is not None:
            trap = f"trap 'sleep {self.ends_after_term_s}; exit {self.term_code}' TERM; "
        if self.sick_at_s is not None:
            trap += f"(sleep {self.sick_at_s}; touch /tmp/sick) & "
        if self.oom_at_s is not None:
            body = f"sleep {self.oom_at_s}; x=a; while :; do x=$x$x$x$x; done"
        elif self.runs_s is not None:
            body = f"sleep {self.runs_s} & wait $!; exit {self.code}"
        else:
            body = "while :; do sleep 0.05; done"
        if self.runs_once:
            trap = f"/bin/rm /bin/sh; {trap}"
        return ("/bin/sh", "-c", trap + body, self.word())


def program_of(command: tuple[str, ...]) -> Program:
    """Read the program back from a command; a command without the word runs until it is stopped."""
    if not command or not command[-1].startswith(_WORD):
        return Program()
    values: dict[str, object] = {}
    for part in filter(None, command[-1].removeprefix(_WORD).split(",")):
        name, _, text = part.partition("=")
        values[name] = _value(name, text)
    return Program(**values)  # type: ignore[arg-type]


def _text(value: object) -> str:
    return "never" if value is None else str(int(value)) if isinstance(value, bool) else str(value)


def _value(name: str, text: str) -> object:
    if text == "never":
        return None
    if name in ("code", "term_code"):
        return int(text)
    return text == "1" if name in ("start_fails", "runs_once") else float(text)


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A container's health check, by the engine's words. The first run comes after one interval."""

    interval_s: float = 10.0
    retries: int = 3
    start_period_s: float = 0.0
    silent: bool = False
    """It says nothing when it fails."""


class Status(StrEnum):
    """The engine's own states."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    EXITED = "exited"
    REMOVING = "removing"
    DEAD = "dead"
    """Its removal failed half-way."""


@dataclass(kw_only=True)
class Process:
    """A main process. It outlives a daemon that is killed."""

    started: float
    """Virtual time."""
    end: Appointment | None = None
    end_code: int = 0
    alive: bool = True
    code: int = 0
    """Exit code, once it is not alive."""
    ended: float = 0.0
    frozen_left_s: float | None = None
    """How long it would have run on, while it is paused."""


@dataclass(kw_only=True)
class Container:
    """Everything the engine keeps of one container."""

    id: ContainerId
    name: str
    image: str
    labels: dict[str, str]
    created_at: Instant
    program: Program
    restart: EngineRestart = EngineRestart.NO
    restart_limit: int = 0
    auto_remove: bool = False
    probe: Probe | None = None
    memory_bytes: int = 0
    command: tuple[str, ...] = ()
    status: Status = Status.CREATED
    started_at: Instant | None = None
    finished_at: Instant | None = None
    exit_code: int = 0
    oom_killed: bool = False
    error: str = ""
    health: Health | None = None
    """None where there is no probe or it never ran. `unhealthy` for whatever does not run: the engine says so."""
    streak: int = 0
    probes: list[ProbeResult] = field(default_factory=list)
    restart_count: int = 0
    failures: int = 0
    manually_stopped: bool = False
    restart_cancelled: bool = False
    backoff_s: float = 0.1
    process: Process | None = None
    next_probe: Appointment | None = None
    next_start: Appointment | None = None
    stops: list["StopWaiting"] = field(default_factory=list)
    removing: bool = False
    """Marked for removal: it cannot be started any more."""
    before_removal: Status = Status.CREATED
    """While it is `removing`: what it was, and will be again to a daemon that is killed now."""
    removal_failed: bool = False
    """In this life of the daemon."""
    removed: bool = False
    starts: int = 0
    """How often it was ever started: the oracle counts on it."""
    lines: list[str] = field(default_factory=list)

    @property
    def running(self) -> bool:
        """Whether the engine counts it as running: paused and restarting ones are."""
        return self.status in (Status.RUNNING, Status.PAUSED, Status.RESTARTING)

    @property
    def alive(self) -> bool:
        """Whether there is a process, whatever the engine believes."""
        return self.process is not None and self.process.alive


@dataclass(kw_only=True)
class StopWaiting:
    """A stop under way: it waits for the end, then says `stop`."""

    kill: Appointment | None
    first: bool
    """Whether its `stop` comes before the `die`, as it mostly does since Engine 23."""
    done: Callable[[object], None]


def shown_health(container: Container) -> Health:
    """Health as the adapter reports it: it counts only while running; NONE without a probe."""
    if container.status is not Status.RUNNING:
        return Health.UNKNOWN
    return Health.NONE if container.probe is None else container.health or Health.STARTING


def snapshot(container: Container) -> Snapshot:
    """What an inspect answers."""
    ended = container.status in (Status.EXITED, Status.DEAD, Status.RESTARTING)
    return Snapshot(
        facts=ContainerFacts(
            id=container.id,
            name=container.name,
            image=container.image,
            labels=dict(container.labels),
            created_at=container.created_at,
            engine_restart=container.restart,
            engine_restart_limit=container.restart_limit,
            auto_remove=container.auto_remove,
            memory_limit_bytes=container.memory_bytes,
            has_probe=container.probe is not None,
        ),
        state=ContainerState(container.status),
        started_at=container.started_at,
        finished_at=container.finished_at,
        exit_code=container.exit_code if ended else None,
        oom_killed=container.oom_killed,
        error="" if container.status in (Status.REMOVING, Status.DEAD) else container.error,
        health=shown_health(container),
        probes=tuple(container.probes[-5:]),
        restart_count=container.restart_count,
    )


def listed(container: Container) -> ListedContainer:
    """One row of a list answer."""
    return ListedContainer(
        id=container.id,
        name=container.name,
        image=container.image,
        labels=dict(container.labels),
        # Of a dead one the list says `removing` until the daemon has been restarted: an inspect knows better.
        state=ContainerState.REMOVING if container.removal_failed else ContainerState(container.status),
        created_at=container.created_at,
        # The list has no number: it is read from the words of the status, and a dead one has none.
        exit_code=container.exit_code if container.status in (Status.EXITED, Status.RESTARTING) else None,
        health=_listed_health(container),
    )


def _listed_health(container: Container) -> Health:
    """The list tells health in its status text only, and says nothing of a container without a probe."""
    if container.status is not Status.RUNNING or container.probe is None:
        return Health.UNKNOWN
    return container.health or Health.STARTING
