"""The figures of `docs/reliability.md`, measured and written there: `python -m tests.figures`.

Plays worlds for as long as it is told, all single faults and planted bugs, takes the power from the ledger, kills a
real controller and a real engine, and measures how fast a change is on record; and writes the table between the two
marks.
A long run that was recorded (`python -m tests.simulation.run --record FILE`) is told with `--record FILE`, and not
played again; so are kills and measurements that were written down with `--json FILE`, and what the others printed.
"""

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs" / "reliability.md"
BEGIN: Final = "<!-- figures: written by `make figures`, not by hand -->"
END: Final = "<!-- end of figures -->"
_BROKEN: Final = ("lost", "invented", "doubled", "harmed", "wrong")
Figures = dict[str, float]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.figures", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="for how long worlds are played")
    parser.add_argument("--first", type=int, default=10_000, help="the first seed")
    parser.add_argument("--record", type=Path, help="what was played already, and is not played again")
    parser.add_argument("--slice", default="1/1", help="which of the single faults, as K/N")
    parser.add_argument("--faults", type=Path, help="what was printed when that part of them was played already")
    parser.add_argument("--planted", type=Path, help="what was printed when these were looked for already")
    parser.add_argument("--power", type=Path, help="what the images of a lost power came to already, as it was printed")
    parser.add_argument("--kills", default="100/20", help="how often controller and daemon are killed, as C/D")
    parser.add_argument("--killed", type=Path, help="what the kills came to already")
    parser.add_argument("--measured", type=Path, help="what was measured already")
    asked = parser.parse_args()
    worlds = _recorded(asked.record) if asked.record else _worlds(asked.seconds, asked.first)
    faults = _last_line_of(asked.faults, "simulation.complete", "--slice", asked.slice, "--stop", "1000000")
    planted = _last_line_of(asked.planted, "simulation.planted")
    power = _last_line_of(asked.power, "store.power_loss")
    kills = _written(asked.killed, "docker.kill_cycles", *_kills(asked.kills))
    measured = _written(asked.measured, "docker.measure")
    tried = {
        f"single faults of the scenarios ({_part(asked.slice)})": faults,
        "planted bugs found": planted,
        "images of the ledger after a loss of power, or a kill": power,
    }
    table = _table(worlds, tried=tried, real=[*_of_kills(kills), *measured])
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{table}\n{END}{after}", encoding="utf-8")
    print(table)
    unkept = [kills[what] for what in (*_BROKEN, "extra_restarts") if kills[what]]
    return 1 if worlds["failed"] or unkept or not all(" 0 failed" in told for told in tried.values()) else 0


def _recorded(record: Path) -> Figures:
    """What a campaign came to, as it wrote it down."""
    total: Counter[str] = Counter()
    for line in record.read_text(encoding="utf-8").splitlines():
        told = json.loads(line)
        total.update(told["figures"])
        total["failed"] += len(told["failures"])
    return dict(total)


def _kills(asked: str) -> tuple[str, ...]:
    controller, daemon = asked.split("/")
    return "--controller", controller, "--daemon", daemon


def _of_kills(told: dict[str, float]) -> list[tuple[str, str]]:
    wrong = ", ".join(f"{told[what]} {what}" for what in _BROKEN)
    return [
        (
            f"real engine: `kill -9` of the controller {told['controller_kills']} times, of the daemon "
            f"{told['daemon_kills']} times",
            f"{wrong}, {told['extra_restarts']} extra restarts, of {told['starts_count']} starts",
        ),
        ("ready after a kill of the controller: median, longest", _seconds(told, "controller_ready_s")),
    ]


def _part(which: str) -> str:
    return "all of them" if which.endswith("/1") else f"slice {which}"


def _seconds(told: dict[str, float], what: str) -> str:
    return f"{told[f'{what}_median']:.1f} s, {told[f'{what}_max']:.1f} s"


def _worlds(seconds: float, first: int) -> Figures:
    """Two processes, one for each core, on seeds of their own."""
    arguments = ("--seeds", "1000000", "--seconds", str(seconds), "--stop", "1000000", "--json")
    running = [
        _begin("simulation.run", *arguments, "--first", str(first + turn * 500_000))
        for turn in range(os.cpu_count() or 1)
    ]
    total: Counter[str] = Counter()
    for process in running:
        said, _ = process.communicate()
        lines = [line for line in said.splitlines() if line.startswith("{")]
        total.update(json.loads(lines[-1]))
    return dict(total)


def _last_line(module: str, *arguments: str) -> str:
    said, _ = _begin(module, *arguments).communicate()
    return said.strip().splitlines()[-1]


def _last_line_of(already: Path | None, module: str, *arguments: str) -> str:
    if already is not None:
        return already.read_text(encoding="utf-8").strip().splitlines()[-1]
    return _last_line(module, *arguments)


def _commit() -> str:
    """The code that was measured."""
    asked = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or "no commit"


def _written(already: Path | None, module: str, *arguments: str) -> Any:
    """The JSON that a command writes into a file, or has written."""
    if already is not None:
        return json.loads(already.read_text(encoding="utf-8"))
    with TemporaryDirectory() as folder:
        told = Path(folder) / "told.json"
        _begin(module, *arguments, "--json", str(told)).communicate()
        return json.loads(told.read_text(encoding="utf-8"))


def _begin(module: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", f"tests.{module}", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def _table(worlds: Figures, *, tried: Mapping[str, str], real: Sequence[tuple[str, str]]) -> str:
    crashes = sum(count for name, count in worlds.items() if name.startswith("life killed"))
    virtual_days = worlds.get("virtual_s", 0) / 86_400
    rows = [
        ("written", f"{datetime.now(tz=UTC):%Y-%m-%d %H:%M} UTC, at {_commit()}"),
        ("seeds played", f"{worlds['seeds']:.0f}, of which {worlds['failed']:.0f} failed"),
        ("simulated time", f"{virtual_days:.1f} days"),
        ("lives of the controller", f"{worlds.get('lives', 0):.0f}, of which {crashes:.0f} ended by `kill -9`"),
        ("faults of calls and events", f"{worlds.get('call faults', 0):.0f}"),
        ("faults of the disk", f"{worlds.get('disk faults', 0):.0f}"),
        ("strikes on daemons, containers, streams and clocks", f"{worlds.get('strikes', 0):.0f}"),
        ("requests that changed the engine, each judged before it left", f"{worlds.get('requests', 0):.0f}"),
        ("journal rows, each judged", f"{worlds.get('journal rows', 0):.0f}"),
        ("seeds in which recall could be asked", f"{worlds.get('worlds asked for recall', 0):.0f}"),
        ("transitions on record", f"{worlds.get('transitions told', 0):.0f}"),
        ("transitions that a gap row covers", f"{worlds.get('transitions covered by a gap', 0):.0f}"),
        ("transitions lost without a sign", f"{worlds.get('transitions lost', 0):.0f}"),
        ("transitions invented", f"{worlds.get('transitions invented', 0):.0f}"),
        *tried.items(),
        *real,
    ]
    return "\n".join(["| what | figure |", "|---|---|", *(f"| {what} | {figure} |" for what, figure in rows)]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
