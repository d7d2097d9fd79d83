"""One true sentence about where a session stands, the facts behind it, and what happens next.

Pure, from the ledger alone, so that it works offline on the file. It decides nothing: the verdict is `diagnosis`'s, the
deadlines are the session's. Text from outside is bounded and shown on one line.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, assert_never

from controller.core.end_sentence import end_sentence
from controller.core.outlook import outlook
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
    Source.SWEEP: "by a sweep",
    Source.LOOK: "by a look at the container",
    Source.ACTION: "from the outcome of an action",
    Source.REQUEST: "from a request",
    Source.TIMER: "from a deadline",
    Source.INFERRED: "inferred afterwards",
}
_REMOVALS: Final = frozenset({Reason.REMOVED_BY_REQUEST, Reason.REMOVED_EXTERNALLY, Reason.ORPHAN_REMOVED})


@dataclass(frozen=True)
class Explanation:
    """The answer to `agentdctl why`."""

    sentence: str
    facts: tuple[str, ...]
    """In order of time, each with its time and how it was learnt; then what decided, then what was kept."""
    outlook: str


def explain(*, session: Session, rows: Sequence[JournalRow], evidence: Evidence | None, now: Instant) -> Explanation:
    """Explain a session as the ledger has it. `rows` are its journal rows, `evidence` its latest attempt's."""
    told = sorted((row for row in rows if row.draft.session_id == session.id), key=lambda row: row.seq)
    return Explanation(
        sentence=_sentence(session, rows=told, now=now),
        facts=tuple([*_earlier(session), *_chain(session, told), *_decided(session), *_kept(evidence)]),
        outlook=outlook(session, now=now),
    )


def _sentence(session: Session, *, rows: Sequence[JournalRow], now: Instant) -> str:
    name = _subject(session)
    if session.removed_at is not None:
        return _removed(session, rows=rows, now=now)
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
            return _ended(session, subject=name)
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
    intent = session.attempt.intent if session.attempt is not None else None
    return "" if intent is None else f" ({intent.cause.value.replace('_', ' ')}, by {person(intent.actor)})"


def _ended(session: Session, *, subject: str) -> str:
    attempt = session.attempt
    if attempt is None or attempt.exit is None:
        return _never_ran(session, subject=subject)
    limit = session.container.memory_limit_bytes if session.container is not None else 0
    return end_sentence(subject, attempt=attempt, exit_=attempt.exit, reason=session.reason, memory_limit_bytes=limit)


def _never_ran(session: Session, *, subject: str) -> str:
    message = one_line(session.message, limit=MESSAGE_MAX_CHARS).rstrip(".")
    if session.reason is Reason.START_FAILED:
        return f"{subject} could not be started: {message or 'the engine did not say why'}."
    if session.reason is Reason.LOST:
        return f"{subject} is lost: its container is gone, and nobody saw how it ended."
    if session.phase is Phase.FAILED:
        return f"{subject} failed ({session.reason}): {message or 'nothing more is known'}."
    return f"{subject} is down ({session.reason}); no end of a run is recorded."


def _removed(session: Session, *, rows: Sequence[JournalRow], now: Instant) -> str:
    del now
    name = _subject(session)
    attempt = session.attempt
    if session.reason in {Reason.REMOVED_EXTERNALLY, Reason.LOST, Reason.EXIT_UNKNOWN}:
        return _ended(session, subject=name)
    by = next((row.draft.actor for row in reversed(rows) if row.draft.reason in _REMOVALS), None)
    opening = f"{name} was removed" + ("" if by is None else f" by {person(by)}")
    if attempt is None or attempt.exit is None:
        return f"{opening}; it had not ended before, as far as anybody saw." if attempt else f"{opening}; it never ran."
    return f"{opening}; before that, {_ended(session, subject='it')}"


def _earlier(session: Session) -> Iterator[str]:
    limit = session.container.memory_limit_bytes if session.container is not None else 0
    for attempt in reversed(session.earlier):
        if attempt.exit is not None:
            told = end_sentence(
                "it",
                attempt=attempt,
                exit_=attempt.exit,
                reason=Reason.EXIT_UNKNOWN,
                memory_limit_bytes=limit,
            )
            yield f"Attempt {attempt.number}: {told}"


def _chain(session: Session, rows: Sequence[JournalRow]) -> Iterator[str]:
    attempt = session.attempt_count
    own = [row for row in rows if row.draft.attempt == attempt and row.draft.kind is not RowKind.SNAPSHOT]
    hidden = len(own) - FIRST_ROWS - LAST_ROWS
    for index, row in enumerate(own):
        if hidden > 0 and index == FIRST_ROWS:
            yield f"({hidden} more rows: `agentdctl timeline {session.name}`.)"
        if hidden <= 0 or index < FIRST_ROWS or index >= FIRST_ROWS + hidden:
            yield _fact(row.draft)


def _fact(draft: JournalDraft) -> str:
    when = stamp(draft.at if draft.at is not None else draft.observed_at)
    own_clock = "" if draft.at is not None else " (our clock)"
    message = one_line(draft.message, limit=MESSAGE_MAX_CHARS)
    return f"{when}{own_clock} {_change(draft)}; by {person(draft.actor)}, learnt {_LEARNT[draft.source]}" + (
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
    yield f"Verdict: {attempt.exit.verdict}, {attempt.exit.confidence}."
    yield from attempt.exit.evidence
    if not attempt.looked_at_end:
        yield "No look has confirmed the end: only events told of it."


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
    yield f"Its last {len(lines)} log lines:" if lines else "It wrote nothing to its log."
    for line in lines:
        yield f"| {one_line(line, limit=LINE_MAX_CHARS)}"
