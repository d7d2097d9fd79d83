"""A container that has run and cannot be started again: its program deletes what it was started with."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.stage import Stage
from tests.support.controller_process import ControllerProcess
from tests.support.private_engine import BUSYBOX_IMAGE, PrivateEngine
from tests.support.replaying import assert_replays

pytestmark = [pytest.mark.docker, pytest.mark.timeout(120)]

ONLY_ONCE = ("/bin/sh", "-c", "echo once; rm /bin/sh; exit 3")


@pytest.fixture
def controller(engine: PrivateEngine, tmp_path: Path) -> Iterator[ControllerProcess]:
    with ControllerProcess(folder=tmp_path, engine_url=engine.url, prefix="spoilt") as process:
        yield process
        assert_replays(process)


def test_each_refused_start_is_an_attempt_and_none_is_in_the_way_of_the_next_or_of_a_removal(
    engine: PrivateEngine, controller: ControllerProcess
) -> None:
    # With an init, as ours have, such a start is a run that ends with 127; without, it is refused.
    engine.cli("run", "--name", "once", "--network", "none", BUSYBOX_IMAGE, *ONLY_ONCE, check=False)
    assert controller.ctl("adopt", "once").returncode == 0
    ran = controller.wait_for("once", phase="failed", reason="error_exit")
    for attempt in (2, 3, 4):
        refused = controller.ctl("start", "once")
        assert refused.returncode != 0
        assert "no such file" in refused.stderr
        controller.wait_for("once", phase="failed", reason="start_failed", attempt=attempt)
    first = [row for row in controller.timeline("once") if row["attempt"] == 1 and row["exit"]]
    assert {str(row["message"]).split(";")[0] for row in first} == {"Exit code 3"}
    assert "no such file" in controller.ctl("why", "once").stdout
    controller.ctl("rm", "once")
    assert ran["container_id"] not in engine.cli("ps", "-a", "--no-trunc", "--format", "{{.ID}}").split()


def test_what_nobody_saw_run_has_no_code_of_a_start_that_failed_since(engine: PrivateEngine, tmp_path: Path) -> None:
    labels = ("--label", "agentd.watch=true", "--network", "none")
    engine.cli("run", "--name", "unseen", *labels, BUSYBOX_IMAGE, *ONLY_ONCE, check=False)
    engine.cli("start", "unseen", check=False)
    shown = json.loads(engine.cli("inspect", "unseen"))[0]["State"]
    assert (shown["ExitCode"], bool(shown["Error"])) == (127, True)
    Stage(engine).forget_events()
    with ControllerProcess(folder=tmp_path, engine_url=engine.url, prefix="spoilt") as controller:
        found = controller.wait_for("unseen", phase="failed", reason="start_failed")
        assert isinstance(found["exit"], dict)
        assert found["exit"]["exit_code"] is None
        assert "no such file" in found["exit"]["error"]
        assert_replays(controller)
