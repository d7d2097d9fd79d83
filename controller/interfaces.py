"""What the loops and the edges need from outside, split by who uses it.

`app.py` alone knows who implements these: `engine/` the backends, `store/` the ledger; in simulation other
engines and another clock stand behind the same names. Every method of an engine has a time limit of its own.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

import anyio

from controller.model.action import Action
from controller.model.container import (
    EngineEvent,
    EngineInfo,
    ListedContainer,
    LogTail,
    Snapshot,
)
from controller.model.ids import ActionId, ContainerId, ControllerId, EngineId, SessionId, SessionName
from controller.model.instant import Instant
from controller.model.journal import Evidence, Gap, JournalDraft, JournalRow
from controller.model.observation import Observation
from controller.model.session import Attempt, Session
from controller.model.sketch import SessionExitInfo, SessionHealth
from controller.model.spec import Mount, NetworkPolicy


class Clock(Protocol):
    """Time as the controller counts it."""

    def now(self) -> Instant:
        """UTC, taken from the wall once at start and carried on by a clock that no setting of the time moves."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait that long; an anyio checkpoint even for 0."""
        ...

    def move_on_after(self, seconds: float) -> AbstractContextManager[anyio.CancelScope]:
        """What `anyio.move_on_after` is, by this clock: what is within is cancelled after that long, and left."""
        ...


class Rng(Protocol):
    """Randomness: for identifiers and the jitter of reconnects. Decisions use none."""

    def token(self, bytes_count: int) -> str:
        """That many random bytes, as hex."""
        ...

    def uniform(self, low: float, high: float) -> float:
        """A float between the two."""
        ...


# --- the engine ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class BadLine:
    """A line of the event stream that could not be read; it may have been an event."""

    why: str
    """`not json`, `too long`, `cut`."""


StreamItem = EngineEvent | BadLine


@dataclass(frozen=True, kw_only=True)
class ContainerPlan:
    """Everything needed to create one container. Environment values are resolved; never log or store this."""

    name: str
    image: str
    command: Sequence[str]
    env: Mapping[str, str]
    labels: Mapping[str, str]
    memory_bytes: int
    cpus: float
    mounts: Sequence[Mount]
    workdir: str | None
    network_policy: NetworkPolicy
    stop_grace_s: float
    user: str | None = None
    controller_host: str = ""
    """Name or address by which it has to reach the controller; empty when it need not."""


class EngineReader(Protocol):
    """Questions only. Raises EngineUnavailable when it could not ask, which never means `gone`."""

    async def connect(self) -> EngineInfo:
        """Begin anew: fresh connections, the API version negotiated again. Safe to repeat at any time."""
        ...

    def events(self, *, since: Instant, until: Instant) -> AbstractAsyncContextManager[AsyncIterator[StreamItem]]:
        """The container events between two instants of the engine's clock, both inclusive.

        Entering sends the request and returns once the engine has answered. The iterator ends cleanly when the
        engine ends the stream in order (at `until`), and raises EngineUnavailable when it breaks.
        """
        ...

    async def list_ours(self, prefix: str) -> Sequence[ListedContainer]:
        """All containers, in any state, that carry `agentd.prefix=PREFIX`."""
        ...

    async def list_external(self) -> Sequence[ListedContainer]:
        """All containers, in any state, that carry `agentd.watch`."""
        ...

    async def inspect(self, container: ContainerId | str) -> Snapshot:
        """One container by full id, or by name. Raises ContainerGone on a definite 404."""
        ...


class EngineWriter(EngineReader, Protocol):
    """Changes. Only `act` gets this. `already so` is success; other failures are the errors of `errors.py`."""

    async def create(self, plan: ContainerPlan) -> ContainerId:
        """Create, not start. EngineConflict when the name is taken; EngineRefused when it can never work."""
        ...

    async def start(self, container: ContainerId) -> None:
        """Start. EngineRefused with the engine's words when the command, a mount or a port will not do."""
        ...

    async def stop(self, container: ContainerId, *, grace_s: float) -> None:
        """Ask to stop, kill after the grace. Returns once it has ended."""
        ...

    async def remove(self, container: ContainerId) -> None:
        """Remove a container that has ended, without force, with its anonymous volumes."""
        ...


class ContainerLogs(Protocol):
    """What a container printed."""

    async def tail(
        self, container: ContainerId, *, lines: int, max_bytes: int, since: Instant | None, until: Instant | None
    ) -> LogTail:
        """The last lines within the two engine instants; what stands in the way is said in `absent`, not raised."""
        ...

    def follow(self, container: ContainerId, *, lines: int) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """The last lines, then each new one until the container ends. Raises ContainerGone, EngineUnavailable."""
        ...


class ExecutionBackend(EngineWriter, ContainerLogs, Protocol):
    """One kind of engine, with the sketch's three operations. Their defaults are the sketch's."""

    async def session_health(self, name: str) -> SessionHealth:
        """Health of the session's container; unknown where a backend cannot tell."""
        return SessionHealth.UNKNOWN

    async def session_exit_info(self, name: str) -> SessionExitInfo | None:
        """How the session's container ended; None for running, absent or merely created."""
        return None

    async def list_sessions(self) -> Sequence[str]:
        """Names of the sessions that have a container here."""
        ...

    async def stop_session(self, name: str) -> None:
        """Stop one session's container; success when it is not there."""
        ...

    async def shutdown_all_sessions(self) -> None:
        """List and stop each."""
        for name in await self.list_sessions():
            await self.stop_session(name)


# --- the ledger ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Meta:
    """What the ledger knows of itself."""

    controller_id: ControllerId
    engine_id: EngineId | None
    """The engine it belongs to; None until the first connect."""
    key: bytes
    """Secret for session tokens and spec hashes."""
    cursor: Instant | None
    """Engine time of the last event that was committed. An earlier one may have a later time: clocks are set."""
    seen_until: Instant | None
    """Our clock when the event stream was last known to be open: a gap at start begins here."""
    published: int
    """The newest journal row known to have been printed."""


@dataclass(frozen=True, kw_only=True)
class EngineCursor:
    """What one batch read from the stream: committed with it, never before."""

    keys: Sequence[tuple[ContainerId, str, Instant]]
    cursor: Instant | None
    seen_until: Instant | None


@dataclass(frozen=True, kw_only=True)
class CommittedDecision:
    """One decision as it is to be written: the observation goes into the first of its rows."""

    observation: Observation | None
    rows: Sequence[JournalDraft]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Several decisions, written in one transaction or not at all."""

    decisions: Sequence[CommittedDecision] = ()
    sessions: Sequence[Session] = ()
    """Each session once, as it is after the batch. The attempts that it carries are written from it."""
    left_behind: Sequence[tuple[SessionId, Attempt]] = ()
    """Attempts that changed in this batch and that their session carries no more after it."""
    actions: Sequence[Action] = ()
    closed: Sequence[ActionId] = ()
    evidence: Sequence[Evidence] = ()
    gaps: Sequence[Gap] = ()
    """A gap with closed_at None opens one; with closed_at it closes the one with the same opened_at."""
    stream: EngineCursor | None = None
    engine_id: EngineId | None = None
    published: int | None = None
    prune_before: Instant | None = None
    """Forget old attempts and removed sessions from before this instant, and seen keys past their time."""


@dataclass(frozen=True, kw_only=True)
class JournalFilter:
    """Which rows of the journal."""

    after: int = 0
    limit: int = 100
    session_id: SessionId | None = None


class LedgerReader(Protocol):
    """The ledger, read-only. Answers hold committed facts only."""

    async def meta(self) -> Meta:
        """The single row of `meta`, with the stream's cursor."""
        ...

    async def sessions(self, *, include_removed: bool = False) -> Sequence[Session]:
        """Sessions by name."""
        ...

    async def find(self, name: SessionName) -> Session | None:
        """The session of that name: the one that is not removed, else the one removed last."""
        ...

    async def attempts(self, session_id: SessionId) -> Sequence[Attempt]:
        """All attempts on record, oldest first."""
        ...

    async def journal(self, wanted: JournalFilter) -> Sequence[JournalRow]:
        """Rows in the order of `seq`."""
        ...

    async def observations(self, session_id: SessionId) -> Sequence[tuple[int, Observation]]:
        """(decision, observation) of a session, in order: what a replay of its journal needs."""
        ...

    async def evidence(self, session_id: SessionId, attempt: int | None = None) -> Evidence | None:
        """What that attempt left behind (the latest with evidence when None)."""
        ...

    async def known_containers(self) -> Mapping[ContainerId, SessionId]:
        """Every container id that any record names, in any phase, removed or not."""
        ...

    async def open_actions(self) -> Sequence[Action]:
        """Decided and not closed, oldest first."""
        ...

    async def gaps(self, *, limit: int = 20) -> Sequence[Gap]:
        """The latest gaps, newest first."""
        ...

    async def seen_keys(self) -> Sequence[tuple[ContainerId, str, Instant]]:
        """Keys of the events of the last ten minutes."""
        ...

    async def backup(self, path: str) -> None:
        """A consistent copy of the whole ledger, while it runs. Raises LedgerError when the path exists."""
        ...


class Ledger(LedgerReader, Protocol):
    """The ledger with its one committer."""

    async def commit(self, batch: Batch) -> Sequence[JournalRow]:
        """Write the batch durably, whole or not at all; cancellation waits for it.

        Raises LedgerError when it was not written (and then none of it is).
        """
        ...


# --- for the HTTP edge -----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Readiness:
    """Whether the controller can be believed just now, and if not, why."""

    ready: bool
    reachable: bool
    """Whether the engine answered when last asked."""
    checks: Mapping[str, str] = field(default_factory=dict)
    """Each check by name: `ok`, or one line why not. Names: ledger, engine, stream, sweep, defects."""
    engine: EngineInfo | None = None
    clock_offset_s: float | None = None
    """Engine's clock minus ours."""
    stream_open_since: Instant | None = None
    last_sweep_at: Instant | None = None
    open_gaps: int = 0
    bad_lines: int = 0
    """Lines of the event stream that could not be read, since the controller's start."""


class Condition(Protocol):
    """How the controller is doing."""

    def readiness(self) -> Readiness:
        """Just now."""
        ...


@dataclass(frozen=True, kw_only=True)
class PlanLine:
    """One line of a sweep's plan: a finding, an action, or a container that is spared."""

    container: ContainerId
    name: str
    finding: str
    """`missing`, `mismatch`, `orphan`, `foreign`, `new`, `spared`, `controller`."""
    action: str
    """`look`, `remove`, `adopt`, `watch`, `report` or `none`."""
    reason: str
    session: SessionName | None = None


@dataclass(frozen=True, kw_only=True)
class SweepReport:
    """What one sweep compared, found and decided to do."""

    at: Instant
    dry_run: bool
    sessions_count: int
    containers_count: int
    lines: Sequence[PlanLine]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came of a request."""

    accepted: bool
    message: str = ""
    session_id: SessionId | None = None


class Requests(Protocol):
    """What the HTTP edge may ask for. Each enters the one inbox; the answer comes after the commit."""

    async def create(self, observation: Observation) -> Answer:
        """Submit a SessionRequested."""
        ...

    async def verb(self, session_id: SessionId, observation: Observation) -> Answer:
        """Submit a VerbRequested or ConnectionChanged for one session."""
        ...

    async def sweep(self, *, dry_run: bool, remove_orphans: bool = False) -> SweepReport:
        """One full sweep now. Raises EngineUnavailable. `remove_orphans` acts whatever the orphan policy says."""
        ...

    async def adopt(self, container: str, *, actor: str) -> Answer:
        """Take over one container, named by id, id prefix of at least 12 digits, or name."""
        ...

    async def accept_engine(self) -> Answer:
        """Believe the engine that answers now, after it turned out not to be the one in the ledger."""
        ...


class Feed(Protocol):
    """Committed journal rows as they come, for whoever waits."""

    def committed(self) -> int:
        """Highest `seq` that is committed."""
        ...

    async def wait_beyond(self, seq: int) -> int:
        """Return as soon as a row with a higher `seq` is committed, with the highest one."""
        ...
