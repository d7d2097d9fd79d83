"""Churn and faults on a real engine for as long as one asks, with an eye on memory, descriptors, threads and tasks.

    python -m tests.docker.soak --minutes 10 [--seed N] [--json FILE]

At the end, and every few minutes, everything is at rest and the journal is held against the oracle. In the second half
the controller is not killed any more, while churn and the engine's faults go on: what one life holds is judged there.
Prints one line a minute and a table; ends with 1 when anything was lost, invented, harmed, doubled or wrong, or when
something grows.
"""

import argparse
import contextlib
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.docker.growth import Sample, highest, judge_growth
from tests.docker.kill_cycles import FAILING, LASTING, Stage, kill_daemon, stage
from tests.support.controller_process import until
from tests.support.engine_faults import end_ghosts, frozen, kill_containerd, without_socket
from tests.support.private_engine import missing

JUDGE_EVERY_S: Final = 120.0
STEADY_PART: Final = 0.5
"""Of the run: its end, in which the controller lives on."""
JOBS_MAX: Final = 30
REST_S: Final = 15.0
"""Longer than two windows of the stream overlap."""
FAULTS: Final = ("of the controller", "of the daemon", "of containerd", "socket away")


class Soak:
    """One long run."""

    def __init__(self, on: Stage, *, seed: int) -> None:
        self._on = on
        self._dice = random.Random(seed)
        self._began = time.monotonic()
        self._jobs: list[str] = []
        self._made = 0
        self._steady = False
        self.life = 1
        self.done: Counter[str] = Counter()
        self.samples: list[Sample] = []
        """After each deed, and at each rest."""
        self.faults: list[str] = []
        self.told: list[str] = []
        """Every deed and when, to understand a violation by."""

    @property
    def at_s(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began

    def run(self, seconds: float) -> None:
        """Churn until the time is over; judge now and then and at the end."""
        judged_at = said_at = 0.0
        while self.at_s < seconds:
            if not self._steady and self.at_s > seconds * (1 - STEADY_PART):
                self._steady = True
                self._judge()
                judged_at = self.at_s
            deed, name = self._choose()
            began = time.time_ns()
            with contextlib.suppress(OSError, ValueError, RuntimeError):
                deed()
                self.done[name] += 1
            self.told.append(f"{began} to {time.time_ns()}: {name}")
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
        if self._steady:
            menu = [each for each in menu if not each[2].endswith("of the controller")]
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
            # A start that it died in leaves a process that bars every further one, as with the daemon.
            self._on.ghosts_count += end_ghosts(self._on.engine)

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
        self._sample_at_rest()

    def _sample(self) -> None:
        if (sample := self._now()) is not None:
            self.samples.append(sample)

    def _sample_at_rest(self) -> None:
        """The quietest moment of some seconds, or the first that is as quiet as the rest before."""
        before = [one.tasks for one in self.samples if one.at_rest and one.life == self.life and one.tasks is not None]
        found: list[tuple[int, Sample]] = []
        began = time.monotonic()
        while time.monotonic() - began < REST_S:
            sample = self._now(at_rest=True)
            if sample is not None and sample.tasks is not None:
                found.append((sample.tasks, sample))
                if before and sample.tasks <= before[-1]:
                    break
            time.sleep(0.2)
        if found:
            self.samples.append(min(found, key=lambda one: one[0])[1])

    def _now(self, *, at_rest: bool = False) -> Sample | None:
        return Sample.of(
            self._on.controller,
            life=self.life,
            at_s=self.at_s,
            sessions=self._made,
            steady=self._steady,
            at_rest=at_rest,
        )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.docker.soak")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    if lacking := missing():
        print(f"no private engine here: {lacking}", file=sys.stderr)
        return 2
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="sk"))
    with stage(folder, shutdown_leave_running="true") as on:
        soak = Soak(on, seed=asked.seed)
        soak.run(asked.minutes * 60)
    steady, complaints = judge_growth(soak.samples)
    figures = {
        "minutes": round(soak.at_s / 60, 1),
        "lives": soak.life,
        "deeds": dict(soak.done),
        **highest(soak.samples),
        **steady,
        **soak.figures,
    }
    if steady["rss_grown_mib"] is None:
        print("memory was not judged: the run was too short")
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=2))
    for fault in [*soak.faults[:40], *complaints]:
        print(fault)
    if soak.faults:
        print(*(told for told in soak.told if told.endswith(FAULTS)), sep="\n")
        print(f"the ledger and the log are kept in {folder}")
    else:
        shutil.rmtree(folder)
    print(
        f"soak: {figures['minutes']} minutes, {len(soak.faults)} violations, {len(complaints)} complaints about growth"
    )
    return 1 if soak.faults or complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
