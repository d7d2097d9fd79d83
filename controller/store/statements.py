"""A batch as SQL statements, one for each table: pure, so that what is written can be read here in one go.

The order matters only where tables refer to each other: sessions come first, and removed ones among them first of all,
because they free their names.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from controller.interfaces import Batch, CommittedDecision, EngineCursor
from controller.model.ids import SessionId
from controller.model.instant import Instant, after
from controller.model.journal import JournalRow
from controller.model.session import Attempt, Session
from controller.store import codec
from controller.store.connection import Statement, Value

SEEN_FOR_S: Final = 600.0
"""How long the keys of events are kept: longer than the streams of one connection overlap."""
SEEN_MIN: Final = 512
"""So many are kept however old they are: after a long silence, too, an engine repeats its last 256."""

_SESSION: Final = """INSERT INTO sessions (id, name, phase, origin, external_key, container_id, due_at, removed_at,
    body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET name = excluded.name, phase = excluded.phase,
    origin = excluded.origin, external_key = excluded.external_key, container_id = excluded.container_id,
    due_at = excluded.due_at, removed_at = excluded.removed_at, body = excluded.body"""
_ATTEMPT: Final = """INSERT INTO attempts (session_id, number, container_id, started_at, ended_at, body)
    VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (session_id, number) DO UPDATE SET container_id = excluded.container_id,
    started_at = excluded.started_at, ended_at = excluded.ended_at, body = excluded.body
    WHERE body <> excluded.body"""
_JOURNAL: Final = """INSERT INTO journal (seq, decision, kind, session_id, session, attempt, container_id, committed_at,
    observed_at, body, observation, snapshot) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_ACTION: Final = "INSERT INTO actions (id, session_id, kind, state, decided_at, body) VALUES (?, ?, ?, 'open', ?, ?)"
_CLOSED: Final = "UPDATE actions SET state = 'closed' WHERE id = ?"
_EVIDENCE: Final = """INSERT INTO evidence (session_id, attempt, kept_at, body) VALUES (?, ?, ?, ?)
    ON CONFLICT (session_id, attempt) DO UPDATE SET kept_at = excluded.kept_at, body = excluded.body"""
_GAP: Final = """INSERT INTO gaps (opened_at, closed_at, cause, found) VALUES (?, ?, ?, ?)
    ON CONFLICT (opened_at) DO UPDATE SET closed_at = excluded.closed_at, cause = excluded.cause,
    found = excluded.found"""
_SEEN: Final = "INSERT OR IGNORE INTO seen (container, action, at, observed_at) VALUES (?, ?, ?, ?)"
# While there are no more than are always kept, the smaller of the two is NULL, and none is forgotten.
_FORGET: Final = f"""DELETE FROM seen WHERE observed_at < min(?,
    (SELECT observed_at FROM seen ORDER BY observed_at DESC LIMIT 1 OFFSET {SEEN_MIN - 1}))"""
_META: Final = "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"


def numbered(decisions: Iterable[CommittedDecision], *, last_seq: int, now: Instant) -> list[JournalRow]:
    """The rows of the decisions with their numbers; a decision is numbered by the `seq` of its first row."""
    rows: list[JournalRow] = []
    for decision in decisions:
        first = last_seq + len(rows) + 1
        rows.extend(
            JournalRow(seq=first + place, decision=first, committed_at=now, draft=draft)
            for place, draft in enumerate(decision.rows)
        )
    return rows


def of_batch(batch: Batch, rows: Sequence[JournalRow], now: Instant) -> list[Statement]:
    """Everything that the batch writes; `rows` are its journal rows, numbered."""
    observations = [text for decision in batch.decisions for text in _observation_beside(decision)]
    ordered = sorted(batch.sessions, key=lambda session: session.removed_at is None)
    statements = [
        Statement(_SESSION, [_session(session) for session in ordered]),
        Statement(_ATTEMPT, [_attempt(*one) for one in (*batch.left_behind, *_carried(ordered))]),
        Statement(_JOURNAL, [journal_values(row, text) for row, text in zip(rows, observations, strict=True)]),
        Statement(
            _ACTION,
            [
                (action.id, action.session_id, action.kind, action.decided_at, codec.ACTION.to_text(action))
                for action in batch.actions
            ],
        ),
        Statement(_CLOSED, [(action_id,) for action_id in batch.closed]),
        Statement(
            _EVIDENCE,
            [(kept.session_id, kept.attempt, kept.kept_at, codec.EVIDENCE.to_text(kept)) for kept in batch.evidence],
        ),
        Statement(
            _GAP,
            [(gap.opened_at, gap.closed_at, codec.text_of(gap.cause), codec.text_of(gap.found)) for gap in batch.gaps],
        ),
        *_stream(batch.stream, now),
        Statement(_META, _meta(batch)),
    ]
    return [statement for statement in statements if statement.rows]


def journal_insert(rows: Sequence[tuple[Value, ...]]) -> Statement:
    """New rows at the end of the journal, as `journal_values` made them."""
    return Statement(_JOURNAL, rows)


def journal_values(row: JournalRow, observation: str | None, snapshot: str | None = None) -> tuple[Value, ...]:
    """One journal row as its table's columns."""
    draft = row.draft
    return (
        row.seq,
        row.decision,
        draft.kind,
        draft.session_id,
        _text(draft.session),
        draft.attempt,
        _text(draft.container_id),
        row.committed_at,
        draft.observed_at,
        codec.DRAFT.to_text(draft),
        observation,
        snapshot,
    )


def _observation_beside(decision: CommittedDecision) -> list[str | None]:
    """The observation beside the first row, nothing beside the others."""
    beside: list[str | None] = [None] * len(decision.rows)
    if beside and decision.observation is not None:
        beside[0] = codec.OBSERVATION.to_text(decision.observation)
    return beside


def _session(session: Session) -> tuple[Value, ...]:
    return (
        session.id,
        codec.text_of(session.name),
        session.phase,
        session.origin,
        codec.text_of(session.external_key),
        _text(session.container_id),
        session.due_at,
        session.removed_at,
        codec.SESSION.to_text(session),
    )


def _carried(sessions: Iterable[Session]) -> Iterator[tuple[SessionId, Attempt]]:
    return ((session.id, attempt) for session in sessions for attempt in session.attempts)


def _attempt(session_id: SessionId, attempt: Attempt) -> tuple[Value, ...]:
    return (
        session_id,
        attempt.number,
        codec.text_of(attempt.container),
        attempt.started_at,
        attempt.ended_at,
        codec.ATTEMPT.to_text(attempt),
    )


def _text(text: str | None) -> str | None:
    return None if text is None else codec.text_of(text)


def _stream(stream: EngineCursor | None, now: Instant) -> list[Statement]:
    if stream is None:
        return []
    return [
        Statement(
            _SEEN, [(codec.text_of(container), codec.text_of(action), at, now) for container, action, at in stream.keys]
        ),
        forgetting(now),
    ]


def forgetting(now: Instant) -> Statement:
    """Lets go of the keys of events that came too long ago to be repeated."""
    return Statement(_FORGET, [(after(now, -SEEN_FOR_S),)])


def _meta(batch: Batch) -> list[tuple[Value, ...]]:
    known: dict[str, Value] = {"engine_id": batch.engine_id, "published": batch.published}
    if batch.stream is not None:
        known |= {"cursor": batch.stream.cursor, "seen_until": batch.stream.seen_until}
    return [(key, value) for key, value in known.items() if value is not None]
