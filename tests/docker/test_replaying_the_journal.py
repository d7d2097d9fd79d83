"""The journal alone gives every session back: decided once more it comes to the same, and `why` needs nothing else."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from controller.settings import load
from tests.docker.agents import IDLE, Agent, environment_of
from tests.support.controller_process import ControllerProcess, until
from tests.support.private_engine import PrivateEngine
from tests.support.replaying import assert_replays, differences

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]

WATCHED = ("--label", "agentd.watch=true")
FAILS = ("/bin/sh", "-c", "echo its last words; exit 3")


@pytest.fixture(scope="module")
def lived(shared_engine: PrivateEngine, tmp_path_factory: pytest.TempPathFactory) -> ControllerProcess:
    """Several lives with something of everything in them, all over now."""
    controller = ControllerProcess(
        folder=tmp_path_factory.mktemp("lived"), engine_url=shared_engine.url, orphan_grace_s="0", stop_grace_s="1"
    )
    with controller:
        controller.create("crashes", *FAILS, restart={"mode": "always", "max_attempts": 3})
        controller.create("agent", *IDLE, network_policy="host_network", expect_connection=True)
        environment = environment_of(shared_engine, "agent")
        with Agent(environment["AGENTD_WS_URL"], environment["AGENTD_SESSION_TOKEN"]):
            controller.wait_for("agent", connected=True)
        controller.wait_for("agent", connected=False)
        for name in ("stopped", "restarted", "removed", "killed", "forever"):
            controller.create(name, *IDLE, restart={"mode": "on-failure"})
        controller.create("mayfly", *IDLE, ttl_s=3)
        controller.create("broken", *IDLE, wait=False, mounts=[{"source": "/no/such", "target": "/x"}])
        for verb, name in (("stop", "stopped"), ("restart", "restarted")):
            assert controller.request("POST", f"/v1/sessions/{name}/{verb}")[0] == 200
        assert controller.request("DELETE", "/v1/sessions/removed?force=true")[0] == 200
        shared_engine.run("--name", "watched", *WATCHED, "--", *IDLE)
        shared_engine.run("--name", "flaps", *WATCHED, "--restart", "on-failure:1", "--", *FAILS)
        controller.wait_for("watched", phase="running")
        shared_engine.cli("pause", "watched")
        shared_engine.cli("kill", "agentd-killed")
        controller.wait_for("killed", reason="killed_externally")
        controller.wait_for("mayfly", reason="expired")
        controller.wait_for("broken", reason="start_failed")
        controller.kill()
        shared_engine.cli("rm", "-f", "watched", "flaps")
        shared_engine.cli("stop", "-t", "1", "agentd-restarted")
        controller.start()
        controller.wait_for("crashes", attempt=2)
        assert controller.stop() == 0
        controller.start()
        until(lambda: controller.session("forever")["attempt"] == 2, what="what the shutdown stopped is started again")
        assert controller.stop() == 0
    shared_engine.remove_all()
    return controller


def test_every_session_comes_out_of_its_journal_as_it_stands(lived: ControllerProcess) -> None:
    assert_replays(lived)


def test_a_journal_that_was_tampered_with_does_not(lived: ControllerProcess, tmp_path: Path) -> None:
    # The comparison itself is worth something: one end less, and the session comes out another.
    copy = tmp_path / "controller.db"
    with closing(sqlite3.connect(lived.db)) as whole, closing(sqlite3.connect(copy)) as cut:
        whole.backup(cut)
        cut.execute("INSERT INTO meta (key, value) VALUES ('pruning', 1)")
        cut.execute("DELETE FROM journal WHERE session = 'stopped' AND json_extract(observation, '$.kind') = 'verb'")
        cut.commit()
    assert [name.split()[0] for name in differences(copy, load(lived.environment))] == ["stopped"]


def test_why_says_the_same_offline_from_the_file_alone(lived: ControllerProcess) -> None:
    for name, expected in {
        "killed": "somebody",
        "mayfly": "time",
        "broken": "/no/such",
    }.items():
        done = lived.ctl("why", name, "--db", str(lived.db))
        assert done.returncode == 0, done.stderr
        assert expected in done.stdout.lower(), done.stdout
    told = lived.ctl("why", "crashes", "--db", str(lived.db), "--format", "json")
    assert json.loads(told.stdout)
