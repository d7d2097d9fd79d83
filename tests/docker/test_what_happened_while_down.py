"""A controller was killed, things happened, and it is started again: the sketch's own test plan, and its orphans."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.stage import Stage
from tests.docker.told import transitions
from tests.support.controller_process import ControllerProcess, Json
from tests.support.ledger_file import LedgerFile
from tests.support.private_engine import BUSYBOX_IMAGE, PrivateEngine

pytestmark = pytest.mark.docker

SAYS_AND_WAITS = "echo starting; read x < /gates/$GATE; echo last words"
RUNS_ON = "trap 'echo asked to stop; exit 4' TERM; echo at work; sleep 1000 & wait"
ORPHANED = ("--label", "agentd.prefix=agentd", "--network", "none")


@pytest.fixture
def controller(engine: PrivateEngine, tmp_path: Path) -> Iterator[ControllerProcess]:
    """It runs. No age protects an orphan from it."""
    with ControllerProcess(folder=tmp_path, engine_url=engine.url, orphan_grace_s="0") as controller:
        yield controller


@pytest.fixture
def stage(engine: PrivateEngine) -> Stage:
    return Stage(engine)


def place(stage: Stage, controller: ControllerProcess, name: str, script: str) -> Json:
    """A session of ours that waits at its gate."""
    stage.gate(f"{controller.port}-{name}")
    return controller.create(
        name,
        "/bin/sh",
        "-c",
        script,
        mounts=[{"source": str(stage.gates), "target": "/gates"}],
        env={"GATE": f"{controller.port}-{name}"},
    )


def let_go(stage: Stage, controller: ControllerProcess, name: str) -> None:
    """It goes on, and ends."""
    stage.release(f"{controller.port}-{name}")
    stage.await_state(f"agentd-{name}", "0 exited")


def orphan(stage: Stage, name: str, script: str, *options: str) -> str:
    """A container with our prefix that no record knows. Gives its id."""
    labels = ("--label", f"agentd.session=agentd-{name}", "--label", f"agentd.agent-id={name}")
    words = (f"agentd-{name}", *ORPHANED, *labels, *options, BUSYBOX_IMAGE, "/bin/sh", "-c", script)
    return stage.docker("run", "-d", "--name", *words)


def exists(stage: Stage, container: str) -> bool:
    return bool(stage.docker("ps", "-aq", "--no-trunc", "--filter", f"id={container}"))


def seq_of(rows: list[Json], reason: str, *, kind: str = "transition", action: str = "") -> int:
    """The number of the first row of that kind and reason."""
    fits = [row for row in rows if row["event"] == kind and row["reason"] == reason and row["action"] == action]
    assert fits, f"no {kind} {reason} {action} in {rows}"
    return int(str(fits[0]["seq"]))


def test_what_exited_0_is_stopped_and_what_exited_3_is_failed(stage: Stage, controller: ControllerProcess) -> None:
    for name, code in (("ends-well", 0), ("ends-badly", 3), ("runs-on", 0)):
        place(stage, controller, name, f"{SAYS_AND_WAITS}; exit {code}")
    container = controller.session("runs-on")["container_id"]
    controller.kill()
    let_go(stage, controller, "ends-well")
    let_go(stage, controller, "ends-badly")
    controller.start()
    well = controller.wait_for("ends-well", phase="stopped", status="stopped", reason="exited")
    badly = controller.wait_for("ends-badly", phase="failed", status="failed", reason="error_exit")
    assert isinstance(well["exit"], dict)
    assert isinstance(badly["exit"], dict)
    assert (well["exit"]["exit_code"], badly["exit"]["exit_code"]) == (0, 3)
    on = controller.session("runs-on")
    assert (on["phase"], on["attempt"], on["container_id"]) == ("running", 1, container)


def test_what_failed_is_not_reaped_and_its_last_lines_outlive_its_container(
    stage: Stage, controller: ControllerProcess
) -> None:
    place(stage, controller, "ends-badly", f"{SAYS_AND_WAITS}; exit 3")
    controller.kill()
    let_go(stage, controller, "ends-badly")
    controller.start()
    controller.wait_for("ends-badly", phase="failed")
    controller.kill()
    controller.start()
    assert controller.request("POST", "/v1/reconcile")[0] == 200
    assert stage.docker("inspect", "--format", "{{.State.ExitCode}}", "agentd-ends-badly") == "3"
    assert controller.session("ends-badly")["phase"] == "failed"
    stage.docker("rm", "agentd-ends-badly")
    assert controller.request("POST", "/v1/reconcile")[0] == 200
    assert controller.ctl("logs", "ends-badly").stdout.splitlines() == ["starting", "last words"]
    why = controller.ctl("why", "ends-badly").stdout
    assert "exit code 3" in why
    assert "last words" in why


def test_an_exited_orphan_is_removed_once_its_exit_and_last_lines_are_kept(
    stage: Stage, controller: ControllerProcess
) -> None:
    controller.kill()
    container = orphan(stage, "ghost", "echo first; echo last; exit 3", "-v", "/scratch")
    stage.await_state("agentd-ghost", "0 exited")
    assert stage.docker("volume", "ls", "-q")
    controller.start()
    ghost = controller.wait_for("ghost", reason="orphan_removed")
    assert not exists(stage, container)
    assert not stage.docker("volume", "ls", "-q"), "its anonymous volume went with it"
    assert isinstance(ghost["exit"], dict)
    assert (ghost["exit"]["exit_code"], ghost["exit"]["verdict"]) == (3, "error_exit")
    rows = controller.timeline("ghost")
    assert seq_of(rows, "orphan_found") < seq_of(rows, "error_exit") < seq_of(rows, "orphan_removed")
    (kept,) = LedgerFile(controller.db).evidence("ghost")
    (removal,) = LedgerFile(controller.db).actions("remove")
    assert kept["tail"]["lines"] == ["first", "last"]
    assert kept["kept_at"] <= removal["decided_at"]
    assert controller.ctl("logs", "ghost").stdout.splitlines() == ["first", "last"]


def test_a_running_orphan_is_stopped_in_its_own_time_and_then_removed(
    stage: Stage, controller: ControllerProcess
) -> None:
    controller_id = LedgerFile(controller.db).controller_id()
    controller.kill()
    container = orphan(stage, "ghost", RUNS_ON, "--label", f"agentd.controller={controller_id}")
    controller.start()
    ghost = controller.wait_for("ghost", reason="orphan_removed")
    assert not exists(stage, container)
    assert isinstance(ghost["exit"], dict)
    assert (ghost["exit"]["exit_code"], ghost["exit"]["verdict"]) == (4, "stopped_in_time")
    assert controller.ctl("logs", "ghost").stdout.splitlines() == ["at work", "asked to stop"]
    phases = [row["to"] for row in transitions(controller, "ghost")]
    assert phases.index("running") < phases.index("stopping") < phases.index("stopped")


def test_what_is_foreign_or_only_watched_is_no_orphan(stage: Stage, controller: ControllerProcess) -> None:
    controller.kill()
    foreign = orphan(stage, "theirs", RUNS_ON, "--label", "agentd.controller=somebody-else")
    watched = orphan(stage, "watched", RUNS_ON, "--label", "agentd.watch=true")
    itself = orphan(stage, "controller", RUNS_ON, "--label", "agentd.role=controller")
    controller.start()
    assert controller.request("POST", "/v1/reconcile")[0] == 200
    for container in (foreign, watched, itself):
        assert stage.docker("inspect", "--format", "{{.State.Status}}", container) == "running"
    assert set(controller.sessions()) == {"watched"}
