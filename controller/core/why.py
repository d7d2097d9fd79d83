"""One true sentence about where a session stands, the facts behind it, and what happens next.

Pure, from the ledger alone, so that it works offline on the file. It decides nothing: the verdict is `diagnosis`'s, the
deadlines are the session's. Text from outside is bounded and shown on one line.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, assert_never

from controller.core.end_sentence import end_sentence
from controller.core.outlook import memory_limit, outlook, stop_intent
from controller.core.untrusted import one_line
from controller.core.wording import between, clock, person, stamp
from controller.model.instant import Instant
from controller.model.journal import Evidence, JournalDraft, JournalRow, RowKind
from controller.model.phase import Desired, Health, Phase
from controller.model.reason import Reason, Source
from controller.model.session import Attempt, Origin, Session

FIRST_ROWS: Final = 4
LAST_ROWS: Final = 12
"""Of a long attempt, so many rows from its beginning and its end are told; the rest is in the timeline."""

LOG_LINES: Final = 10
LINE_MAX_CHARS: Final = 300
MESSAGE_MAX_CHARS: Final = 300

_LEARNT: Final = {
    Source.EVENT: "from an event",
    Source.REPLAY: "from an event that the engine repeated",
    Source.SWEEP: "from a sweep",
    Source.LOOK: "from a look at the container",
    Source.ACTION: "from the outcome of an action",
    Source.REQUEST: "from a request",
    Source.TIMER: "from a deadline",
    Source.INFERRED: "inferred afterwards",
}
_UNTOLD: Final = frozenset({RowKind.SNAPSHOT, RowKind.NOTE})
_UNSEEN: Final = frozenset({Reason.LOST, Reason.EXIT_UNKNOWN})
_ENDS_THAT_REMOVE: Final = _UNSEEN | {Reason.REMOVED_EXTERNALLY}
_REMOVALS: Final = frozenset({Reason.REMOVED_BY_REQUEST, Reason.REMOVED_EXTERNALLY, Reason.ORPHAN_REMOVED})


@dataclass(frozen=True)
class Explanation:
    """The answer to `agentdctl why`."""

    sentence: str
    facts: tuple[str, ...]
    """In order of time, each with its time and how it was learnt; then what decided, then what was kept."""
    outlook: str


def explain(
    *,
    session: Session,
    rows: Sequence[JournalRow],
    evidence: Evidence | None,
    now: Instant,
    may_restart: bool = True,
) -> Explanation:
    """Explain a session as the ledger has it. `rows` are its journal rows, `evidence` its latest attempt's.

    `may_restart` is whether the controller's mode, which the ledger does not know, lets it start and stop anything.
    """
    told = sorted((row for row in rows if row.draft.session_id == session.id), key=lambda row: row.seq)
    return Explanation(
        sentence=_sentence(session, rows=told, now=now),
        facts=tuple([*_earlier(session), *_chain(session, told), *_decided(session), *_kept(evidence)]),
        outlook=f"{outlook(session, now=now, may_restart=may_restart)}{_pruned(session, told, now=now)}",
    )


def _sentence(session: Session, *, rows: Sequence[JournalRow], now: Instant) -> str:
    name = _subject(session)
    if session.removed_at is not None:
        return _removed(session, rows=rows)
    since = f"since {clock(session.since, now=now)}"
    match session.phase:
        case Phase.PENDING if session.desired is Desired.RUNNING:
            return f"{name} is about to be started: it has been waiting {since}."
        case Phase.PENDING:
            return f"{name} has not been started yet: it has been waiting {since}."
        case Phase.STARTING:
            return f"{name} is being started {since}."
        case Phase.RUNNING:
            return f"{name} {_running(session, now=now)}."
        case Phase.PAUSED:
            return f"{name} is paused {since}: its processes are frozen, and its health says nothing meanwhile."
        case Phase.STOPPING:
            return f"{name} is being stopped {since}{_stop_cause(session)}."
        case Phase.BACKOFF | Phase.STOPPED | Phase.FAILED:
            return _ended(session, subject=name, rows=rows)
        case _:
            assert_never(session.phase)


def _subject(session: Session) -> str:
    return f"{session.name}, an orphan that no record knew," if session.origin is Origin.ORPHAN else str(session.name)


def _running(session: Session, *, now: Instant) -> str:
    started_at = session.attempt.started_at if session.attempt is not None else None
    text = f"has been running for {between(session.since if started_at is None else started_at, now)}"
    match session.health:
        case Health.HEALTHY:
            text += " and is healthy"
        case Health.STARTING:
            text += ", and its health probe has not passed yet"
        case Health.UNHEALTHY if session.unhealthy_since is not None:
            text += f", and has been unhealthy for {between(session.unhealthy_since, now)}"
        case Health.UNHEALTHY:
            text += ", and is unhealthy"
        case Health.UNKNOWN | Health.NONE:
            pass
        case _:
            assert_never(session.health)
    if session.spec is not None and session.spec.expect_connection and not session.connected:
        text += "; its agent is not connected"
    return text


def _stop_cause(session: Session) -> str:
    intent = stop_intent(session)
    return "" if intent is None else f" ({intent.cause.value.replace('_', ' ')}, by {person(intent.actor)})"


def _ended(session: Session, *, subject: str, rows: Sequence[JournalRow]) -> str:
    attempt = session.attempt
    if attempt is None or attempt.exit is None:
        return _never_ran(session, subject=subject)
    # The session's own reason may be `backoff` by now; the end that nobody saw has its own in the journal.
    own = (row.draft.reason for row in reversed(rows) if row.draft.attempt == attempt.number)
    reason = next((each for each in own if each in _UNSEEN), session.reason)
    return end_sentence(
        subject, attempt=attempt, exit_=attempt.exit, reason=reason, memory_limit_bytes=memory_limit(session)
    )


def _never_ran(session: Session, *, subject: str) -> str:
    message = one_line(session.message, limit=MESSAGE_MAX_CHARS).rstrip(".")
    match session.reason:
        case Reason.START_FAILED:
            return f"{subject} could not be started: {message or 'the engine did not say why'}."
        case Reason.LOST:
            return f"{subject} is lost: its container is gone, and nobody saw how it ended."
        case Reason.REMOVED_EXTERNALLY:
            return f"{subject} was removed by somebody else before it was ever started."
        case Reason.REMOVED_BY_REQUEST:
            return f"{subject} was removed on request before it was ever started."
        case _ if session.phase is Phase.BACKOFF:
            return f"{subject} could not be started yet: {message or 'the engine did not answer'}."
        case _:
            return f"{subject} is {session.phase} ({session.reason}): {message or 'no end of a run is recorded'}."


def _removed(session: Session, *, rows: Sequence[JournalRow]) -> str:
    name, attempt = _subject(session), session.attempt
    if attempt is None or attempt.exit is None or session.reason in _ENDS_THAT_REMOVE:
        return _ended(session, subject=name, rows=rows)
    by = next((row.draft.actor for row in reversed(rows) if row.draft.reason in _REMOVALS), None)
    opening = f"{name} was removed" + ("" if by is None else f" by {person(by)}")
    return f"{opening}; before that, {_ended(session, subject='it', rows=rows)}"


def _pruned(session: Session, rows: Sequence[JournalRow], *, now: Instant) -> str:
    """What became of the container, where the session lives on without it."""
    if session.container is not None or session.removed_at is not None or not session.phase.is_ended:
        return ""
    pruned = [row.draft for row in rows if row.draft.reason is Reason.CONTAINER_PRUNED]
    if not pruned or pruned[-1].attempt != session.attempt_count:
        return ""
    at = clock(pruned[-1].observed_at, now=now)
    return f" The controller removed its container at {at}, when its time was over; a start makes a new one."


def _earlier(session: Session) -> Iterator[str]:
    for attempt in reversed(session.earlier):
        if attempt.exit is not None:
            told = end_sentence(
                "it",
                attempt=attempt,
                exit_=attempt.exit,
                reason=Reason.EXIT_UNKNOWN,
                memory_limit_bytes=memory_limit(session),
            )
            yield f"Attempt {attempt.number}: {told}"


def _chain(session: Session, rows: Sequence[JournalRow]) -> Iterator[str]:
    attempt = session.attempt_count
    own = [row for row in rows if row.draft.attempt == attempt and row.draft.kind not in _UNTOLD]
    hidden = len(own) - FIRST_ROWS - LAST_ROWS
    for index, row in enumerate(own):
        if hidden > 0 and index == FIRST_ROWS:
            yield f"({hidden} more rows: `agentdctl timeline {session.name}`.)"
        if hidden <= 0 or index < FIRST_ROWS or index >= FIRST_ROWS + hidden:
            yield _fact(row.draft)


def _fact(draft: JournalDraft) -> str:
    when = stamp(draft.at if draft.at is not None else draft.observed_at)
    own_clock = "" if draft.at is not None else " (our clock)"
    # The row of an end carries its evidence as the message; that follows in full, as it was last known.
    repeats = draft.exit is not None and draft.message == "; ".join(draft.exit.evidence)
    message = "" if repeats else one_line(draft.message, limit=MESSAGE_MAX_CHARS)
    return f"{when}{own_clock} {_change(draft)}; by {person(draft.actor)}; {_LEARNT[draft.source]}" + (
        f": {message}" if message else "."
    )


def _change(draft: JournalDraft) -> str:
    if draft.kind is RowKind.ACTION:
        return f"action {one_line(draft.action, limit=40)} ({draft.reason})"
    if draft.from_phase is not draft.to_phase and draft.to_phase is not None:
        return f"{draft.from_phase or 'new'} → {draft.to_phase} ({draft.reason})"
    if draft.health_from is not draft.health_to and draft.health_to is not None:
        return f"health {draft.health_from or 'unknown'} → {draft.health_to} ({draft.reason})"
    return f"{draft.reason}"


def _decided(session: Session) -> Iterator[str]:
    attempt: Attempt | None = session.attempt
    if attempt is None or attempt.exit is None:
        return
    yield f"Verdict: {attempt.exit.verdict}, {attempt.exit.confidence}"
    yield from attempt.exit.evidence
    if not attempt.looked_at_end:
        yield "No look has confirmed the end: only events told of it"


def _kept(evidence: Evidence | None) -> Iterator[str]:
    if evidence is None:
        return
    for probe in evidence.probes[-1:]:
        output = one_line(probe.output, limit=LINE_MAX_CHARS)
        yield f"Its last health probe returned {probe.exit_code}" + (f": {output}" if output else ".")
    if evidence.tail.absent:
        yield f"No log lines were kept: {one_line(evidence.tail.absent, limit=MESSAGE_MAX_CHARS)}."
        return
    lines = evidence.tail.lines[-LOG_LINES:]
    if not lines:
        yield "It wrote nothing to its log."
        return
    yield "Its last log line:" if len(lines) == 1 else f"Its last {len(lines)} log lines:"
    for line in lines:
        yield f"| {one_line(line, limit=LINE_MAX_CHARS)}"
