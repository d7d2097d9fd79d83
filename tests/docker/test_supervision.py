"""Who is started again, and when: after the daemon's ends, at the end of its time, for ill health, and by label."""

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from controller.core.restart_policy import backoff_s
from tests.support.controller_process import ControllerProcess, Json, until
from tests.support.ledger_file import LedgerFile
from tests.support.private_engine import PrivateEngine, missing
from tests.support.replaying import assert_replays

pytestmark = [pytest.mark.docker, pytest.mark.timeout(400)]

OBEYS = ("/bin/sh", "-c", "trap 'exit 0' TERM; sleep 100000 & wait")
FIRST_BACKOFF_S = (10.0, 12.5)
SLACK_S = 8.0
"""For the daemon's start and this machine."""


def at(row: Json, field: str = "committed_at") -> float:
    return datetime.fromisoformat(str(row[field])).timestamp()


def moves(controller: ControllerProcess, name: str) -> list[Json]:
    return [row for row in controller.timeline(name) if row["from"] != row["to"]]


def told(controller: ControllerProcess, name: str, reason: str) -> list[Json]:
    return [row for row in controller.timeline(name) if row["reason"] == reason]


def backoff_kept(controller: ControllerProcess, name: str) -> float:
    """How long it was from the latest end of the session to the start after it."""
    ended = [row for row in moves(controller, name) if row["from"] == "running"][-1]
    begun = [row for row in moves(controller, name) if row["to"] == "running"][-1]
    return at(begun) - at(ended)


def started_at(engine: PrivateEngine, name: str) -> str:
    return engine.cli("inspect", "--format", "{{.Id}} {{.State.StartedAt}} {{.State.Running}}", f"agentd-{name}")


@dataclass(frozen=True, kw_only=True)
class Place:
    """An engine that may be stopped, killed and cut from its power, and its controller."""

    engine: PrivateEngine
    controller: ControllerProcess

    def stop(self) -> None:
        self.engine.restart()

    def kill(self) -> None:
        self.engine.restart(kill=True)

    def reboot(self) -> None:
        """The controller's host is the engine's: both are gone, and the controller is up first."""
        self.controller.kill()
        self.engine.power_off()
        self.controller.start(wait_ready=False)
        self.engine.start()
        until(self.controller.is_ready, what="ready after the reboot")


@pytest.fixture(scope="module", autouse=True)
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Place]]:
    """Two, with and without live-restore; what somebody stops there is surely theirs once half a minute has passed."""
    if lacking := missing():
        pytest.skip(f"no private engine here: {lacking}")
    with ExitStack() as stack:
        found = []
        for live_restore in (False, True):
            engine = stack.enter_context(PrivateEngine(live_restore=live_restore))
            folder = tmp_path_factory.mktemp("place")
            controller = ControllerProcess(folder=folder, engine_url=engine.url, orphan_grace_s="0")
            found.append(Place(engine=engine, controller=stack.enter_context(controller)))
            controller.create("down", *OBEYS, restart={"mode": "always"})
            engine.cli("stop", "-t", "5", "agentd-down")
        yield found


@pytest.fixture(scope="module")
def image(shared_engine: PrivateEngine) -> str:
    """One with a probe that fails from the start."""
    container = shared_engine.cli("create", "busybox:test")
    probe = 'HEALTHCHECK --interval=1s --timeout=5s --retries=1 CMD ["/bin/test", "-e", "/tmp/well"]'
    shared_engine.cli("commit", "--change", probe, container, "sickly:test")
    shared_engine.cli("rm", container)
    return "sickly:test"


@pytest.fixture(scope="module")
def controller(
    shared_engine: PrivateEngine, image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ControllerProcess]:
    """Everything that takes ten seconds is begun at once; each test waits for its own."""
    folder = tmp_path_factory.mktemp("one")
    watched = ("--label", "agentd.watch=true")
    with ControllerProcess(folder=folder, engine_url=shared_engine.url, orphan_grace_s="0") as process:
        spent = {"mode": "always", "max_attempts": 1, "window_s": 3600}
        process.create("spent", "/bin/sh", "-c", "exit 3", wait=False, restart=spent)
        process.create("slow", "/bin/sh", "-c", "exit 3", wait=False, restart={**spent, "slow_retry_s": 2})
        labelled = (*watched, "--label", "agentd.restart=on-failure", "--label", "agentd.max-attempts=1")
        shared_engine.run("--name", "labelled", *labelled, "--", "/bin/sh", "-c", "sleep 0.3; exit 4")
        both = (*watched, "--label", "agentd.restart=always", "--restart", "on-failure:2")
        shared_engine.run("--name", "engines-own", *both, "--", "/bin/sh", "-c", "sleep 0.2; exit 5")
        create = ("create", "sick", "--image", image, "--unhealthy-restart-s", "2", "--stop-grace-s", "1")
        done = process.ctl(*create, "--", *OBEYS)
        assert done.returncode == 0, done.stderr
        yield process
        assert_replays(process)
    shared_engine.remove_all()


def test_a_limit_that_can_never_be_reached_is_refused_with_the_arithmetic(controller: ControllerProcess) -> None:
    limits = ("--restart", "always", "--max-attempts", "5", "--restart-window", "60")
    done = controller.ctl("create", "never", "--image", "busybox:test", *limits)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "max_attempts 5 can never be reached in a window of 60 s" in line
    assert "(20 + 40 + 80 + 160 + 300) x 1.25 = 750 s" in line
    assert "never" not in controller.sessions()


def test_a_time_to_live_is_warned_of_kept_over_a_restart_and_then_over(controller: ControllerProcess) -> None:
    controller.create("mayfly", *OBEYS, restart={"mode": "always"}, ttl_s=5)
    created = controller.session("mayfly")
    assert at(created, "expires_at") - at(created, "created_at") == pytest.approx(5, abs=0.01)
    controller.kill()
    controller.start()
    assert controller.session("mayfly")["expires_at"] == created["expires_at"]
    ended = controller.wait_for("mayfly", phase="stopped")
    assert (ended["reason"], ended["desired"], ended["removed_at"]) == ("expired", "stopped", None)
    (warned,) = told(controller, "mayfly", "expiring")
    (asked,) = told(controller, "mayfly", "stop_requested")
    assert at(created, "expires_at") - 2.6 <= at(warned) <= at(created, "expires_at")
    assert asked["message"] == "its time is over"
    assert at(created, "expires_at") <= at(asked) <= at(created, "expires_at") + 3
    assert "mayfly" in controller.ctl("ps", "--all").stdout
    assert "its time" in controller.ctl("why", "mayfly").stdout.lower()


def test_a_time_to_live_can_be_renewed(controller: ControllerProcess) -> None:
    controller.create("renewed", *OBEYS, ttl_s=4)
    until(lambda: told(controller, "renewed", "expiring"), what="it is warned")
    status, renewed = controller.request("POST", "/v1/sessions/renewed/renew", {"ttl_s": 4})
    assert status == 200, renewed
    (row,) = told(controller, "renewed", "renewed")
    assert at(renewed, "expires_at") - at(row) == pytest.approx(4, abs=1)
    ended = controller.wait_for("renewed", phase="stopped")
    assert ended["reason"] == "expired"
    (asked,) = told(controller, "renewed", "stop_requested")
    assert at(asked) >= at(renewed, "expires_at")
    assert len(told(controller, "renewed", "expiring")) == 2


def test_what_stays_unhealthy_is_restarted_where_that_is_asked_for(controller: ControllerProcess) -> None:
    again = controller.wait_for("sick", phase="running", attempt=2)
    assert again["restarts"] == 1
    (sick, *_) = told(controller, "sick", "unhealthy")
    (stop, *_) = told(controller, "sick", "stop_requested")
    assert stop["message"] == "it stays unhealthy"
    assert stop["health_from"] == "unhealthy"
    assert 2 <= at(stop) - at(sick) <= 4
    low, high = FIRST_BACKOFF_S
    assert low - 1 <= backoff_kept(controller, "sick") <= high + SLACK_S
    assert controller.ctl("rm", "--force", "sick").returncode == 0


def test_a_spent_budget_is_told_once_and_a_start_clears_it(controller: ControllerProcess) -> None:
    ended = controller.wait_for("spent", phase="failed", reason="crash_looping")
    assert (ended["attempt"], ended["restarts"], ended["desired"]) == (2, 1, "stopped")
    assert len(told(controller, "spent", "crash_looping")) == 1
    assert controller.ctl("start", "spent", "--no-wait").returncode == 0
    again = controller.wait_for("spent", phase="backoff", attempt=3)
    assert at(again, "next_attempt_at") - at(again, "since") == pytest.approx(11.25, abs=1.75)
    assert controller.ctl("stop", "spent").returncode == 0
    rested = controller.session("spent")
    assert (rested["phase"], rested["next_attempt_at"]) == ("stopped", None)


def test_a_slow_retry_goes_on_after_the_budget_is_spent(controller: ControllerProcess) -> None:
    until(lambda: int(str(controller.session("slow")["attempt"])) >= 4, what="it is tried slowly", timeout_s=40)
    assert len(told(controller, "slow", "crash_looping")) == 1
    begun = [at(row) for row in moves(controller, "slow") if row["to"] == "running"]
    assert 2 <= begun[3] - begun[2] <= 4
    assert controller.ctl("stop", "slow").returncode == 0


def test_a_label_asks_for_restarts_of_somebody_elses_container(
    controller: ControllerProcess, shared_engine: PrivateEngine
) -> None:
    ended = controller.wait_for("labelled", phase="failed", reason="crash_looping")
    assert (ended["attempt"], ended["restarts"], ended["external"]) == (2, 1, True)
    low, high = FIRST_BACKOFF_S
    begun = [at(row) for row in moves(controller, "labelled") if row["to"] == "running"]
    assert low <= begun[1] - begun[0] <= high + SLACK_S
    assert shared_engine.cli("inspect", "--format", "{{.State.ExitCode}}", "labelled") == "4"


def test_what_the_engine_restarts_itself_is_recorded_and_never_doubled(
    controller: ControllerProcess, shared_engine: PrivateEngine
) -> None:
    ended = controller.wait_for("engines-own", phase="failed", desired="stopped")
    assert (ended["attempt"], ended["restarts"]) == (3, 0)
    begun = [row for row in moves(controller, "engines-own") if row["to"] == "running"]
    assert [row["actor"] for row in begun[1:]] == ["engine", "engine"]
    assert shared_engine.cli("inspect", "--format", "{{.RestartCount}}", "engines-own") == "2"
    actions = LedgerFile(controller.db).actions()
    assert ended["container_id"] not in [action["container"] for action in actions]


def test_the_schedule_of_a_crash_loop_is_exact_though_the_controller_is_killed_in_between(
    shared_engine: PrivateEngine, tmp_path: Path
) -> None:
    with ControllerProcess(folder=tmp_path, engine_url=shared_engine.url) as process:
        process.create("loop", "/bin/sh", "-c", "exit 3", wait=False, restart={"mode": "on-failure"})
        kills = random.Random(7)
        for step in range(2):
            process.wait_for("loop", phase="backoff", attempt=step + 1)
            ledger = LedgerFile(process.db)
            (session,) = (one for one in ledger.sessions() if one["name"] == "loop")
            granted = [row for row in ledger.transitions("loop") if row["to_phase"] == "backoff"]
            due = session["next_attempt_at"]
            assert due - granted[-1]["observed_at"] == round(backoff_s(session["id"], step) * 1e9)
            for _ in range(2):
                pause_until = time.monotonic() + kills.uniform(0, 3)
                until(lambda when=pause_until: time.monotonic() > when, what="a moment")  # type: ignore[misc]
                process.kill()
                process.start()
                assert [one["next_attempt_at"] for one in ledger.sessions() if one["name"] == "loop"] == [due]
            if step == 1:
                # That this start keeps its time, too, is shown in simulated time, where waiting costs nothing.
                break
            process.wait_for("loop", attempt=step + 2, timeout_s=40)
            asked = [row for row in LedgerFile(process.db).transitions("loop") if row["to_phase"] == "starting"]
            assert 0 <= asked[-1]["observed_at"] - due <= 2e9
        LedgerFile(process.db).check()
        assert_replays(process)
    shared_engine.remove_all()


def test_what_is_always_to_run_runs_after_every_end_of_the_daemon_and_what_was_stopped_does_not(
    places: list[Place],
) -> None:
    with ThreadPoolExecutor(len(places)) as threads:
        for done in [threads.submit(_outlives_every_end, place) for place in places]:
            done.result()


def _outlives_every_end(place: Place) -> None:
    engine, controller = place.engine, place.controller
    # A stop within half a minute before the daemon's end counts as the daemon's own.
    controller.wait_for("down", desired="stopped", timeout_s=35)
    names: list[str] = []
    for way, happens in {"kill": place.kill, "power": place.reboot, "stop": place.stop}.items():
        fresh = {f"{way}-always-1": "always", f"{way}-always-2": "always", f"{way}-on-failure": "on-failure"}
        for name, mode in fresh.items():
            controller.create(name, *OBEYS, restart={"mode": mode})
        names += fresh
        before = {name: started_at(engine, name) for name in fresh}
        happens()
        survives = engine.live_restore and way != "power"
        for name in fresh:
            expected = {"attempt": 1, "restarts": 0} if survives else {"attempt": 2, "restarts": 1}
            controller.wait_for(name, phase="running", reachable=True, timeout_s=60, **expected)
            assert (started_at(engine, name) == before[name]) is survives
            if not survives:
                low, high = FIRST_BACKOFF_S
                assert low - 1 <= backoff_kept(controller, name) <= high + SLACK_S
        # The controller may not yet be back at the engine, and says so.
        until(lambda: controller.request("POST", "/v1/reconcile?dry_run=false")[0] == 200, what="a whole sweep")

    for name in names:
        controller.wait_for(name, phase="running", timeout_s=60)
    down = controller.session("down")
    assert (down["phase"], down["reason"], down["attempt"]) == ("stopped", "stopped_externally", 1)
    containers = engine.cli("ps", "-a", "--format", "{{.Names}}").split()
    assert sorted(containers) == sorted(f"agentd-{name}" for name in ["down", *names])
    running = engine.cli("ps", "--format", "{{.Names}}").split()
    assert sorted(running) == sorted(f"agentd-{name}" for name in names)
    LedgerFile(controller.db).check()
    assert_replays(controller)
