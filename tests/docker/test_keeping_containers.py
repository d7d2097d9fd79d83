"""How long containers of sessions at rest stay on a real engine, and what stays of them afterwards."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.controller_process import ControllerProcess, Json, until
from tests.support.private_engine import PrivateEngine
from tests.support.replaying import assert_replays

pytestmark = [pytest.mark.docker, pytest.mark.timeout(120)]

KEEP_FAILED_S = 3.0
FAILS = ("/bin/sh", "-c", "echo last words; exit 3")
ENDS_WELL = ("/bin/sh", "-c", "echo farewell")


@pytest.fixture
def controller(engine: PrivateEngine, tmp_path: Path) -> Iterator[ControllerProcess]:
    process = ControllerProcess(
        folder=tmp_path,
        engine_url=engine.url,
        prefix="keeping",
        keep_failed_s=f"{KEEP_FAILED_S:g}",
        keep_stopped_s="0",
    )
    with process:
        yield process
        assert_replays(process)


@pytest.fixture(scope="module")
def image(shared_engine: PrivateEngine) -> str:
    """One whose containers have an anonymous volume each."""
    container = shared_engine.cli("create", "busybox:test")
    shared_engine.cli("commit", "--change", "VOLUME /data", container, "volumed:test")
    shared_engine.cli("rm", container)
    return "volumed:test"


def volumes(engine: PrivateEngine) -> set[str]:
    return set(engine.cli("volume", "ls", "-q").split())


def containers(engine: PrivateEngine) -> set[str]:
    return set(engine.cli("ps", "-a", "--no-trunc", "--format", "{{.ID}}").split())


def told(controller: ControllerProcess, name: str, reason: str) -> list[Json]:
    return [row for row in controller.timeline(name) if row["reason"] == reason and row["event"] == "transition"]


def pruned(controller: ControllerProcess, name: str, *, times: int = 1) -> Json:
    """The session, once its container has been removed that often."""
    until(lambda: len(told(controller, name, "container_pruned")) == times, what=f"the container of {name} is removed")
    return controller.wait_for(name, container_id=None)


def outlook(controller: ControllerProcess, name: str) -> str:
    return str(controller.get(f"/v1/sessions/{name}/why")["outlook"])


def at(row: Json) -> float:
    return datetime.fromisoformat(str(row["observed_at"])).timestamp()


def test_what_failed_is_kept_for_its_time_then_removed_with_its_volume_and_told_ever_after(
    engine: PrivateEngine, controller: ControllerProcess, image: str
) -> None:
    before = volumes(engine)
    controller.create("fails", *FAILS, image=image)
    failed = controller.wait_for("fails", phase="failed")
    assert failed["container_id"] in containers(engine)
    assert len(volumes(engine) - before) == 1
    until(lambda: "Its container is kept until" in outlook(controller, "fails"), what="the outlook says until when")
    failed = controller.session("fails")

    gone = pruned(controller, "fails")
    assert failed["container_id"] not in containers(engine)
    assert volumes(engine) == before
    unchanged = ("phase", "reason", "message", "exit", "attempt", "since", "finished_at", "removed_at")
    assert {key: gone[key] for key in unchanged} == {key: failed[key] for key in unchanged}
    (end,), (row,) = told(controller, "fails", "error_exit")[:1], told(controller, "fails", "container_pruned")
    assert at(row) - at(end) >= KEEP_FAILED_S
    assert (row["from"], row["to"], row["actor"]) == ("failed", "failed", "controller")

    assert controller.ctl("logs", "fails").stdout == "last words\n"
    why = controller.ctl("why", "fails").stdout
    assert "The controller removed its container at" in why
    assert "| last words" in why
    assert controller.ctl("ps").stdout.splitlines()[1].split()[:2] == ["fails", "failed"]
    actions = [line for line in controller.lines() if line.get("event") == "action" and line["session"] == "fails"]
    assert [line["action"] for line in actions][-1:] == ["remove done"]


def test_a_start_afterwards_makes_a_new_container_from_the_spec(
    engine: PrivateEngine, controller: ControllerProcess, image: str
) -> None:
    first = controller.create("again", "/bin/sh", "-c", "echo $AGENTD_SESSION; test -e /data/seen", image=image)
    pruned(controller, "again")
    controller.ctl("start", "again")
    second = controller.wait_for("again", attempt=2, phase="failed")
    assert second["container_id"] not in (None, first["container_id"])
    assert second["container_id"] in containers(engine)
    pruned(controller, "again", times=2)
    assert controller.ctl("logs", "again").stdout == "again\n"
    assert controller.ctl("rm", "again").returncode == 0


def test_what_the_engine_could_not_remove_whole_is_made_anew_by_a_start(engine: PrivateEngine, tmp_path: Path) -> None:
    with ControllerProcess(folder=tmp_path, engine_url=engine.url, prefix="dead") as controller:
        first = controller.create("broken", *FAILS)
        controller.wait_for("broken", phase="failed")
        container = str(first["container_id"])
        with held_by_somebody(engine, container):
            engine.cli("rm", container, check=False)
            assert engine.cli("inspect", "--format", "{{.State.Status}}", container).strip() == "dead"
            controller.request("POST", "/v1/sessions/broken/start?wait=false")
            until(lambda: told(controller, "broken", "start_failed"), what="it is told that it cannot be started")
        second = controller.wait_for("broken", attempt=2, phase="failed")
        assert second["container_id"] not in (None, container)
        assert container not in containers(engine)
        (end, *_) = told(controller, "broken", "error_exit")
        assert isinstance(end["exit"], dict)
        assert end["exit"]["exit_code"] == 3
        assert_replays(controller)


@contextmanager
def held_by_somebody(engine: PrivateEngine, container: str) -> Iterator[None]:
    """While a file of it cannot be deleted, the engine cannot remove it whole."""
    (inspected,) = json.loads(engine.cli("inspect", container))
    held = Path(inspected["GraphDriver"]["Data"]["UpperDir"]) / "held"
    held.touch()
    subprocess.run(["chattr", "+i", str(held)], check=True)
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", str(held)], check=True)


def test_what_ended_well_goes_at_once_and_what_it_said_stays(
    engine: PrivateEngine, controller: ControllerProcess, image: str
) -> None:
    before = volumes(engine)
    controller.create("well", *ENDS_WELL, image=image)
    gone = pruned(controller, "well")
    assert (gone["phase"], gone["reason"], gone["removed_at"]) == ("stopped", "exited", None)
    assert volumes(engine) == before
    assert controller.ctl("logs", "well").stdout == "farewell\n"


def test_a_watched_container_is_never_removed(engine: PrivateEngine, controller: ControllerProcess) -> None:
    watched = engine.cli("run", "-d", "--name", "kept-watched", "--label", "agentd.watch=true", "busybox:test", "false")
    controller.wait_for("kept-watched", phase="failed")
    controller.create("later", *FAILS)
    pruned(controller, "later")
    assert watched in containers(engine)
    assert controller.session("kept-watched")["container_id"] == watched
    engine.cli("rm", watched)


def test_the_time_runs_on_while_no_controller_is_there(engine: PrivateEngine, controller: ControllerProcess) -> None:
    kept = controller.create("meanwhile", *FAILS)
    controller.wait_for("meanwhile", phase="failed")
    controller.kill()
    assert kept["container_id"] in containers(engine)
    controller.start()
    began = datetime.now(UTC).timestamp()
    pruned(controller, "meanwhile")
    (end,), (row,) = told(controller, "meanwhile", "error_exit")[:1], told(controller, "meanwhile", "container_pruned")
    assert at(row) - at(end) >= KEEP_FAILED_S
    assert at(row) - began < KEEP_FAILED_S
