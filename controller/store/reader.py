"""Questions to the ledger, on a read-only connection: answers hold committed facts only.

Each answer is one SELECT, fetched whole in one hop: no cursor stays open across an await, since a long reader keeps
the write-ahead log from being cut back. It must never write.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

import aiosqlite

from controller.errors import LedgerError
from controller.interfaces import JournalFilter, Meta
from controller.model.action import Action
from controller.model.ids import ContainerId, ControllerId, SessionId, SessionName
from controller.model.instant import Instant
from controller.model.journal import Evidence, Gap, JournalRow
from controller.model.observation import Observation
from controller.model.session import Attempt, Session
from controller.store import codec
from controller.store.backup import copy_to
from controller.store.connection import Connect, Value, refusal

ROWS_MAX_COUNT = 10_000
"""More journal rows than this are never fetched at once, whatever is asked for."""


class SqliteReader:
    """The ledger, read-only."""

    def __init__(self, path: Path, connection: aiosqlite.Connection, connect: Connect) -> None:
        self._path = path
        self._reading = connection
        self._connect = connect

    async def meta(self) -> Meta:
        """What the ledger knows of itself."""
        found = {key: value for key, value in await self._rows("SELECT key, value FROM meta")}
        if "controller_id" not in found or "key" not in found:
            raise LedgerError(f"ledger {self._path}: no controller has finished making it yet")
        return Meta(
            controller_id=ControllerId(found["controller_id"]),
            engine_id=found.get("engine_id"),
            key=found["key"],
            cursor=found.get("cursor"),
            seen_until=found.get("seen_until"),
            published=found.get("published", 0),
        )

    async def sessions(self, *, include_removed: bool = False) -> Sequence[Session]:
        """Sessions by name, the removed ones of a name in the order of their removal."""
        rows = await self._rows(
            "SELECT body FROM sessions WHERE removed_at IS NULL OR ? ORDER BY name, removed_at IS NULL, removed_at",
            (include_removed,),
        )
        return [codec.SESSION.from_text(body) for (body,) in rows]

    async def find(self, name: SessionName) -> Session | None:
        """The session of that name: the one that is not removed, else the one removed last."""
        rows = await self._rows(
            "SELECT body FROM sessions WHERE name = ? ORDER BY removed_at IS NOT NULL, removed_at DESC LIMIT 1",
            (codec.text_of(name),),
        )
        return codec.SESSION.from_text(rows[0][0]) if rows else None

    async def attempts(self, session_id: SessionId) -> Sequence[Attempt]:
        """All attempts on record, oldest first."""
        rows = await self._rows("SELECT body FROM attempts WHERE session_id = ? ORDER BY number", (session_id,))
        return [codec.ATTEMPT.from_text(body) for (body,) in rows]

    async def journal(self, wanted: JournalFilter) -> Sequence[JournalRow]:
        """Rows in the order of `seq`."""
        of_session = "" if wanted.session_id is None else " AND session_id = ?"
        rows = await self._rows(
            f"SELECT seq, decision, committed_at, body FROM journal WHERE seq > ?{of_session} ORDER BY seq LIMIT ?",
            (
                wanted.after,
                *(() if wanted.session_id is None else (wanted.session_id,)),
                max(0, min(wanted.limit, ROWS_MAX_COUNT)),
            ),
        )
        return [
            JournalRow(seq=seq, decision=decision, committed_at=committed_at, draft=codec.DRAFT.from_text(body))
            for seq, decision, committed_at, body in rows
        ]

    async def observations(self, session_id: SessionId) -> Sequence[tuple[int, Observation]]:
        """(decision, observation) of a session in order, after its `replay_start`."""
        rows = await self._rows(
            "SELECT decision, observation FROM journal WHERE session_id = ?1 AND observation IS NOT NULL AND seq > "
            "(SELECT coalesce(max(seq), 0) FROM journal WHERE session_id = ?1 AND snapshot IS NOT NULL) ORDER BY seq",
            (session_id,),
        )
        return [(decision, codec.OBSERVATION.from_text(text)) for decision, text in rows]

    async def replay_start(self, session_id: SessionId) -> Session | None:
        """The session as it was before the first of its `observations`; None when those begin with its creation."""
        rows = await self._rows(
            "SELECT snapshot FROM journal WHERE session_id = ? AND snapshot IS NOT NULL ORDER BY seq DESC LIMIT 1",
            (session_id,),
        )
        return codec.SESSION.from_text(rows[0][0]) if rows else None

    async def evidence(self, session_id: SessionId, attempt: int | None = None) -> Evidence | None:
        """What that attempt left behind (the latest with evidence when None)."""
        rows = await self._rows(
            "SELECT body FROM evidence WHERE session_id = ?1 AND (?2 IS NULL OR attempt = ?2) "
            "ORDER BY attempt DESC LIMIT 1",
            (session_id, attempt),
        )
        return codec.EVIDENCE.from_text(rows[0][0]) if rows else None

    async def known_containers(self) -> Mapping[ContainerId, SessionId]:
        """Every container id that a session or attempt names; a session that is not removed wins over one that is."""
        rows = await self._rows(
            "SELECT * FROM (SELECT container_id, id, removed_at FROM sessions WHERE container_id IS NOT NULL UNION "
            "SELECT a.container_id, a.session_id, s.removed_at FROM attempts a JOIN sessions s ON s.id = a.session_id) "
            "ORDER BY removed_at IS NULL, removed_at"
        )
        return {container: session_id for container, session_id, _ in rows}

    async def open_actions(self) -> Sequence[Action]:
        """Decided and not closed, oldest first."""
        rows = await self._rows("SELECT body FROM actions WHERE state = 'open' ORDER BY decided_at, rowid")
        return [codec.ACTION.from_text(body) for (body,) in rows]

    async def gaps(self, *, limit: int = 20) -> Sequence[Gap]:
        """The latest gaps, newest first."""
        rows = await self._rows(
            "SELECT opened_at, closed_at, cause, found FROM gaps ORDER BY opened_at DESC LIMIT ?", (max(0, limit),)
        )
        return [
            Gap(opened_at=opened_at, closed_at=closed_at, cause=cause, found=found)
            for opened_at, closed_at, cause, found in rows
        ]

    async def seen_keys(self) -> Sequence[tuple[ContainerId, str, Instant]]:
        """Keys of the events of the last ten minutes, as of the newest commit that brought some."""
        rows = await self._rows("SELECT container, action, at FROM seen ORDER BY observed_at, at")
        return [(container, action, at) for container, action, at in rows]

    async def backup(self, path: str) -> None:
        """A consistent copy of the whole ledger, while it runs. Raises LedgerError when the path exists."""
        await copy_to(self._path, Path(path), self._connect)

    async def _rows(self, sql: str, values: tuple[Value, ...] = ()) -> list[sqlite3.Row]:
        try:
            return list(await self._reading.execute_fetchall(sql, values))
        except sqlite3.Error as error:
            raise refusal(self._path, error) from error
