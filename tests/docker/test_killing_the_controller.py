"""`kill -9` of the controller again and again, in the middle of everything: nobody is harmed, nothing is done twice.

The engine's own events are held against the intents in the ledger: what has no intent must not have happened, and one
intent must not have happened twice. AGENTD_TEST_KILLS asks for more kills than the ten of an ordinary run.
"""

import contextlib
import os
import random
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from tests.support.controller_process import ControllerProcess, until
from tests.support.event_record import EventRecord, Happened
from tests.support.fault_proxy import Fault, HalfOpen, Hold, Request
from tests.support.ledger_file import Body, LedgerFile
from tests.support.private_engine import PrivateEngine
from tests.support.proxy_thread import proxy_before

pytestmark = pytest.mark.docker

KILLS_COUNT: Final = int(os.environ.get("AGENTD_TEST_KILLS", "10"))
SESSIONS_COUNT: Final = 30
REQUESTS_PER_LIFE: Final = 12
"""Accepted ones, before the next kill."""
HEEDS_TERM = ("/bin/sh", "-c", "trap 'exit 0' TERM; sleep 100000 & wait")
SLOW_TO_STOP = ("/bin/sh", "-c", "trap 'sleep 0.3; exit 0' TERM; sleep 100000 & wait; wait")
SHORT = ("/bin/sh", "-c", "sleep 1")
SLACK_NS: Final = 5_000_000
"""Two readings of one clock, taken by two programs."""


class Load:
    """People who start, stop, restart and create without pause, whether a controller answers or not."""

    def __init__(self, controller: ControllerProcess, names: list[str]) -> None:
        self.accepted = 0
        self.created: set[str] = set()
        """Sessions whose creation was acknowledged."""
        self.asked: set[str] = set()
        self._controller = controller
        self._names = names
        self._ended = threading.Event()

    def run(self, number: int) -> None:
        """One of them."""
        dice = random.Random(number)
        while not self._ended.is_set():
            with contextlib.suppress(OSError, ValueError):
                if number == 0 and dice.random() < 0.2:
                    self._create(f"new-{len(self.asked)}")
                else:
                    self._verb(dice)
            # A pace, not a wait: without it two processors do nothing but refuse.
            self._ended.wait(0.01)

    def until_accepted(self, count: int) -> None:
        """Wait until so many requests were accepted in all."""
        until(lambda: self.accepted >= count, what=f"{count} requests are accepted", timeout_s=60)

    def end(self) -> None:
        """All go home."""
        self._ended.set()

    def _verb(self, dice: random.Random) -> None:
        verb = dice.choice(("start", "stop", "restart", "restart"))
        wait = dice.choice(("true", "false", "false"))
        name = dice.choice(self._names)
        status, _ = self._controller.request("POST", f"/v1/sessions/{name}/{verb}?wait={wait}", timeout_s=10)
        self.accepted += status in (200, 202)

    def _create(self, name: str) -> None:
        self.asked.add(name)
        spec = {"image": "busybox:test", "command": list(HEEDS_TERM)}
        body = {"name": name, "spec": spec}
        status, _ = self._controller.request("POST", "/v1/sessions?wait=false", body, timeout_s=10)
        if status in (200, 201, 202):
            self.created.add(name)
            self.accepted += 1


@contextlib.contextmanager
def under_load(controller: ControllerProcess, names: list[str]) -> Iterator[Load]:
    load = Load(controller, names)
    with ThreadPoolExecutor(3) as threads:
        busy = [threads.submit(load.run, number) for number in range(3)]
        try:
            yield load
        finally:
            load.end()
    for one in busy:
        one.result()


@pytest.mark.timeout(120 + 12 * KILLS_COUNT)
def test_whenever_the_controller_is_killed_no_container_is_harmed_lost_or_doubled(
    engine: PrivateEngine, tmp_path: Path
) -> None:
    watched = engine.run("--name", "watched", "--label", "agentd.watch=true", "--", *HEEDS_TERM)
    stranger = engine.run("--name", "stranger", "--", *HEEDS_TERM)
    left_alone = [f"quiet-{number}" for number in range(SESSIONS_COUNT // 3)]
    driven = [f"busy-{number}" for number in range(SESSIONS_COUNT - len(left_alone))]
    with (
        EventRecord(engine) as record,
        ControllerProcess(folder=tmp_path, engine_url=engine.url, orphan_grace_s="0", stop_grace_s="5") as controller,
    ):
        with ThreadPoolExecutor(6) as threads:
            list(threads.map(lambda name: controller.create(name, *HEEDS_TERM), left_alone))
            shapes = (HEEDS_TERM, SLOW_TO_STOP, SHORT)
            list(threads.map(lambda at: controller.create(driven[at], *shapes[at % 3], wait=False), range(len(driven))))
        quiet_before = {
            name: engine.cli("inspect", "-f", "{{.State.StartedAt}}", f"agentd-{name}") for name in left_alone
        }

        with under_load(controller, driven) as load:
            for _ in range(KILLS_COUNT):
                enough = load.accepted + REQUESTS_PER_LIFE
                load.until_accepted(enough)
                controller.kill()
                controller.start(wait_ready=False)
        until(controller.is_ready, what="the last life is ready", timeout_s=60)
        controller.reconcile()
        ledger = LedgerFile(controller.db)
        until(lambda: not _open_actions(ledger), what="every action has an outcome", timeout_s=90)
        controller.reconcile()
        until(lambda: _agree(controller, engine), what="ledger and engine agree", timeout_s=60)
        happened = record.so_far()

        ledger.check()
        for container in (watched, stranger):
            assert [one.action for one in happened if one.container == container] == []
            assert engine.cli("inspect", "-f", "{{.State.Running}}", container) == "true"
        quiet_after = {
            name: engine.cli("inspect", "-f", "{{.State.StartedAt}}", f"agentd-{name}") for name in left_alone
        }
        assert quiet_after == quiet_before
        told = controller.sessions()
        assert set(left_alone) | set(driven) | load.created <= set(told)
        assert set(told) <= {"watched", *left_alone, *driven, *load.asked}
        assert _nothing_without_an_intent(happened, ledger) == []
        assert _starts_without_an_action_of_their_own(happened, ledger) == []
        created = Counter(one.name for one in happened if one.action == "create")
        assert set(created.values()) == {1}
        assert not [one for one in happened if one.action == "destroy"]
        ours = engine.cli(
            "ps", "-a", "--filter", "label=agentd.prefix=agentd", "--format", '{{.Label "agentd.session"}}'
        )
        assert sorted(ours.split()) == sorted(name for name in told if name != "watched")


def _open_actions(ledger: LedgerFile) -> list[Body]:
    return [action for action in ledger.actions() if action["state"] == "open"]


def _agree(controller: ControllerProcess, engine: PrivateEngine) -> bool:
    rows = engine.cli("ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.State}}").splitlines()
    engine_says = dict(row.split() for row in rows)
    expected = {"running": "running", "stopped": "exited", "failed": "exited"}
    sessions = controller.sessions().values()
    return all(engine_says.get(str(one["container_id"])) == expected.get(str(one["phase"])) for one in sessions)


def _nothing_without_an_intent(happened: list[Happened], ledger: LedgerFile) -> list[Happened]:
    """Kills and stops that no committed stop of that container asked for."""
    stops = ledger.actions("stop")

    def was_intended(one: Happened) -> bool:
        return any(
            stop["container"] == one.container and stop["decided_at"] <= one.at + SLACK_NS and one.at <= stop["drop_at"]
            for stop in stops
        )

    return [one for one in happened if one.action in ("kill", "stop") and not was_intended(one)]


def _starts_without_an_action_of_their_own(happened: list[Happened], ledger: LedgerFile) -> list[str]:
    """Containers that were started more often than anybody asked for."""
    asked = Counter(action["container"] for action in ledger.actions("start"))
    done = Counter(one.container for one in happened if one.action == "start")
    return [container for container, count in done.items() if count > asked[container]]


# --- between a start that was sent and its outcome -----------------------------------------------------------------


@pytest.mark.parametrize("before", [0, 1], ids=["its first start", "a later start"])
@pytest.mark.parametrize(
    "case", ["the reply is lost, and it runs", "the reply is lost, and it is over", "never sent on"]
)
def test_a_job_whose_start_was_sent_when_the_controller_died_runs_exactly_once(
    engine: PrivateEngine, tmp_path: Path, case: str, before: int
) -> None:
    counted = tmp_path / "counted"
    counted.mkdir()
    job = "echo ran >> /out/runs; sleep 1; echo over >> /out/ends"

    def count(file: str) -> int:
        path = counted / file
        return path.read_text().count("\n") if path.exists() else 0

    hold = Hold()
    fault: Fault = hold if case == "never sent on" else HalfOpen()

    def on_start(request: Request) -> Fault | None:
        return fault if request.is_("POST", "/containers/[^/]+/start") else None

    with (
        EventRecord(engine) as record,
        proxy_before(engine) as between,
        ControllerProcess(folder=tmp_path / "controller", engine_url=between.url) as controller,
    ):
        mounts = [{"source": str(counted), "target": "/out"}]
        if before:
            controller.create("job", "/bin/sh", "-c", job, mounts=mounts)
            controller.wait_for("job", phase="stopped")
        between.proxy.rule = on_start
        if before:
            controller.request("POST", "/v1/sessions/job/start?wait=false")
        else:
            controller.create("job", "/bin/sh", "-c", job, mounts=mounts, wait=False)
        if case == "never sent on":
            until(lambda: hold.held == 1, what="the start is on its way")
        elif case == "the reply is lost, and it runs":
            until(lambda: count("runs") == before + 1, what="the job has begun")
        else:
            until(lambda: count("ends") == before + 1, what="the job is over")
        controller.kill()
        between.proxy.rule = None
        assert [action["state"] for action in LedgerFile(controller.db).actions("start")][-1] == "open"

        controller.start()
        told = controller.wait_for("job", phase="stopped", attempt=before + 1)
        controller.reconcile()
        assert (told["reason"], count("runs"), count("ends")) == ("exited", before + 1, before + 1)
        assert len(record.so_far("start", container="agentd-job")) == before + 1
        ledger = LedgerFile(controller.db)
        ledger.check()
        assert len(ledger.actions("start")) == before + 1
        assert _open_actions(ledger) == []
        between.release(hold)
