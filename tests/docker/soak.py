"""Churn and faults on a real engine for as long as one asks, with an eye on memory, descriptors and threads.

    python -m tests.docker.soak --minutes 10 [--seed N] [--json FILE]

At the end, and every few minutes, everything is at rest and the journal is held against the oracle. Prints one line a
minute and a table; ends with 1 when anything was lost, invented, harmed, doubled or wrong, or when something grows.
"""

import argparse
import contextlib
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from tests.docker.kill_cycles import FAILING, LASTING, Stage, kill_daemon, stage
from tests.support.controller_process import until
from tests.support.engine_faults import frozen, kill_containerd, without_socket
from tests.support.private_engine import missing

JUDGE_EVERY_S: Final = 120.0
WARM_UP_S: Final = 60.0
"""Of each life of the controller: what it needs anyway is not growth."""
RSS_SLOPE_MAX_MIB_PER_H: Final = 30.0
"""Judged over lives of ten minutes and more; the journal's own growth is on disk."""
FILES_MAX: Final = 120
THREADS_MAX: Final = 40
JOBS_MAX: Final = 30


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What one life of the controller holds at one moment."""

    life: int
    at_s: float
    rss_mib: float
    files: int
    threads: int

    @classmethod
    def of(cls, pid: int, *, life: int, at_s: float) -> Self | None:
        """From /proc; None when it is gone."""
        try:
            status = dict(
                line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
            )
            files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        except OSError:
            return None
        if "VmRSS" not in status:
            return None
        rss_mib = int(status["VmRSS"].split()[0]) / 1024
        return cls(life=life, at_s=at_s, rss_mib=rss_mib, files=files, threads=int(status["Threads"]))


class Soak:
    """One long run."""

    def __init__(self, on: Stage, *, seed: int) -> None:
        self._on = on
        self._dice = random.Random(seed)
        self._began = time.monotonic()
        self._jobs: list[str] = []
        self._made = 0
        self.life = 1
        self.done: Counter[str] = Counter()
        self.samples: list[Sample] = []
        self.faults: list[str] = []

    @property
    def at_s(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began

    def run(self, seconds: float) -> None:
        """Churn until the time is over; judge now and then and at the end."""
        judged_at = said_at = 0.0
        while self.at_s < seconds:
            deed, name = self._choose()
            with contextlib.suppress(OSError, ValueError, RuntimeError):
                deed()
                self.done[name] += 1
            self._sample()
            if self.at_s - judged_at > JUDGE_EVERY_S:
                self._judge()
                judged_at = self.at_s
            if self.at_s - said_at > 60:
                said_at = self.at_s
                last = self.samples[-1] if self.samples else None
                print(f"{self.at_s:6.0f} s  life {self.life}  {last}  {sum(self.done.values())} deeds", flush=True)
        self._judge()

    def _choose(self) -> tuple[Callable[[], None], str]:
        menu: list[tuple[float, Callable[[], None], str]] = [
            (30, self._create_lasting, "create"),
            (15, self._create_failing, "create one that fails"),
            (25, self._verb, "start, stop or restart"),
            (20, self._remove, "remove"),
            (10, self._crash_watched, "crash"),
            (3, self._kill_controller, "kill -9 of the controller"),
            (1, self._restart_controller, "restart of the controller"),
            (1.2, self._kill_daemon, "kill -9 of the daemon"),
            (0.6, self._kill_containerd, "kill -9 of containerd"),
            (0.6, self._freeze, "SIGSTOP of the daemon"),
            (0.6, self._hide_socket, "socket away"),
        ]
        weights = [weight for weight, _, _ in menu]
        _, deed, name = self._dice.choices(menu, weights)[0]
        return deed, name

    # --- churn -----------------------------------------------------------------------------------------------

    def _create_lasting(self) -> None:
        self._create(*LASTING)

    def _create_failing(self) -> None:
        self._create(*FAILING, restart={"mode": "on-failure", "max_attempts": 1})

    def _create(self, *command: str, **spec: object) -> None:
        if len(self._jobs) >= JOBS_MAX:
            return self._remove()
        self._made += 1
        name = f"job-{self._made}"
        self._jobs.append(name)
        self._on.controller.create(name, *command, wait=False, **spec)
        return None

    def _verb(self) -> None:
        name = self._dice.choice([*self._jobs, *self._on.busy])
        verb = self._dice.choice(("start", "stop", "restart"))
        self._on.controller.request("POST", f"/v1/sessions/{name}/{verb}?wait=false", timeout_s=10)

    def _remove(self) -> None:
        if self._jobs:
            name = self._jobs.pop(self._dice.randrange(len(self._jobs)))
            self._on.controller.request("DELETE", f"/v1/sessions/{name}?force=true&wait=false", timeout_s=20)

    def _crash_watched(self) -> None:
        with self._on.oracle.deed("watched"):
            self._on.engine.cli("start", "watched", timeout_s=20)

    # --- faults ----------------------------------------------------------------------------------------------

    def _kill_controller(self) -> None:
        self._on.controller.kill()
        self._on.controller.start(wait_ready=self._dice.random() < 0.7)
        self.life += 1

    def _restart_controller(self) -> None:
        self._on.controller.stop()
        self._on.controller.start()
        self.life += 1

    def _kill_daemon(self) -> None:
        kill_daemon(self._on, 1)

    def _kill_containerd(self) -> None:
        with self._on.oracle.engine_down():
            kill_containerd(self._on.engine)
            time.sleep(5)

    def _freeze(self) -> None:
        with frozen(self._on.engine):
            time.sleep(self._dice.uniform(2, 12))

    def _hide_socket(self) -> None:
        with without_socket(self._on.engine):
            time.sleep(self._dice.uniform(1, 6))

    # --- judging ---------------------------------------------------------------------------------------------

    def _judge(self) -> None:
        if not self._on.controller.alive:
            self.faults.append(f"the controller has ended by itself:\n{self._on.controller.log_tail()}")
            self._on.controller.start()
        until(self._on.controller.is_ready, what="ready", timeout_s=90)
        found = self._on.settle()
        self.faults += [fault for fault in found.faults if fault not in self.faults]
        self.figures = found.figures()

    def _sample(self) -> None:
        if self._on.controller.alive:
            sample = Sample.of(self._on.controller.pid, life=self.life, at_s=self.at_s)
            if sample is not None:
                self.samples.append(sample)

    def growth(self) -> tuple[float | None, list[str]]:
        """The slope of the longest life in MiB an hour, and what is beyond its limit."""
        complaints: list[str] = []
        for what, limit in (("files", FILES_MAX), ("threads", THREADS_MAX)):
            highest = max(getattr(one, what) for one in self.samples)
            if highest > limit:
                complaints.append(f"{highest} {what}, at most {limit} are expected")
        longest, _ = Counter(one.life for one in self.samples).most_common(1)[0]
        of_life = [one for one in self.samples if one.life == longest]
        steady = [one for one in of_life if one.at_s - of_life[0].at_s > WARM_UP_S]
        if len(steady) < 10:
            return None, complaints
        slope = _slope([one.at_s / 3600 for one in steady], [one.rss_mib for one in steady])
        if steady[-1].at_s - steady[0].at_s > 600 and slope > RSS_SLOPE_MAX_MIB_PER_H:
            complaints.append(f"memory grows by {slope:.1f} MiB an hour")
        return slope, complaints


def _slope(xs: list[float], ys: list[float]) -> float:
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread if spread else 0.0


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.docker.soak")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    if lacking := missing():
        print(f"no private engine here: {lacking}", file=sys.stderr)
        return 2
    with (
        tempfile.TemporaryDirectory(dir="/tmp", prefix="sk") as folder,
        stage(Path(folder), shutdown_leave_running="true") as on,
    ):
        soak = Soak(on, seed=asked.seed)
        soak.run(asked.minutes * 60)
    slope, complaints = soak.growth()
    figures = {
        "minutes": round(soak.at_s / 60, 1),
        "lives": soak.life,
        "deeds": dict(soak.done),
        "rss_mib_max": round(max(one.rss_mib for one in soak.samples), 1),
        "rss_slope_mib_per_h": None if slope is None else round(slope, 2),
        "files_max": max(one.files for one in soak.samples),
        "threads_max": max(one.threads for one in soak.samples),
        **soak.figures,
    }
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=2))
    for fault in [*soak.faults[:40], *complaints]:
        print(fault)
    print(
        f"soak: {figures['minutes']} minutes, {len(soak.faults)} violations, {len(complaints)} complaints about growth"
    )
    return 1 if soak.faults or complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
