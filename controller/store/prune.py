"""What the ledger may forget, and how it stays replayable all the same.

Whole old attempts of sessions that live on, and removed sessions altogether, once all their rows are older than the
limit. Never: the last attempt of a session, an attempt that the session still carries, a row within the session's
restart window, anything with an open action. A session that loses rows first gets a `snapshot` row, from which its
replay starts. Planned from what the ledger holds under the committer's lock, written with the batch.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import aiosqlite

from controller.interfaces import Batch
from controller.model.ids import SessionId
from controller.model.instant import Instant, after
from controller.model.journal import JournalDraft, JournalRow, RowKind
from controller.model.reason import ACTOR_CONTROLLER, Reason, Source
from controller.model.session import Session
from controller.store import codec
from controller.store.connection import Statement, Value
from controller.store.statements import forgetting, journal_insert, journal_values

MAX_COUNT: Final = 10_000
"""More attempts or sessions than this are not forgotten at once: other commits wait meanwhile. The rest comes later."""

_NEWEST: Final = "SELECT session_id, attempt, max(committed_at) FROM journal WHERE session_id IS NOT NULL GROUP BY 1, 2"
_BUSY: Final = "SELECT DISTINCT session_id FROM actions WHERE state = 'open'"


@dataclass(frozen=True, kw_only=True)
class Forgotten:
    """What one pruning takes away, and the sessions that live on without it."""

    sessions: Sequence[SessionId]
    attempts: Sequence[tuple[SessionId, int]]
    survivors: Sequence[Session]


async def plan(connection: aiosqlite.Connection, batch: Batch, *, before: Instant, now: Instant) -> Forgotten:
    """Decide what to forget, as if the batch were already written. Raises sqlite3.Error."""
    sessions = {
        session.id: session
        for session in [
            *(
                codec.SESSION.from_text(body)
                for (body,) in await connection.execute_fetchall("SELECT body FROM sessions")
            ),
            *batch.sessions,
        ]
    }
    newest: dict[SessionId, dict[int, Instant]] = {}
    for session_id, attempt, committed_at in await connection.execute_fetchall(_NEWEST):
        newest.setdefault(session_id, {})[attempt] = committed_at
    for draft in (row for decision in batch.decisions for row in decision.rows):
        if draft.session_id is not None:
            newest.setdefault(draft.session_id, {})[draft.attempt] = now
    busy = {session_id for (session_id,) in await connection.execute_fetchall(_BUSY)}
    busy |= {session.id for session in batch.sessions}
    return _forgotten([sessions[key] for key in sorted(sessions)], newest, busy, before=before, now=now)


def _forgotten(
    sessions: Sequence[Session],
    newest: Mapping[SessionId, Mapping[int, Instant]],
    busy: Collection[SessionId],
    *,
    before: Instant,
    now: Instant,
) -> Forgotten:
    known = {session.id for session in sessions}
    whole: list[SessionId] = []
    # Rows may name a session that was never recorded: a defect while it was being made, say.
    parts = [(key, number) for key in newest if key not in known for number, at in newest[key].items() if at < before]
    survivors: list[Session] = []
    for session in sessions:
        ages = newest.get(session.id, {})
        if session.removed_at is not None:
            old = session.removed_at < before and all(at < before for at in ages.values())
            if old and session.id not in busy:
                whole.append(session.id)
            continue
        limit = min(before, after(now, -session.policy.window_s))
        dropped = [number for number, at in sorted(ages.items()) if at < limit and not _carries(session, number)]
        if dropped:
            parts.extend((session.id, number) for number in dropped)
            survivors.append(session)
    parts = parts[:MAX_COUNT]
    losing = {session_id for session_id, _ in parts}
    return Forgotten(
        sessions=whole[:MAX_COUNT],
        attempts=parts,
        survivors=[session for session in survivors if session.id in losing],
    )


def _carries(session: Session, number: int) -> bool:
    return number >= session.attempt_count or any(attempt.number == number for attempt in session.earlier)


def snapshot_rows(forgotten: Forgotten, *, last_seq: int, now: Instant) -> list[tuple[JournalRow, Session]]:
    """One row a survivor, with the session that it keeps."""
    return [
        (JournalRow(seq=seq, decision=seq, committed_at=now, draft=_draft(session, now)), session)
        for seq, session in enumerate(forgotten.survivors, start=last_seq + 1)
    ]


def of_pruning(
    forgotten: Forgotten, snapshots: Sequence[tuple[JournalRow, Session]], *, before: Instant, now: Instant
) -> list[Statement]:
    """The snapshots, then everything that goes."""
    whole: list[tuple[Value, ...]] = [(session_id,) for session_id in forgotten.sessions]
    parts: list[tuple[Value, ...]] = list(forgotten.attempts)
    of_session: dict[SessionId, list[int]] = {}
    for session_id, number in forgotten.attempts:
        of_session.setdefault(session_id, []).append(number)
    kept = [journal_values(row, None, codec.SESSION.to_text(session)) for row, session in snapshots]
    superseded: list[tuple[Value, ...]] = [(row.draft.session_id, before, row.seq) for row, _ in snapshots]
    return [
        journal_insert(kept),
        # The journal's triggers let rows go only while this mark stands; nobody else ever sees it.
        Statement("INSERT INTO meta (key, value) VALUES ('pruning', 1)"),
        # Once a session: its rows are found by session alone, so one look a row is all it takes.
        Statement(
            "DELETE FROM journal WHERE session_id = ? AND snapshot IS NULL "
            "AND attempt IN (SELECT value FROM json_each(?))",
            [(session_id, json.dumps(numbers)) for session_id, numbers in of_session.items()],
        ),
        Statement(
            "DELETE FROM journal WHERE session_id = ? AND snapshot IS NOT NULL AND committed_at < ? AND seq < ?",
            superseded,
        ),
        Statement("DELETE FROM journal WHERE session_id = ?", whole),
        Statement("DELETE FROM journal WHERE session_id IS NULL AND committed_at < ?", [(before,)]),
        Statement("DELETE FROM meta WHERE key = 'pruning'"),
        Statement("DELETE FROM attempts WHERE session_id = ? AND number = ?", parts),
        Statement("DELETE FROM evidence WHERE session_id = ? AND attempt = ?", parts),
        Statement("DELETE FROM sessions WHERE id = ?", whole),
        Statement("DELETE FROM actions WHERE state = 'closed' AND decided_at < ?", [(before,)]),
        Statement("DELETE FROM gaps WHERE closed_at < ?", [(before,)]),
        forgetting(now),
    ]


def _draft(session: Session, now: Instant) -> JournalDraft:
    return JournalDraft(
        kind=RowKind.SNAPSHOT,
        session_id=session.id,
        session=session.name,
        attempt=session.attempt_count,
        from_phase=session.phase,
        to_phase=session.phase,
        health_from=session.health,
        health_to=session.health,
        reason=Reason.SNAPSHOT,
        message="older rows were pruned; a replay starts here",
        source=Source.TIMER,
        actor=ACTOR_CONTROLLER,
        at=None,
        observed_at=now,
        container_id=session.container_id,
    )
