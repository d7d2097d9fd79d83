"""An image's labels are its containers' labels, too: whose a container is must not hang on what its image says."""

import json
from pathlib import Path

import pytest

from tests.support.controller_process import ControllerProcess, until
from tests.support.event_record import EventRecord
from tests.support.ledger_file import LedgerFile
from tests.support.private_engine import BUSYBOX_IMAGE, PrivateEngine

pytestmark = pytest.mark.docker

HEEDS_TERM = ("/bin/sh", "-c", "trap 'exit 0' TERM; sleep 100000 & wait")


def test_a_session_whose_image_is_built_from_ours_is_a_session_like_any_other(
    engine: PrivateEngine, tmp_path: Path
) -> None:
    base = engine.cli("create", BUSYBOX_IMAGE)
    engine.cli("commit", "--change", "LABEL agentd.role=controller", base, "from-ours:test")
    engine.cli("rm", base)
    with ControllerProcess(folder=tmp_path, engine_url=engine.url, orphan_grace_s="0") as controller:
        controller.create("worker", *HEEDS_TERM, image="from-ours:test")
        engine.cli("kill", "agentd-worker")
        controller.wait_for("worker", phase="stopped", reason="killed_externally")
        assert controller.ctl("rm", "worker").returncode == 0
        until(lambda: engine.cli("ps", "-aq") == "", what="its container is removed")
        LedgerFile(controller.db).check()


def test_what_somebody_runs_from_an_image_of_a_sessions_container_is_left_alone(
    engine: PrivateEngine, tmp_path: Path
) -> None:
    with (
        EventRecord(engine) as record,
        ControllerProcess(folder=tmp_path, engine_url=engine.url, orphan_grace_s="0") as controller,
    ):
        controller.create("worker", *HEEDS_TERM)
        engine.cli("commit", "agentd-worker", "snap:test")
        engine.cli("rm", "-f", "agentd-worker")
        controller.wait_for("worker", reason="removed_externally")
        engine.cli("run", "-d", "--name", "nifty_hopper", "--network", "none", "snap:test")
        for command in (("reconcile",), ("orphans", "--apply")):
            done = controller.ctl("--format", "json", *command)
            (line,) = map(json.loads, done.stdout.splitlines())
            assert (line["name"], line["finding"], line["action"]) == ("nifty_hopper", "spared", "none")
            assert "a copy of it, or renamed" in line["reason"]
        controller.create("worker", *HEEDS_TERM)
        assert controller.ctl("rm", "--force", "worker").returncode == 0
        assert engine.cli("ps", "--format", "{{.Names}}") == "nifty_hopper"
        assert record.so_far("kill", "stop", "die", "destroy", container="nifty_hopper") == []

        assert controller.ctl("adopt", "nifty_hopper").returncode == 0
        LedgerFile(controller.db).check()
