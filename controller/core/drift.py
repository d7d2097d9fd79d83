"""(sessions, lists, engine's now) -> findings. A list is as old as its request: a finding asks for a look, no more."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, assert_never

from controller.core.admission import BEING_CREATED, COPIED, awaits_container, is_ours_to_start
from controller.core.ownership import Owner, claimed_name, classify, external_key, may_be_a_copy
from controller.core.rules import Rules
from controller.core.specs import LABEL_PREFIX, LABEL_WATCH
from controller.model.container import ContainerState, ListedContainer
from controller.model.ids import ContainerId, SessionId, SessionName
from controller.model.instant import Instant, seconds_between
from controller.model.phase import Health, Phase
from controller.model.session import Attempt, Origin, Session

MASS_ABSENCE_COUNT: Final = 3
MASS_ABSENCE_SHARE: Final = 0.2


class FindingKind(StrEnum):
    """What a comparison found about one container."""

    MISSING = "missing"
    MISMATCH = "mismatch"
    NEW = "new"
    ORPHAN = "orphan"
    SPARED = "spared"
    FOREIGN = "foreign"
    CONTROLLER = "controller"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One difference between ledger and engine, or one container that is left alone."""

    kind: FindingKind
    container: ContainerId
    name: str
    reason: str
    session: SessionName | None = None

    @property
    def wants_look(self) -> bool:
        """Whether the container must be inspected before anything follows."""
        return self.kind in (FindingKind.MISSING, FindingKind.MISMATCH, FindingKind.NEW, FindingKind.ORPHAN)


def compare(
    sessions: Collection[Session],
    listed: Sequence[ListedContainer],
    *,
    known: Mapping[ContainerId, SessionId],
    engine_now: Instant,
    rules: Rules,
) -> tuple[Finding, ...]:
    """Everything that a sweep has to see to, in the order of the lists, the missing ones last."""
    by_container = {session.container_id: session for session in sessions if session.container_id is not None}
    awaiting = {session.name for session in sessions if awaits_container(session)}
    findings: list[Finding] = []
    for container in {row.id: row for row in listed}.values():
        owner = classify(container.id, container.labels, known=known, rules=rules)
        finding = _of_listed(container, owner, by_container.get(container.id), engine_now=engine_now, rules=rules)
        if (
            finding is not None
            and finding.kind is FindingKind.ORPHAN
            and claimed_name(container.labels, rules) in awaiting
        ):
            finding = _spared(container, BEING_CREATED)
        if finding is not None:
            findings.append(finding)
    present = {row.id for row in listed}
    findings.extend(
        _of_absent(session, rules)
        for container_id, session in by_container.items()
        if container_id not in present and session.removed_at is None
    )
    return tuple(findings)


def is_mass_absence(findings: Sequence[Finding], sessions: Collection[Session]) -> bool:
    """Whether so many are missing that the list deserves less trust than the ledger."""
    missing = sum(1 for finding in findings if finding.kind is FindingKind.MISSING)
    expected = sum(1 for session in sessions if session.container is not None and session.removed_at is None)
    return missing > MASS_ABSENCE_COUNT and missing > MASS_ABSENCE_SHARE * expected


def agrees(session: Session, row: ListedContainer) -> bool:
    """Whether a list row tells nothing that the session does not say."""
    ended = session.attempt.exit if session.attempt is not None else None
    match row.state:
        case ContainerState.CREATED:
            if session.phase.is_ended:
                return session.attempt is None or session.attempt.started_at is None
            return session.phase is Phase.PENDING or (session.phase is Phase.STARTING and is_ours_to_start(session))
        case ContainerState.RUNNING:
            told = row.health not in (Health.UNKNOWN, session.health)
            return session.phase in (Phase.RUNNING, Phase.STOPPING) and not told and not is_hearsay(session.attempt)
        case ContainerState.PAUSED:
            return session.phase is Phase.PAUSED and not is_hearsay(session.attempt)
        case ContainerState.RESTARTING:
            return session.phase is Phase.BACKOFF
        case ContainerState.EXITED | ContainerState.DEAD:
            code_told = ended is not None and None not in (row.exit_code, ended.exit_code)
            same = not code_told or (ended is not None and row.exit_code == ended.exit_code)
            # In the engine's own back-off it would be `restarting`; in ours it waits for our start.
            rests = session.phase.is_ended and (session.phase is not Phase.BACKOFF or is_ours_to_start(session))
            return rests and same and session.attempt is not None and session.attempt.looked_at_end
        case ContainerState.REMOVING | ContainerState.UNKNOWN:
            return False
        case _:
            assert_never(row.state)


def is_hearsay(attempt: Attempt | None) -> bool:
    """Whether only events tell of this run, or of its end: the look at it may have died with an earlier life."""
    return attempt is not None and (attempt.provisional or (attempt.died_at is not None and attempt.ended_at is None))


def _of_listed(
    row: ListedContainer, owner: Owner, session: Session | None, *, engine_now: Instant, rules: Rules
) -> Finding | None:
    match owner:
        case Owner.CONTROLLER:
            return _finding(FindingKind.CONTROLLER, row, "it is a controller: never a session, never a target")
        case Owner.FOREIGN:
            return _finding(FindingKind.FOREIGN, row, "it belongs to another controller")
        case Owner.EXTERNAL:
            key = external_key(rules.engine, row.name, row.labels)
            return _finding(FindingKind.NEW, row, f"asks to be watched as {key}")
        case Owner.OURS:
            return _of_unknown(row, engine_now=engine_now, rules=rules)
        case Owner.KNOWN:
            return _of_known(row, session, engine_now=engine_now, rules=rules)
        case Owner.NONE:
            return None
        case _:
            assert_never(owner)


def _of_known(row: ListedContainer, session: Session | None, *, engine_now: Instant, rules: Rules) -> Finding | None:
    if session is None:
        live = row.state in (ContainerState.RUNNING, ContainerState.PAUSED, ContainerState.RESTARTING)
        return _finding(FindingKind.MISMATCH, row, "an earlier container of a session runs") if live else None
    if session.origin is Origin.ORPHAN and session.removed_at is None:
        return None if session.open_actions else _of_unknown(row, engine_now=engine_now, rules=rules)
    if session.removed_at is not None:
        return _finding(FindingKind.MISMATCH, row, "recorded as removed, and listed", session.name)
    if agrees(session, row):
        claimed = session.is_external and row.labels.get(LABEL_PREFIX) == rules.prefix
        return _spared(row, "it is watched, so it is never an orphan", session.name) if claimed else None
    if is_hearsay(session.attempt):
        return _finding(FindingKind.MISMATCH, row, "only events have told of its present run", session.name)
    return _finding(
        FindingKind.MISMATCH, row, f"the list says {row.state}, the ledger says {session.phase}", session.name
    )


def _of_unknown(row: ListedContainer, *, engine_now: Instant, rules: Rules) -> Finding:
    if may_be_a_copy(row.name, row.labels, rules):
        return _spared(row, COPIED)
    if row.created_at is None:
        return _spared(row, "its age is not known")
    age_s = seconds_between(row.created_at, engine_now)
    if age_s < rules.orphan_grace_s:
        return _spared(row, f"created {max(age_s, 0.0):.0f} s ago, the grace is {rules.orphan_grace_s:g} s")
    return _finding(FindingKind.ORPHAN, row, f"carries our prefix, no record knows it, created {age_s:.0f} s ago")


def _of_absent(session: Session, rules: Rules) -> Finding:
    assert session.container is not None
    listed_by_label = (
        session.container.labels.get(LABEL_PREFIX) == rules.prefix or LABEL_WATCH in session.container.labels
    )
    kind = FindingKind.MISSING if listed_by_label else FindingKind.MISMATCH
    reason = "in the ledger, not in the list" if listed_by_label else "carries no label that a list could show"
    return Finding(
        kind=kind, container=session.container.id, name=session.container.name, reason=reason, session=session.name
    )


def _spared(row: ListedContainer, reason: str, session: SessionName | None = None) -> Finding:
    return _finding(FindingKind.SPARED, row, reason, session)


def _finding(kind: FindingKind, row: ListedContainer, reason: str, session: SessionName | None = None) -> Finding:
    return Finding(kind=kind, container=row.id, name=row.name, reason=reason, session=session)
