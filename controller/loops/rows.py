"""Journal rows that no decision makes: gaps, and decisions that failed. Used by `react`."""

from dataclasses import replace

from controller.core.draft import source_of
from controller.model.instant import Instant, seconds_between, to_rfc3339
from controller.model.journal import Gap, JournalDraft, RowKind
from controller.model.observation import ContainerAdmitted, Observation, SessionRequested
from controller.model.reason import ACTOR_CONTROLLER, Reason, Source
from controller.model.session import Session


def row_of_gap(gap: Gap, *, now: Instant) -> JournalDraft:
    """One row when a gap opens, and one when its sweep closes it."""
    if gap.closed_at is None:
        message = f"{gap.cause}: events may have been missed since {to_rfc3339(gap.opened_at)}"
    else:
        length_s = seconds_between(gap.opened_at, gap.closed_at)
        message = f"{gap.cause}: closed after {length_s:.1f} s, found {gap.found}"
    return _plain_row(RowKind.GAP, Reason.GAP, message, source=Source.INFERRED, now=now)


def row_of_defect(observation: Observation, session: Session | None, what: str, *, now: Instant) -> JournalDraft:
    """The row of an observation that could not be decided on; the session stays as it is."""
    row = _plain_row(RowKind.TRANSITION, Reason.DEFECT, what, source=source_of(observation), now=now)
    if session is not None:
        return replace(
            row,
            session_id=session.id,
            session=session.name,
            attempt=session.attempt_count,
            from_phase=session.phase,
            to_phase=session.phase,
            health_from=session.health,
            health_to=session.health,
            container_id=session.container_id,
        )
    if isinstance(observation, ContainerAdmitted | SessionRequested):
        return replace(row, session_id=observation.session_id, session=observation.name)
    return row


def _plain_row(kind: RowKind, reason: Reason, message: str, *, source: Source, now: Instant) -> JournalDraft:
    return JournalDraft(
        kind=kind,
        session_id=None,
        session=None,
        attempt=0,
        from_phase=None,
        to_phase=None,
        health_from=None,
        health_to=None,
        reason=reason,
        message=message,
        source=source,
        actor=ACTOR_CONTROLLER,
        at=None,
        observed_at=now,
        container_id=None,
    )
