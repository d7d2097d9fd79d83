"""Makes the ledger that a build of the program leaves behind when it is killed in the middle of its work.

Run in a checkout of that build, with this folder copied to the same place: it needs nothing but the simulation, as it
was from its first commit on. Of many worlds it keeps the one moment at which the ledger holds the most different things
(`README.md` has the rest).

    python -m tests.store.images.make tests/store/images/v2-94e40a5.db.xz
"""

import argparse
import gc
import io
import lzma
import random
import shutil
import sqlite3
import tempfile
from contextlib import closing, redirect_stdout, suppress
from pathlib import Path
from typing import Final

from controller.settings import Settings
from tests.simulation.knobs import draw
from tests.simulation.nemesis import CLOCKS
from tests.simulation.world import World

ROWS_MAX: Final = 600
"""Of the journal: an image is to stay small."""
BEGIN_S: Final = 30.0
RARE_WORTH: Final = 8
_WANTED: Final = {
    ("session", "requested running 1"),
    ("session", "external running 1"),
    ("session", "requested stopped 0"),
}
_TOLD: Final = {
    "open": "SELECT DISTINCT kind FROM actions WHERE state = 'open'",
    "closed": "SELECT DISTINCT kind FROM actions WHERE state = 'closed'",
    "session": "SELECT DISTINCT origin || ' ' || phase || ' ' || (removed_at IS NULL) FROM sessions",
    "desired": "SELECT DISTINCT body ->> '$.desired' FROM sessions",
    "restart": "SELECT DISTINCT body ->> '$.spec.restart.mode' FROM sessions WHERE body ->> '$.spec' IS NOT NULL",
    "row": "SELECT DISTINCT kind FROM journal",
    "reason": "SELECT DISTINCT body ->> '$.reason' FROM journal",
    "observation": "SELECT DISTINCT observation ->> '$.kind' FROM journal WHERE observation IS NOT NULL",
    "verdict": "SELECT DISTINCT body ->> '$.exit.verdict' FROM attempts WHERE ended_at IS NOT NULL",
    "gap": "SELECT DISTINCT closed_at IS NULL FROM gaps",
    "kept": "SELECT DISTINCT json_array_length(body, '$.tail.lines') > 0 FROM evidence",
    "seen": "SELECT DISTINCT action FROM seen",
}


def features(path: Path) -> set[tuple[str, object]]:
    """What kinds of things the ledger holds; nothing while it is not one, or is too long."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection, suppress(sqlite3.OperationalError):
        if connection.execute("SELECT count(*) FROM journal").fetchone()[0] <= ROWS_MAX:
            return {(what, found) for what, sql in _TOLD.items() for (found,) in connection.execute(sql)}
    return set()


class Best:
    """The richest moment so far."""

    def __init__(self) -> None:
        self.features: set[tuple[str, object]] = set()
        self.image = b""
        self.seed = ""
        self.at = 0.0

    def look(self, world: World) -> None:
        if world.timeline.now < BEGIN_S or not under_way(world.path):
            return
        found = features(world.path)
        whole = found >= _WANTED and {"open", "seen", "gap", "kept"} <= {what for what, _ in found}
        if whole and worth(found) > worth(self.features):
            self.features, self.seed, self.at, self.image = found, world.seed, world.timeline.now, taken(world.path)


def under_way(path: Path) -> bool:
    """Whether an action is open."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection, suppress(sqlite3.OperationalError):
        return connection.execute("SELECT 1 FROM actions WHERE state = 'open' LIMIT 1").fetchone() is not None
    return False


def worth(found: set[tuple[str, object]]) -> int:
    """How rich a moment is; an action under way and a pruned session are the rarest of what can be in it."""
    return len(found) + sum(RARE_WORTH for what, kind in found if what == "open" or kind == "snapshot")


def taken(path: Path) -> bytes:
    """The file as the next life would find it after a kill, with its write-ahead log put back into it."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        for suffix in ("", "-wal"):
            if Path(f"{path}{suffix}").exists():
                shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
        with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute("VACUUM")
        return copy.read_bytes()


def play(seed: str, folder: Path, best: Best) -> None:
    """One world, looked at all along."""
    path = folder / "controller.db"
    knobs = draw(random.Random(f"{seed}/knobs"), path=str(path))
    knobs.settings = Settings(
        docker_host="unix:///simulated",
        db=str(path),
        prefix="agentd",
        agent_url="ws://controller:7006",
        sources={"AGENTD_AGENT_URL": "environment"},
        retain_days=0.001,
    )
    # What is in the image is to be of one known time.
    knobs.nemeses = {name: rate for name, rate in knobs.nemeses.items() if name not in CLOCKS}
    knobs.loop_knobs = [*knobs.loop_knobs, ("controller.loops.prune", "EVERY_S", 60.0)]
    world = World(seed, folder, knobs=knobs)

    before = world.disk.after_commit

    def look() -> None:
        before()
        best.look(world)

    world.disk.after_commit = look
    with redirect_stdout(io.StringIO()):
        world.run()


def main() -> None:
    """Play, keep the best, and say what is in it."""
    parser = argparse.ArgumentParser(prog="python -m tests.store.images.make")
    parser.add_argument("image", type=Path, help="the file to write, .db.xz")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=20)
    wanted = parser.parse_args()
    best = Best()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(wanted.first, wanted.first + wanted.seeds):
            play(str(seed), Path(folder) / "world", best)
            gc.collect()
    wanted.image.write_bytes(lzma.compress(best.image, preset=9 | lzma.PRESET_EXTREME))
    for what in sorted({name for name, _ in best.features}):
        print(f"{what}: {', '.join(sorted(str(found) for name, found in best.features if name == what))}")
    print(f"seed {best.seed} at {best.at:.1f} s: {wanted.image.stat().st_size} bytes")


if __name__ == "__main__":
    main()
