"""A program that commits and says so: what the tests kill, starve of disk and take the power from.

Commit n writes n into every table that a batch can reach, so that one look at a file shows whether it holds all of the
first n commits and nothing of the next. `python -m tests.store.writer PATH COUNT` writes `ACK n` after each.
"""

import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiosqlite
import anyio

from controller.errors import LedgerError
from controller.interfaces import Batch, EngineCursor, JournalFilter
from controller.model.ids import ContainerId
from controller.model.instant import Instant
from controller.model.journal import Gap
from controller.store.connection import TransactionConnection
from controller.store.ledger import open_ledger
from tests.store.records import ManualClock, SeededRng, action, attempt, decision, draft, evidence, session

CHECKPOINT_PAGES = 24
"""A checkpoint every few commits instead of every few hundred, so that short runs see many."""


class EagerCheckpoints(TransactionConnection):
    """As the ledger's own, with frequent checkpoints."""

    def __init__(self, database: str, **options: Any) -> None:
        super().__init__(database, **options)
        self.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")


def connect(
    database: str, /, *, uri: bool, timeout: float, isolation_level: None, factory: type[sqlite3.Connection]
) -> aiosqlite.Connection:
    """`aiosqlite.connect` with frequent checkpoints."""
    assert factory is TransactionConnection
    return aiosqlite.connect(
        database, uri=uri, timeout=timeout, isolation_level=isolation_level, factory=EagerCheckpoints
    )


def batch(number: int) -> Batch:
    """The n-th commit."""
    own = session(f"s{number}", latest=attempt(number), action_count=number)
    shared = session("shared", latest=attempt(1), action_count=number)
    return Batch(
        decisions=[decision(draft(own, message="x" * 300), draft(own, message="y" * 1500))],
        sessions=[own, shared],
        actions=[action(own, number)],
        evidence=[evidence(own, number, line="z" * 400)],
        gaps=[Gap(opened_at=Instant(number), closed_at=None, cause="stream cut")],
        stream=EngineCursor(
            keys=[(ContainerId("c1"), "die", Instant(number))], cursor=Instant(number), seen_until=Instant(number)
        ),
        published=number,
    )


async def write(path: Path, count: int, acknowledge: Callable[[int], None]) -> None:
    """Commit up to the count-th batch, from where the file stands."""
    async with open_ledger(path, clock=ManualClock(), rng=SeededRng(), connect=connect) as ledger:
        number = (await ledger.meta()).published
        assert [row.seq for row in await ledger.journal(JournalFilter(after=2 * number - 1))] == (
            [2 * number] if number else []
        )
        while number < count:
            number += 1
            await ledger.commit(batch(number))
            acknowledge(number)


def committed(path: Path) -> int:
    """How many commits the file holds; fails unless they are whole, in order, and the file is sound.

    Reads with plain SQLite, so that nothing of the ledger can hide what is there.
    """
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        if connection.execute("PRAGMA user_version").fetchone() == (0,):
            return 0
        counts = {
            name: connection.execute(sql).fetchone()[0]
            for name, sql in {
                "journal": "SELECT count(*) / 2.0 FROM journal",
                "journal's end": "SELECT coalesce(max(seq), 0) / 2.0 FROM journal",
                "observations": "SELECT count(observation) FROM journal",
                "own sessions": "SELECT count(*) FROM sessions WHERE name <> 'shared'",
                "shared session": "SELECT coalesce(max(body ->> '$.action_count'), 0) FROM sessions",
                "attempts": "SELECT count(*) FROM attempts WHERE session_id <> 'id-of-shared'",
                "actions": "SELECT count(*) FROM actions",
                "evidence": "SELECT count(*) FROM evidence",
                "gaps": "SELECT count(*) FROM gaps",
                "seen": "SELECT count(*) FROM seen",
                "cursor": "SELECT coalesce(max(value), 0) FROM meta WHERE key = 'cursor'",
                "published": "SELECT coalesce(max(value), 0) FROM meta WHERE key = 'published'",
            }.items()
        }
    finally:
        connection.close()
    assert len(set(counts.values())) == 1, f"half a transaction: {counts}"
    return int(counts["journal"])


def main() -> int:
    """Write until the count is reached, or until the ledger refuses: that in one line on standard error."""
    path, count = Path(sys.argv[1]), int(sys.argv[2])

    def acknowledge(number: int) -> None:
        os.write(1, b"ACK %d\n" % number)

    try:
        anyio.run(write, path, count, acknowledge)
    except LedgerError as error:
        os.write(2, f"REFUSED {error}\n".encode())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
