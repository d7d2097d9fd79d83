"""A program that brings an older ledger up to date, prunes it, and says so: what `power_loss.py` takes the power from.

`python -m tests.store.upkeep PATH` writes `ACK 1` when the ledger is open, `ACK 2` when it is pruned. The file is one
that an earlier build left behind, cut down to a few sessions so that many images of it are made in seconds.
"""

import hashlib
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import anyio

from controller.interfaces import Batch
from controller.model.instant import Instant, after
from controller.store.ledger import open_ledger
from tests.store.images import IMAGES
from tests.store.records import DAY_S, ManualClock, SeededRng
from tests.store.writer import connect

OLDEST: Final = IMAGES[0]
STEPS_COUNT: Final = 2
NOW: Final = after(Instant(1_790_000_000_000_000_000), 60 * DAY_S)
"""The image is from the first hour after that instant, so everything in it is old enough to be forgotten."""
_TABLES: Final = ("meta", "sessions", "attempts", "journal", "actions", "evidence", "gaps", "seen", "sqlite_sequence")
_FEW: Final = """
    CREATE TEMP TABLE few AS SELECT id FROM (
        SELECT id, row_number() OVER (PARTITION BY removed_at IS NULL ORDER BY attempts DESC, id) AS place FROM (
            SELECT s.id, s.removed_at, count(*) AS attempts FROM sessions s JOIN attempts a ON a.session_id = s.id
            GROUP BY s.id)) WHERE place <= 2;
    INSERT INTO meta VALUES ('pruning', 1);
    DELETE FROM journal WHERE coalesce(session_id NOT IN (SELECT id FROM few), seq % 4);
    DELETE FROM meta WHERE key = 'pruning';
    PRAGMA foreign_keys = ON;
    DELETE FROM sessions WHERE id NOT IN (SELECT id FROM few);
    VACUUM;
"""


async def keep_up(path: Path, acknowledge: Callable[[int], None], *, prune: bool = True) -> None:
    """Open, and so migrate; then forget whatever may be forgotten. Safe to repeat."""
    async with open_ledger(path, clock=ManualClock(NOW), rng=SeededRng(), connect=connect) as ledger:
        acknowledge(1)
        if prune:
            await ledger.commit(Batch(prune_before=NOW))
            acknowledge(2)


class Judge:
    """Knows how the file has to look after each step."""

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "live.db"
            path.write_bytes(OLDEST.content())
            with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                connection.executescript(_FEW)
            self.begin = path.read_bytes()
            self._steps = [content(path)]
            for prune in (False, True):
                copy = Path(shutil.copy(path, path.with_name(f"{prune}.db")))
                anyio.run(lambda copy=copy, prune=prune: keep_up(copy, lambda _: None, prune=prune))  # type: ignore[misc]
                self._steps.append(content(copy))
            assert len(set(self._steps)) == STEPS_COUNT + 1, "a step that changes nothing shows nothing"
            with closing(sqlite3.connect(copy)) as connection:
                assert connection.execute("SELECT count(snapshot) FROM journal").fetchone()[0] > 0

    def stand(self, path: Path) -> int:
        """How many steps are in the file; fails unless they are whole, and the copy of the older file is there."""
        found = content(path)
        assert found in self._steps, "half a step"
        step = self._steps.index(found)
        kept = Path(f"{path}.v{OLDEST.version}.bak")
        assert kept.exists() or step == 0, "the older file is not kept"
        assert not kept.exists() or content(kept) == self._steps[0], "the copy is not the older file"
        return step

    async def carry_on(self, path: Path, step: int) -> None:
        """Whatever step it is at, the next life gets it to the end."""
        await keep_up(path, lambda _: None)
        assert self.stand(path) == STEPS_COUNT


def content(path: Path) -> str:
    """A digest of all that is in the file, read with plain SQLite; fails when it is not sound."""
    digest = hashlib.sha256()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        for sql in ("PRAGMA user_version", *(f"SELECT * FROM {table} ORDER BY 1, 2" for table in _TABLES)):
            digest.update(repr(connection.execute(sql).fetchall()).encode())
    return digest.hexdigest()


def main() -> None:
    """One life."""

    def acknowledge(number: int) -> None:
        os.write(1, b"ACK %d\n" % number)

    anyio.run(keep_up, Path(sys.argv[1]), acknowledge)


if __name__ == "__main__":
    main()
