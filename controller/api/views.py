"""The model as the contract's JSON: field names and formats that scripts rely on.

Pure. Also used by the command line where it reads the ledger's file itself. Environment values never leave.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from controller.api.shapes import (
    EngineView,
    ExitView,
    HealthView,
    MountView,
    PlanLineView,
    ReadyView,
    RestartView,
    RowsView,
    RowView,
    SessionView,
    SpecView,
    SweepView,
    Time,
)
from controller.core.row_fields import row_fields
from controller.interfaces import PlanLine, Readiness, SweepReport
from controller.model.exit import Exit
from controller.model.instant import Instant, to_rfc3339
from controller.model.journal import JournalRow, RowKind
from controller.model.session import Session
from controller.model.spec import SessionSpec

MASK: Final = "***"


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
    return RowView.model_validate({"event": row.draft.kind, **row_fields(row)})


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


def health_view(readiness: Readiness, *, connected_sessions: int, tasks: int) -> HealthView:
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
        bad_lines=readiness.bad_lines,
        connected_sessions=connected_sessions,
        tasks=tasks,
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
