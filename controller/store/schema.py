"""The ledger's tables, as numbered steps, and the way from an older file to the newest.

The steps that were released are never edited: a change is a new step. Each is one transaction together with the
number that says it was taken, so a crash leaves the file at one version or the other. A file that is newer than the
program, damaged, or not a ledger is refused before anything is written.
"""

import os
from pathlib import Path
from typing import Final

import aiosqlite

from controller.errors import LedgerError
from controller.store.backup import copy_to
from controller.store.connection import Connect, Statement, close, one_row, open_writer, transact
from controller.store.files import discard, make_durable

APPLICATION_ID: Final = 0x61676474
"""`agdt`: tells a ledger from any other SQLite file."""

_STEP_1: Final = (
    f"PRAGMA application_id = {APPLICATION_ID}",
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID",
    """CREATE TABLE sessions (
        id TEXT PRIMARY KEY, name TEXT NOT NULL, phase TEXT NOT NULL, origin TEXT NOT NULL, external_key TEXT NOT NULL,
        container_id TEXT, due_at INTEGER, removed_at INTEGER, body TEXT NOT NULL) STRICT""",
    "CREATE UNIQUE INDEX one_session_a_name ON sessions (name) WHERE removed_at IS NULL",
    "CREATE INDEX sessions_due ON sessions (due_at) WHERE due_at IS NOT NULL",
    """CREATE TABLE attempts (
        session_id TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE, number INTEGER NOT NULL,
        container_id TEXT NOT NULL, started_at INTEGER, ended_at INTEGER, body TEXT NOT NULL,
        PRIMARY KEY (session_id, number)) STRICT, WITHOUT ROWID""",
    """CREATE TABLE journal (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, decision INTEGER NOT NULL, kind TEXT NOT NULL, session_id TEXT,
        session TEXT, attempt INTEGER NOT NULL, container_id TEXT, committed_at INTEGER NOT NULL,
        observed_at INTEGER NOT NULL, body TEXT NOT NULL, observation TEXT) STRICT""",
    "CREATE INDEX journal_of_session ON journal (session_id, seq)",
    """CREATE TRIGGER journal_is_never_rewritten BEFORE UPDATE ON journal
        BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END""",
    """CREATE TRIGGER journal_only_grows_at_its_end BEFORE INSERT ON journal
        WHEN NEW.seq <= (SELECT max(seq) FROM journal)
        BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END""",
    """CREATE TRIGGER journal_is_only_pruned BEFORE DELETE ON journal
        WHEN NOT EXISTS (SELECT 1 FROM meta WHERE key = 'pruning')
        BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END""",
    """CREATE TABLE actions (
        id TEXT PRIMARY KEY, session_id TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE, kind TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('open', 'closed')), decided_at INTEGER NOT NULL,
        body TEXT NOT NULL) STRICT""",
    "CREATE INDEX actions_of_session ON actions (session_id)",
    "CREATE INDEX actions_open ON actions (decided_at) WHERE state = 'open'",
    """CREATE TABLE evidence (
        session_id TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE, attempt INTEGER NOT NULL,
        kept_at INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (session_id, attempt)) STRICT, WITHOUT ROWID""",
    """CREATE TABLE gaps (
        opened_at INTEGER PRIMARY KEY, closed_at INTEGER, cause TEXT NOT NULL, found TEXT NOT NULL) STRICT""",
    """CREATE TABLE seen (
        container TEXT NOT NULL, action TEXT NOT NULL, at INTEGER NOT NULL, observed_at INTEGER NOT NULL,
        PRIMARY KEY (container, action, at)) STRICT, WITHOUT ROWID""",
    "CREATE INDEX seen_by_age ON seen (observed_at)",
)

_STEP_2: Final = (
    # Of a `snapshot` row: the session as it then was, from which a replay starts once older rows are pruned.
    "ALTER TABLE journal ADD COLUMN snapshot TEXT",
    "CREATE INDEX journal_snapshots ON journal (session_id, seq) WHERE snapshot IS NOT NULL",
)

STEPS: Final = (_STEP_1, _STEP_2)
VERSION: Final = len(STEPS)


async def version_of(connection: aiosqlite.Connection, path: Path) -> int:
    """The version of a sound file that this program can read; 0 for an empty one. Raises LedgerError, sqlite3.Error."""
    (version,) = await one_row(connection, "PRAGMA user_version")
    (application,) = await one_row(connection, "PRAGMA application_id")
    (tables,) = await one_row(connection, "SELECT count(*) FROM sqlite_master")
    if tables and application != APPLICATION_ID:
        raise LedgerError(f"ledger {path}: the file is a database, but no ledger of this program; it was left as it is")
    if version > VERSION:
        raise LedgerError(
            f"ledger {path}: written by a newer program (version {version}, this one knows up to {VERSION}); "
            "it was left as it is: use the newer program or a backup"
        )
    return int(version)


async def check(connection: aiosqlite.Connection, path: Path) -> None:
    """Read the whole file once. Raises LedgerError when it is damaged, sqlite3.Error when it cannot be read."""
    (found,) = await one_row(connection, "PRAGMA quick_check(1)")
    if found != "ok":
        words = " ".join(str(found).split())
        raise LedgerError(
            f"ledger {path}: the file is damaged ({words}) and was left as it is: "
            "put a backup in its place, or move it away"
        )


async def migrate(path: Path, version: int, connect: Connect) -> None:
    """Bring the file from `version` to the newest; a file that had content is first copied beside itself."""
    if version == VERSION:
        return
    if version > 0:
        await _keep_copy(path, version, connect)
    connection = await open_writer(path, connect)
    try:
        for number, step in enumerate(STEPS[version:], start=version + 1):
            await transact(connection, [*map(Statement, step), Statement(f"PRAGMA user_version = {number}")])
    finally:
        await close(connection)


async def _keep_copy(path: Path, version: int, connect: Connect) -> None:
    """Copy to `{path}.v{version}.bak`. What an interrupted earlier try left there is replaced: its source still is."""
    copy, partial = Path(f"{path}.v{version}.bak"), Path(f"{path}.v{version}.bak.partial")
    discard(partial)
    await copy_to(path, partial, connect)
    os.replace(partial, copy)
    make_durable(copy.parent)
