"""The figures of docs/reliability.md: runs each proof, and writes what it printed into the page.

`python -m tests.figures` takes as long as its parts are asked to; `--quick` is a tenth of each. A part that fails is
shown as failed, and the command ends with 1: a page never shows a figure that nobody measured.
"""

import argparse
import datetime
import os
import platform
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"
BEGIN, END = "<!-- figures: made by `make figures` -->", "<!-- end of figures -->"
LAST_LINES = 3


@dataclass(frozen=True, kw_only=True)
class Part:
    """One proof: how it is run, and what part of its output is the figure."""

    title: str
    module: str
    arguments: tuple[str, ...]
    quick: tuple[str, ...]


PARTS = (
    Part(
        title="simulated world, fresh seeds",
        module="tests.simulation.run",
        arguments=("--seeds", "2000", "--first", "100000"),
        quick=("--seeds", "60", "--first", "100000"),
    ),
    Part(
        title="single faults of the reference scenarios",
        module="tests.simulation.complete",
        arguments=(),
        quick=("--slice", "1/40"),
    ),
    Part(
        title="power loss of the ledger",
        module="tests.store.power_loss",
        arguments=("--images", "25000"),
        quick=("--images", "2500"),
    ),
    Part(
        title="kill -9 of controller and daemon, real engine",
        module="tests.docker.kill_cycles",
        arguments=("--controller", "100", "--daemon", "20"),
        quick=("--controller", "10", "--daemon", "2"),
    ),
    Part(
        title="diagnosis, real engine",
        module="tests.docker.diagnosis",
        arguments=("--runs", "10"),
        quick=("--runs", "1"),
    ),
    Part(title="latency, sweep, memory, real engine", module="tests.docker.measure", arguments=(), quick=()),
    Part(
        title="soak, real engine",
        module="tests.docker.soak",
        arguments=("--minutes", "10"),
        quick=("--minutes", "1"),
    ),
)


def measure(part: Part, *, quick: bool) -> tuple[bool, str]:
    """Run one part; whether it went well, and its section of the page."""
    arguments = part.quick if quick else part.arguments
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", part.module, *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )
    took_s = time.monotonic() - began
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    table = [line for line in lines if line.startswith("|")]
    shown = table or ["```", *lines[-LAST_LINES:], "```"]
    verdict = "" if done.returncode == 0 else f" **failed** with exit code {done.returncode}"
    command = " ".join(("python -m", part.module, *arguments))
    return done.returncode == 0, "\n".join([f"**{part.title}**{verdict} (`{command}`, {took_s:.0f} s)", "", *shown, ""])


def write(sections: list[str]) -> None:
    """Put the sections between the page's two marks."""
    today = datetime.datetime.now(datetime.UTC).date()
    where = f"Measured on {today}, {os.cpu_count()} cores, Python {platform.python_version()}."
    figures = "\n".join([BEGIN, "", where, "", *sections, END])
    page = PAGE.read_text(encoding="utf-8")
    replaced = re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: figures, page, flags=re.DOTALL)
    PAGE.write_text(replaced, encoding="utf-8")


def main() -> int:
    """Measure all parts, or those whose title contains `--only`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="a tenth of each")
    parser.add_argument("--only", default="", help="parts whose title contains this; the page is not written")
    asked = parser.parse_args()
    sections, well = [], True
    for part in PARTS:
        if asked.only in part.title:
            went_well, section = measure(part, quick=asked.quick)
            well = well and went_well
            sections.append(section)
            print(section, flush=True)
    if not asked.only:
        write(sections)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
