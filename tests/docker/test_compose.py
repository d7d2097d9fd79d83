"""`docker compose up` as a user runs it: the demo's story, every group a socket can have, an orderly stop."""

import json
import os
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.support.compose_stage import ComposeStage, compose_stage, until, what_is_missing

pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(what_is_missing()), reason=what_is_missing() or "everything is there"),
]

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(3600)"
)


@pytest.fixture(scope="module")
def built() -> Iterator[ComposeStage]:
    with compose_stage() as stage:
        yield stage


@pytest.fixture
def stage(built: ComposeStage) -> Iterator[ComposeStage]:
    os.chown(built.socket, 0, 0)
    yield built
    built.clear()


def log(stage: ComposeStage, *, event: str) -> list[dict[str, Any]]:
    """The controller's log lines of one kind; a line that is not JSON fails the test."""
    printed = stage.docker("logs", stage.compose("ps", "--all", "--quiet", "controller").strip()).splitlines()
    return [line for line in map(json.loads, printed) if line["event"] == event]


def key(row: dict[str, Any]) -> tuple[int, str, str, str]:
    return row["seq"], row["to"], row["health_to"], row["reason"]


def start(stage: ComposeStage, **variables: str) -> None:
    stage.compose("up", "--detach", "--no-build", "controller", environment=variables)
    await_ready(stage)


def await_ready(stage: ComposeStage) -> None:
    """The image's own probe, asked at once instead of at the engine's next round."""
    until(lambda: stage.agentdctl("healthcheck", check=False).strip() == "ready", what="the controller is ready")


def phase(stage: ComposeStage, name: str) -> str:
    return {session["name"]: str(session["phase"]) for session in stage.items("ps", "--all")}[name]


def ended(stage: ComposeStage, name: str) -> bool:
    return phase(stage, name) in ("stopped", "failed")


def test_the_demo_tells_its_story_in_the_log_and_the_command_line_tells_the_same(stage: ComposeStage) -> None:
    stage.compose("up", "--detach", "--no-build")

    def story() -> set[tuple[str, str]]:
        return {(line["session"], line["reason"]) for line in log(stage, event="transition")}

    expected = {
        ("agentd-steady-1", "healthy"),
        ("agentd-crasher-1", "error_exit"),
        ("agentd-sickly-1", "unhealthy"),
    }
    until(lambda: expected <= story(), what=f"{expected} in the log", timeout_s=60)

    controller = stage.container("controller")
    assert controller["State"]["Health"]["Status"] == "healthy"
    assert controller["Config"]["Healthcheck"]["StartPeriod"] > 0
    image = stage.inspect("agentd-controller")
    assert image["Config"]["Healthcheck"]["StartPeriod"] > 0
    assert image["Config"]["Labels"]["agentd.role"] == "controller"

    sessions = {session["name"]: session for session in stage.items("ps", "--all")}
    assert set(sessions) == {"agentd-steady-1", "agentd-crasher-1", "agentd-sickly-1"}
    assert all(session["external"] for session in sessions.values())
    assert (sessions["agentd-steady-1"]["phase"], sessions["agentd-steady-1"]["health"]) == ("running", "healthy")
    assert (sessions["agentd-sickly-1"]["phase"], sessions["agentd-sickly-1"]["health"]) == ("running", "unhealthy")
    assert sessions["agentd-crasher-1"]["phase"] == "failed"
    assert sessions["agentd-crasher-1"]["exit"]["exit_code"] == 3

    printed = log(stage, event="transition")
    for name in sessions:
        told = [row for row in stage.items("timeline", name) if row["event"] == "transition"]
        assert [key(row) for row in told] == [key(line) for line in printed if line["session"] == name]


@pytest.mark.parametrize("gid", [0, 998, 4711])
def test_with_nothing_set_it_works_whatever_group_the_socket_has(stage: ComposeStage, gid: int) -> None:
    os.chown(stage.socket, 0, gid)

    start(stage)

    controller = stage.container("controller")
    assert controller["HostConfig"]["CapDrop"] == ["ALL"]
    assert controller["HostConfig"]["ReadonlyRootfs"]
    assert stage.compose("exec", "-T", "controller", "id", "-u").strip() == "0"
    assert stage.items("ps") == []


@pytest.mark.parametrize("gid", [0, 998, 4711])
def test_with_the_sockets_group_given_it_runs_as_an_ordinary_user(stage: ComposeStage, gid: int) -> None:
    os.chown(stage.socket, 0, gid)

    start(stage, AGENTD_SOCKET_GID=str(gid))

    assert stage.compose("exec", "-T", "controller", "id", "-u").strip() == "10001"
    assert stage.items("ps") == []


def test_stop_ends_a_session_that_ignores_sigterm_and_exits_0(stage: ComposeStage) -> None:
    start(stage, AGENTD_SHUTDOWN_LEAVE_RUNNING="false", AGENTD_STOP_GRACE_S="3")
    stage.agentdctl("create", "stubborn", "--image", "python:3.13-slim", "--", "python", "-uc", STUBBORN)
    assert phase(stage, "stubborn") == "running"

    stage.compose("stop", "controller")

    assert stage.container("controller")["State"]["ExitCode"] == 0
    assert not stage.inspect("agentd-stubborn")["State"]["Running"]
    stage.compose("start", "controller")
    await_ready(stage)
    rows = stage.items("timeline", "stubborn")
    assert [row["attempt"] for row in rows if row["to"] == "running" and row["from"] != "running"] == [1]
    ended = [row for row in rows if row["to"] == "stopped" and row["from"] != "stopped"]
    assert [row["reason"] for row in ended] == ["controller_shutdown"]
    assert phase(stage, "stubborn") == "stopped"


def test_stop_leaves_sessions_running_unless_told_otherwise_and_the_next_start_adopts_them(stage: ComposeStage) -> None:
    start(stage)
    stage.agentdctl("create", "stubborn", "--image", "python:3.13-slim", "--", "python", "-uc", STUBBORN)
    before = stage.inspect("agentd-stubborn")

    stage.compose("stop", "controller")

    assert stage.container("controller")["State"]["ExitCode"] == 0
    stage.compose("start", "controller")
    await_ready(stage)
    after = stage.inspect("agentd-stubborn")
    assert (after["Id"], after["State"]["StartedAt"]) == (before["Id"], before["State"]["StartedAt"])
    assert phase(stage, "stubborn") == "running"
    assert not [row for row in stage.items("timeline", "stubborn") if row["to"] in ("failed", "stopped")]


def test_a_session_reaches_the_controller_by_its_name_on_both_networks(stage: ComposeStage) -> None:
    start(stage)
    ask = "import urllib.request as u; print(u.urlopen('http://controller:7006/livez', timeout=5).status)"
    for policy in ("internet", "isolated"):
        stage.agentdctl(
            "create", policy, "--image", "python:3.13-slim", "--network-policy", policy, "--", "python", "-c", ask
        )
        until(partial(ended, stage, policy), what=f"{policy} has ended")
        assert phase(stage, policy) == "stopped", stage.agentdctl("logs", policy)
        assert stage.agentdctl("logs", policy).strip() == "200"


def test_the_port_is_published_on_loopback_and_asks_for_the_token(stage: ComposeStage) -> None:
    start(stage)
    token = stage.compose("exec", "-T", "controller", "cat", "/data/controller.db.token").strip()

    assert stage.container("controller")["NetworkSettings"]["Ports"]["7006/tcp"] == [
        {"HostIp": "127.0.0.1", "HostPort": "7006"}
    ]
    assert stage.ask_on_the_host("/livez") == 200
    assert stage.ask_on_the_host("/v1/sessions") == 401
    assert stage.ask_on_the_host("/v1/sessions", token=token) == 200
