"""`kill -9` of the controller and of the daemon, again and again, under load; then everything is counted.

    python -m tests.docker.kill_cycles --controller 100 --daemon 20 [--json FILE]

Prints one line and ends with 1 when anything was lost, invented, harmed, doubled or wrong.
"""

import argparse
import contextlib
import json
import math
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.support.controller_process import ControllerProcess, until
from tests.support.engine_faults import end_ghosts
from tests.support.judgement import Judgement, judge
from tests.support.ledger_file import Body, LedgerFile
from tests.support.private_engine import PrivateEngine, missing
from tests.support.proxy_thread import ProxyThread, proxy_before
from tests.support.restart_count import RestartCount, count_restarts
from tests.support.stream_oracle import StreamOracle, inspect_all

LASTING: Final = ("/bin/sh", "-c", "trap 'exit 0' TERM; sleep 100000 & wait")
FAILING: Final = ("/bin/sh", "-c", "sleep 1; exit 3")
WATCHED: Final = "sleep 2; exit 7"
LIFE_MAX_S: Final = 2.5
QUIET_COUNT: Final = 6
BUSY_COUNT: Final = 6
FLAPPING_COUNT: Final = 3
MAX_RESTARTS: Final = 3
SETTLE_TIMEOUT_S: Final = 90.0


class Stage:
    """An engine with an oracle, a controller, and what runs under them."""

    def __init__(
        self,
        engine: PrivateEngine,
        oracle: StreamOracle,
        controller: ControllerProcess,
        *,
        between: ProxyThread | None = None,
    ) -> None:
        self.engine = engine
        self.between = between
        """The proxy that the controller reaches the engine through, if it does."""
        self.oracle = oracle
        self.controller = controller
        self.quiet = [f"quiet-{number}" for number in range(QUIET_COUNT)]
        self.busy = [f"busy-{number}" for number in range(BUSY_COUNT)]
        self.flapping = [f"flap-{number}" for number in range(FLAPPING_COUNT)]
        self.accepted_count = 0
        self.controller_kills = self.daemon_kills = 0
        self.ghosts_count = 0
        """Processes that a killed daemon forgot, and that the stage ended in its place."""

    def populate(self) -> None:
        """Sessions that last, that are driven, and that fail and are restarted; watched and foreign containers."""
        with ThreadPoolExecutor(6) as threads:
            list(threads.map(lambda name: self.controller.create(name, *LASTING), self.quiet + self.busy))
        for name in self.flapping:
            restart = {"mode": "on-failure", "max_attempts": MAX_RESTARTS}
            self.controller.create(name, *FAILING, wait=False, restart=restart)
        with self.oracle.deed("watched", "stranger"):
            self.engine.run("--name", "watched", "--label", "agentd.watch=true", "--", "/bin/sh", "-c", WATCHED)
            self.engine.run("--name", "stranger", "--", *LASTING)

    def drive(self, ended: threading.Event) -> None:
        """Users who start, stop and restart, and somebody who starts the watched container, until told to end."""
        dice = random.Random(1)
        while not ended.is_set():
            with contextlib.suppress(OSError, ValueError, RuntimeError):
                if dice.random() < 0.15:
                    with self.oracle.deed("watched"):
                        self.engine.cli("start", "watched", timeout_s=20)
                else:
                    verb, name = dice.choice(("start", "stop", "restart")), dice.choice(self.busy)
                    path = f"/v1/sessions/{name}/{verb}?wait=false"
                    self.accepted_count += self.controller.request("POST", path, timeout_s=10)[0] in (200, 202)
            ended.wait(0.15)

    @contextlib.contextmanager
    def under_load(self) -> Iterator[None]:
        """The users of `drive` are at work."""
        ended = threading.Event()
        thread = threading.Thread(target=self.drive, args=(ended,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(30)

    def settle(self) -> Judgement:
        """Wait until nothing is on its way any more, and judge."""
        until(self.controller.is_ready, what=f"ready again\n{self.controller.log_tail()}", timeout_s=60)
        self.controller.reconcile()
        ledger = LedgerFile(self.controller.db)
        try:
            until(lambda: not self._moving(ledger), what="at rest", timeout_s=SETTLE_TIMEOUT_S)
        except AssertionError as error:
            states = {told["Name"]: told["State"] for told in inspect_all(self.engine).values()}
            stories = "\n".join(self._moving(ledger))
            raise AssertionError(f"{error}\n{stories}\n{states}\n{self.engine.log_tail()}") from None
        self.oracle.catch_up()
        # An end is refined within two seconds, and a restart may come at any time: what is wrong must stay so.
        found = self.judge()
        began = time.monotonic()
        while found.faults and time.monotonic() - began < 15:
            time.sleep(0.1)
            found = self.judge()
        ledger.check()
        return found

    def judge(self) -> Judgement:
        """Just now."""
        return judge(self.oracle, self.controller.db, inspect_all(self.engine))

    def restarts(self) -> RestartCount:
        """Of the sessions that fail, so far, as the engine told them."""
        return count_restarts(
            self.oracle.happened,
            [*self.oracle.blind, *self.oracle.engine_deeds],
            containers=[f"agentd-{name}" for name in self.flapping],
            granted=MAX_RESTARTS,
            now=time.time_ns(),
        )

    def _moving(self, ledger: LedgerFile) -> list[str]:
        """What is still on its way, each with the end of its story."""
        open_of = {action["session_id"] for action in ledger.actions() if action["state"] == "open"}
        moving = [one for one in ledger.sessions() if one["id"] in open_of or one["phase"] in ("starting", "stopping")]
        return [_story(one, ledger) for one in moving]


def _story(session: Body, ledger: LedgerFile) -> str:
    rows = [row for row in ledger.rows() if row["session_id"] == session["id"]][-12:]
    actions = [action for action in ledger.actions() if action["session_id"] == session["id"]][-4:]
    told = [
        f"{row['seq']} {row['kind']} #{row['attempt']} {row['from_phase']} -> {row['to_phase']} {row['reason']} "
        f"({row['source']}) {row['action']} {row['message']}"
        for row in rows
    ]
    return "\n  ".join(
        [f"{session['name']} is {session['phase']}, wanted {session['desired']}", *told, *map(str, actions)]
    )


@contextlib.contextmanager
def stage(
    folder: Path,
    *,
    live_restore: bool = False,
    proxied: bool = False,
    db: Path | None = None,
    under: tuple[str, ...] = (),
    **settings: str,
) -> Iterator[Stage]:
    """Everything up and populated. `db`: the ledger's file, where it is not to be in the folder."""
    engine = PrivateEngine(live_restore=live_restore)
    given = {"orphan_grace_s": "0", "stop_grace_s": "3", **settings}
    with contextlib.ExitStack() as stack:
        stack.enter_context(engine)
        oracle = stack.enter_context(StreamOracle(engine))
        between = stack.enter_context(proxy_before(engine)) if proxied else None
        url = between.url if between is not None else engine.url
        controller = ControllerProcess(folder=folder, engine_url=url, under=under)
        controller.environment |= {f"AGENTD_{name.upper()}": value for name, value in given.items()}
        if db is not None:
            controller.db = db
            controller.environment["AGENTD_DB"] = str(db)
        stack.enter_context(controller)
        built = Stage(engine, oracle, controller, between=between)
        built.populate()
        yield built


def kill_controller(on: Stage, count: int, dice: random.Random, *, until_s: float = math.inf) -> list[float]:
    """So many lives, some of which end before they were ready. Gives how long each took to be ready."""
    took: list[float] = []
    with on.under_load():
        for number in range(count):
            if time.monotonic() > until_s:
                break
            on.controller_kills += 1
            on.controller.kill()
            began = time.monotonic()
            on.controller.start(wait_ready=False)
            if number % 4:
                until(on.controller.is_ready, what=f"ready\n{on.controller.log_tail()}", timeout_s=60)
                took.append(time.monotonic() - began)
            time.sleep(dice.uniform(0, LIFE_MAX_S) if number % 4 else dice.uniform(0, 1))
    return took


def kill_daemon(on: Stage, count: int, *, until_s: float = math.inf) -> list[float]:
    """So many times. Gives how long the controller took to be ready after the daemon answered again."""
    took: list[float] = []
    with on.under_load():
        for number in range(count):
            if time.monotonic() > until_s:
                break
            on.daemon_kills += 1
            with on.oracle.engine_down():
                on.engine.kill()
                # Every second time a daemon with the other habit comes back.
                on.engine.live_restore = not on.engine.live_restore if number % 2 else on.engine.live_restore
                on.engine.start()
            on.ghosts_count += end_ghosts(on.engine)
            began = time.monotonic()
            until(on.controller.is_ready, what=f"ready\n{on.controller.log_tail()}", timeout_s=60)
            took.append(time.monotonic() - began)
            time.sleep(1.0)
    return took


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.docker.kill_cycles")
    parser.add_argument("--controller", type=int, default=100)
    parser.add_argument("--daemon", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--at-most-s", type=float, default=math.inf, help="for each of the two; then fewer kills")
    asked = parser.parse_args(arguments)
    if lacking := missing():
        print(f"no private engine here: {lacking}", file=sys.stderr)
        return 2
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="kc") as folder, stage(Path(folder)) as on:
        lives = kill_controller(
            on, asked.controller, random.Random(asked.seed), until_s=time.monotonic() + asked.at_most_s
        )
        after_controller = on.settle()
        daemons = kill_daemon(on, asked.daemon, until_s=time.monotonic() + asked.at_most_s)
        found = on.settle()
        restarts = on.restarts()
    figures = {
        "controller_kills": on.controller_kills,
        "daemon_kills": on.daemon_kills,
        "accepted_requests": on.accepted_count,
        "ghosts_of_the_engine": on.ghosts_count,
        "extra_restarts": len(restarts.extra),
        "forgotten_restarts": len(restarts.forgotten),
        "restarts": restarts.counted,
        "controller_ready_s_median": sorted(lives)[len(lives) // 2] if lives else None,
        "controller_ready_s_max": max(lives, default=None),
        "daemon_ready_s_max": max(daemons, default=None),
        "took_s": round(time.monotonic() - began, 1),
        "after_controller_kills": after_controller.figures(),
        **found.figures(),
    }
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    faults = [*after_controller.faults, *found.faults, *restarts.extra, *restarts.forgotten]
    for fault in faults[:40]:
        print(fault)
    print(
        f"kill cycles: {on.controller_kills} of the controller, {on.daemon_kills} of the daemon: "
        f"{len(found.lost)} lost, "
        f"{len(found.invented)} invented, {len(found.doubled)} doubled, {len(found.harmed)} harmed, "
        f"{len(found.wrong)} wrong, {len(restarts.extra)} extra and {len(restarts.forgotten)} forgotten of "
        f"{restarts.counted} restarts "
        f"({found.starts_count} starts, {found.ends_count} ends, {found.covered_count} covered by a gap row)"
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
