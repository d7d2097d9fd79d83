"""An image's labels are its containers' labels, too: whose a container is must not hang on what its image says."""

from pathlib import Path

import pytest

from tests.support.controller_process import ControllerProcess, until
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
