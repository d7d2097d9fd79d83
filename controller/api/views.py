"""The model as the contract's JSON: field names and formats that scripts rely on.

Pure. Also used by the command line where it reads the ledger's file itself. Environment values never leave.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from controller.interfaces import PlanLine, Readiness, SweepReport
from controller.model.exit import Confidence, Exit, Verdict
from controller.model.instant import Instant, to_rfc3339
from controller.model.journal import JournalRow, RowKind
from controller.model.phase import Desired, Health, Phase, Status
from controller.model.reason import Reason, Source
from controller.model.session import Session
from controller.model.spec import NetworkPolicy, RestartMode, SessionSpec

MASK: Final = "***"
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
    connected_sessions: int


class LiveView(View):
    """The process answers."""

    alive: bool


def session_view(session: Session, *, reachable: bool) -> SessionView:
    """One session as the contract has it."""
    facts, attempt = session.container, session.attempt
    return SessionView(
        name=session.name,
        external=session.is_external,
        desired=session.desired,
        phase=session.phase,
        status=session.status,
        health=session.health,
        reason=session.reason,
        message=session.message,
        reachable=reachable,
        connected=session.connected,
        attempt=session.attempt_count,
        restarts=session.restarts,
        container_id=facts.id if facts else None,
        container_name=facts.name if facts else None,
        image=facts.image if facts else (session.spec.image if session.spec else None),
        engine=session.engine,
        created_at=to_rfc3339(session.created_at),
        started_at=_time(attempt.started_at) if attempt else None,
        finished_at=_time(attempt.finished_at) if attempt else None,
        since=to_rfc3339(session.since),
        next_attempt_at=_time(session.next_attempt_at),
        expires_at=_time(session.expires_at),
        removed_at=_time(session.removed_at),
        exit=_exit_view(attempt.exit) if attempt else None,
        spec=_spec_view(session.spec) if session.spec else None,
        labels=dict(facts.labels if facts else (session.spec.labels if session.spec else {})),
    )


def row_view(row: JournalRow) -> RowView:
    """One journal row as the contract has it."""
    draft = row.draft
    return RowView(
        seq=row.seq,
        event=draft.kind,
        session=draft.session,
        attempt=draft.attempt,
        from_phase=draft.from_phase,
        to_phase=draft.to_phase,
        health_from=draft.health_from,
        health_to=draft.health_to,
        reason=draft.reason,
        message=draft.message,
        source=draft.source,
        actor=draft.actor,
        at=_time(draft.at),
        observed_at=to_rfc3339(draft.observed_at),
        committed_at=to_rfc3339(row.committed_at),
        container_id=draft.container_id,
        exit=_exit_view(draft.exit),
        evidence=draft.evidence,
        action=draft.action,
    )


def rows_view(rows: Sequence[JournalRow], *, limit: int) -> RowsView:
    """One page of the journal, without the notes that are there only for a replay."""
    shown = [row_view(row) for row in rows if is_shown(row)]
    return RowsView(items=shown, next=rows[-1].seq if len(rows) >= limit else None)


def is_shown(row: JournalRow) -> bool:
    """Whether a row tells people anything."""
    return row.draft.kind is not RowKind.NOTE


def sweep_view(report: SweepReport, *, only: Sequence[str] | None = None) -> SweepView:
    """One sweep; only those findings, when some are named."""
    lines = [_plan_line_view(line) for line in report.lines if only is None or line.finding in only]
    return SweepView(
        at=to_rfc3339(report.at),
        dry_run=report.dry_run,
        sessions_count=report.sessions_count,
        containers_count=report.containers_count,
        lines=lines,
    )


def ready_view(readiness: Readiness) -> ReadyView:
    """Readiness with its checks."""
    return ReadyView(ready=readiness.ready, checks=dict(readiness.checks))


def health_view(readiness: Readiness, *, connected_sessions: int) -> HealthView:
    """Readiness with the numbers behind it."""
    return HealthView(
        ready=readiness.ready,
        checks=dict(readiness.checks),
        reachable=readiness.reachable,
        engine=_engine_view(readiness),
        clock_offset_s=readiness.clock_offset_s,
        stream_open_since=_time(readiness.stream_open_since),
        last_sweep_at=_time(readiness.last_sweep_at),
        open_gaps=readiness.open_gaps,
        connected_sessions=connected_sessions,
    )


def _engine_view(readiness: Readiness) -> EngineView | None:
    engine = readiness.engine
    if engine is None:
        return None
    return EngineView(id=engine.id, name=engine.name, version=engine.version, api_version=engine.api_version)


def _plan_line_view(line: PlanLine) -> PlanLineView:
    return PlanLineView(
        container=line.container,
        name=line.name,
        finding=line.finding,
        action=line.action,
        reason=line.reason,
        session=line.session,
    )


def _exit_view(end: Exit | None) -> ExitView | None:
    if end is None:
        return None
    return ExitView(
        exit_code=end.exit_code,
        signal=end.signal,
        oom_killed=end.oom_killed,
        error=end.error,
        verdict=end.verdict,
        confidence=end.confidence,
        evidence=list(end.evidence),
    )


def _spec_view(spec: SessionSpec) -> SpecView:
    policy = spec.restart
    return SpecView(
        image=spec.image,
        command=list(spec.command),
        env=_masked(spec.env),
        env_from=list(spec.env_from),
        labels=dict(spec.labels),
        memory_bytes=spec.memory_bytes,
        cpus=spec.cpus,
        mounts=[MountView(source=each.source, target=each.target, read_only=each.read_only) for each in spec.mounts],
        workdir=spec.workdir,
        network_policy=spec.network_policy,
        restart=RestartView(
            mode=policy.mode,
            max_attempts=policy.max_attempts,
            window_s=policy.window_s,
            slow_retry_s=policy.slow_retry_s,
            unhealthy_restart_s=policy.unhealthy_restart_s,
        ),
        expect_connection=spec.expect_connection,
        ttl_s=spec.ttl_s,
        stop_grace_s=spec.stop_grace_s,
        agent_type=spec.agent_type,
        model_provider=spec.model_provider,
        model_name=spec.model_name,
        user=spec.user,
    )


def _masked(env: Mapping[str, str]) -> dict[str, str]:
    return dict.fromkeys(env, MASK)


def _time(instant: Instant | None) -> Time | None:
    return None if instant is None else to_rfc3339(instant)
