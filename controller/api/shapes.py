"""The shapes of everything that the controller tells over HTTP: the contract's field names, and the document's schemas.

`views.py` fills them from the model; the command line reads them back.
"""

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from controller.model.exit import Confidence, Verdict
from controller.model.phase import Desired, Health, Phase, Status
from controller.model.reason import Reason, Source
from controller.model.spec import NetworkPolicy, RestartMode

Time = str
"""RFC 3339, UTC, nine digits of fraction."""


class View(BaseModel):
    """Something that the controller tells; more fields may come."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())


class ExitView(View):
    """How an attempt ended."""

    exit_code: int | None
    signal: int | None
    oom_killed: bool
    error: str
    verdict: Verdict
    confidence: Confidence
    evidence: list[str]


class MountView(View):
    """One mount of a session."""

    source: str
    target: str
    read_only: bool


class RestartView(View):
    """A restart policy."""

    mode: RestartMode
    max_attempts: int | None
    window_s: float
    slow_retry_s: float | None
    unhealthy_restart_s: float | None


class SpecView(View):
    """What was asked for; the values of `env` are masked."""

    image: str
    command: list[str]
    env: dict[str, str]
    env_from: list[str]
    labels: dict[str, str]
    memory_bytes: int
    cpus: float
    mounts: list[MountView]
    workdir: str | None
    network_policy: NetworkPolicy
    restart: RestartView
    expect_connection: bool
    ttl_s: float | None
    stop_grace_s: float | None
    agent_type: str
    model_provider: str
    model_name: str
    user: str | None


class SessionView(View):
    """One session."""

    name: str
    external: bool
    desired: Desired
    phase: Phase
    status: Status
    health: Health
    reason: Reason
    message: str
    reachable: bool
    connected: bool
    attempt: int
    restarts: int
    container_id: str | None
    container_name: str | None
    image: str | None
    engine: str
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
    since: Time
    next_attempt_at: Time | None
    expires_at: Time | None
    removed_at: Time | None
    exit: ExitView | None
    spec: SpecView | None
    labels: dict[str, str]


class RowView(View):
    """One row of the journal."""

    seq: int
    event: str
    session: str | None
    attempt: int
    from_phase: Phase | None = Field(validation_alias=AliasChoices("from", "from_phase"), serialization_alias="from")
    to_phase: Phase | None = Field(validation_alias=AliasChoices("to", "to_phase"), serialization_alias="to")
    health_from: Health | None
    health_to: Health | None
    reason: Reason
    message: str
    source: Source
    actor: str
    at: Time | None
    observed_at: Time
    committed_at: Time
    container_id: str | None
    exit: ExitView | None
    evidence: str
    action: str


class SessionsView(View):
    """A page of sessions; `next` is the `after` of the following page."""

    items: list[SessionView]
    next: str | None


class RowsView(View):
    """A page of the journal; `next` is the `after` of the following page, null when there is none yet."""

    items: list[RowView]
    next: int | None


class WhyView(View):
    """One plain sentence, its proof, and what happens next."""

    sentence: str
    facts: list[str]
    outlook: str


class PlanLineView(View):
    """One finding of a sweep, what is done about it, and why."""

    container: str
    name: str
    finding: str
    action: str
    reason: str
    session: str | None


class SweepView(View):
    """What one sweep compared, found and decided to do."""

    at: Time
    dry_run: bool
    sessions_count: int
    containers_count: int
    lines: list[PlanLineView]


class DoneView(View):
    """A request without a session of its own was carried out."""

    message: str


class ReadyView(View):
    """Whether the controller can be believed just now."""

    ready: bool
    checks: dict[str, str]


class EngineView(View):
    """The engine that answered last."""

    id: str
    name: str
    version: str
    api_version: str


class HealthView(ReadyView):
    """The same with the numbers behind it."""

    reachable: bool
    engine: EngineView | None
    clock_offset_s: float | None
    stream_open_since: Time | None
    last_sweep_at: Time | None
    open_gaps: int
    bad_lines: int
    connected_sessions: int
    tasks: int


class LiveView(View):
    """The process answers."""

    alive: bool
