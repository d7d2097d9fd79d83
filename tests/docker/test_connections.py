"""Agents' connections with real containers: every network, every place of the controller, its restarts, and absence."""

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from ipaddress import ip_network
from pathlib import Path

import pytest

from tests.docker.agents import AGENT, IDLE, Agent, connect, environment_of
from tests.support.controller_process import ControllerProcess, Json, until
from tests.support.ledger_file import LedgerFile
from tests.support.private_engine import PrivateEngine
from tests.support.replaying import assert_replays

pytestmark = pytest.mark.docker

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "told-to-nobody"
GRACE_S = 5.0
SESSIONS_COUNT = 50
PYTHON = [path for path in (sys.prefix, sys.base_prefix, "/usr", "/lib", "/lib64") if Path(path).exists()]
"""What a container needs of this machine to run this Python on it, since no image with one can be taken for granted."""


def expect(controller: ControllerProcess, name: str, policy: str, *command: str) -> None:
    controller.create(name, *(command or AGENT), network_policy=policy, expect_connection=True, stop_grace_s=1)


@contextmanager
def in_a_container(engine: PrivateEngine, folder: Path, *options: str, **settings: str) -> Iterator[ControllerProcess]:
    """The controller in a container, set up as the image does. The process that is returned only asks it."""
    asking = ControllerProcess(folder=folder, engine_url=engine.url, token=TOKEN)
    asking.url = "http://127.0.0.1:7006"
    environment = {
        "DOCKER_HOST": "unix:///run/docker.sock",
        "AGENTD_DB": "/tmp/controller.db",
        "AGENTD_BIND": "0.0.0.0",
        "AGENTD_AGENT_URL": "ws://controller:7006",
        "AGENTD_TOKEN": TOKEN,
        "PYTHONDONTWRITEBYTECODE": "1",
        **{f"AGENTD_{name.upper()}": value for name, value in settings.items()},
    }
    engine.run(
        *("--name", "controller", "--label", "agentd.role=controller", "-w", str(ROOT)),
        *("-v", f"{engine.socket}:/run/docker.sock", "-v", f"{ROOT}:{ROOT}:ro"),
        *(word for path in PYTHON for word in ("-v", f"{Path(path).resolve()}:{path}:ro")),
        *(word for name, value in environment.items() for word in ("-e", f"{name}={value}")),
        *options,
        "--",
        *(sys.executable, "-m", "controller", "run"),
    )
    try:
        until(asking.is_ready, what="the controller in its container is ready")
    except AssertionError as error:
        raise AssertionError(f"{error}\n{engine.cli('logs', 'controller')}") from None
    yield asking


def test_a_controller_on_the_host_is_reached_from_every_network(engine: PrivateEngine, tmp_path: Path) -> None:
    with (
        engine.network(),
        ControllerProcess(folder=tmp_path, engine_url=engine.url, bind="0.0.0.0", token=TOKEN) as controller,
    ):
        expect(controller, "bridge", "internet")
        engine.cli("network", "create", "agentd")
        expect(controller, "network", "internet")
        expect(controller, "isolated", "isolated")
        expect(controller, "host", "host_network")
        for name in ("bridge", "network", "isolated", "host"):
            controller.wait_for(name, connected=True)
        networks = {name: network_of(engine, name) for name in ("bridge", "network", "isolated", "host")}
        assert networks == {"bridge": "bridge", "network": "agentd", "isolated": "agentd-isolated", "host": "host"}


def network_of(engine: PrivateEngine, session: str) -> str:
    return engine.cli("inspect", "--format", "{{.HostConfig.NetworkMode}}", f"agentd-{session}")


def test_a_controller_in_a_container_is_reached_by_name_and_from_the_hosts_network(
    engine: PrivateEngine, tmp_path: Path
) -> None:
    engine.cli("network", "create", "agentd")
    engine.cli("network", "create", "--internal", "agentd-isolated")
    published = ("--network", "agentd", "-p", "127.0.0.1:7006:7006")
    with engine.network(), in_a_container(engine, tmp_path, *published) as controller:
        engine.cli("network", "connect", "--alias", "controller", "agentd-isolated", "controller")
        expect(controller, "network", "internet")
        expect(controller, "isolated", "isolated")
        expect(controller, "host", "host_network")
        for name in ("network", "isolated", "host"):
            controller.wait_for(name, connected=True)


def test_on_the_default_bridge_a_controller_in_a_container_needs_an_address(
    engine: PrivateEngine, tmp_path: Path
) -> None:
    with engine.network(), in_a_container(engine, tmp_path, "-p", "7006:7006") as controller:
        expect(controller, "by-name", "internet", *IDLE)
        refused = controller.wait_for("by-name", phase="failed", reason="start_failed")
        assert "the default bridge does not know the name controller" in str(refused["message"])
        assert "\n" not in str(refused["message"])
        engine.cli("rm", "-f", "controller")
        at_the_host = {"agent_url": "ws://host.docker.internal:7006"}
        with in_a_container(engine, tmp_path, "-p", "7006:7006", **at_the_host) as at_an_address:
            expect(at_an_address, "by-address", "internet")
            at_an_address.wait_for("by-address", connected=True)


def test_behind_loopback_only_the_hosts_network_may_expect_a_connection(engine: PrivateEngine, tmp_path: Path) -> None:
    with engine.network(), ControllerProcess(folder=tmp_path, engine_url=engine.url) as controller:
        for policy in ("internet", "isolated"):
            done = controller.ctl(
                "create", policy, "--image", "busybox:test", "--network-policy", policy, "--expect-connection"
            )
            assert done.returncode == 1
            (line,) = done.stderr.splitlines()
            assert "expect_connection cannot work: the controller listens on 127.0.0.1 only" in line
        expect(controller, "host", "host_network")
        controller.wait_for("host", connected=True)
        assert list(controller.sessions()) == ["host"]


def test_a_controller_at_one_address_is_reached_there(engine: PrivateEngine, tmp_path: Path) -> None:
    with engine.network():
        subnet = engine.cli("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Subnet}}")
        gateway = str(ip_network(subnet)[1])
        controller = ControllerProcess(folder=tmp_path, engine_url=engine.url, bind=gateway, token=TOKEN)
        controller.url = f"http://{gateway}:{controller.port}"
        with controller:
            expect(controller, "bridge", "internet")
            expect(controller, "host", "host_network")
            for name in ("bridge", "host"):
                controller.wait_for(name, connected=True)


@pytest.fixture
def controller(engine: PrivateEngine, tmp_path: Path) -> Iterator[ControllerProcess]:
    """On the host, for sessions on the host's network: agents are in the test, on this machine's own loopback."""
    with ControllerProcess(
        folder=tmp_path, engine_url=engine.url, connect_grace_s=str(GRACE_S), shutdown_leave_running="true"
    ) as process:
        yield process


def test_fifty_connected_sessions_outlive_restarts_and_one_that_stays_away_is_restarted(
    engine: PrivateEngine, controller: ControllerProcess
) -> None:
    names = [f"s{number}" for number in range(SESSIONS_COUNT)]
    whom: dict[str, tuple[str, str]] = {}
    with ExitStack() as agents, ThreadPoolExecutor(8) as threads:

        def connect_all() -> dict[str, Agent]:
            return {name: agents.enter_context(connect(*whom[name])) for name in names}

        def begin(name: str) -> None:
            expect(controller, name, "host_network", *IDLE)
            environment = environment_of(engine, name)
            whom[name] = environment["AGENTD_WS_URL"], environment["AGENTD_SESSION_TOKEN"]
            agents.enter_context(connect(*whom[name]))

        list(threads.map(begin, names))
        until(lambda: connected_count(controller) == SESSIONS_COUNT, what="all are connected")
        before = controller.sessions()

        for end in (controller.kill, controller.stop):
            end()
            began = time.monotonic()
            controller.start(wait_ready=False)
            connected = connect_all()
            until(controller.is_ready, what="the controller is ready")
            until(lambda: connected_count(controller) == SESSIONS_COUNT, what="all are connected again")
        until(lambda: time.monotonic() > began + GRACE_S + 1, what="the grace is over")
        assert same_runs(before, controller.sessions(), names)

        # s7 goes, s8 falls silent as if a cable were cut, and all others answer.
        connected["s7"].close()
        others = [name for name in names if name not in ("s7", "s8")]

        def comes_back() -> Json | None:
            for name in others:
                connected[name].pong()
            session = controller.session("s7")
            return session if session["attempt"] == 2 and session["phase"] == "running" else None

        again = until(comes_back, what="s7 is restarted", timeout_s=60)
        assert again is not None
        assert again["restarts"] == 1
        stop, after = reasons(controller, "s7")["stop_requested"], reasons(controller, "s7")["not_connected"]
        assert (stop["message"], stop["health_from"], stop["actor"]) == ("it is not connected", "none", "controller")
        assert (after["from"], after["to"]) == ("stopping", "stopped")
        dropped = until(lambda: reasons(controller, "s8").get("disconnected"), what="the silent one is noticed")
        assert dropped is not None
        assert same_runs(before, controller.sessions(), others)
    LedgerFile(controller.db).check()
    assert_replays(controller)


def test_only_the_sessions_own_agent_is_let_in_and_its_new_connection_replaces_the_old(
    engine: PrivateEngine, controller: ControllerProcess
) -> None:
    expect(controller, "alpha", "host_network", *IDLE)
    expect(controller, "beta", "host_network", *IDLE)
    environment = environment_of(engine, "alpha")
    url, token = environment["AGENTD_WS_URL"], environment["AGENTD_SESSION_TOKEN"]
    beta = url.replace("/alpha", "/beta")
    for where, shown, status in (
        (url, "", 401),
        (url, "wrong", 403),
        (beta, token, 403),
        (url.replace("/alpha", "/nobody"), token, 404),
    ):
        with Agent(where, shown) as stranger:
            assert stranger.status == status
    assert connected_count(controller) == 0

    with Agent(url, token) as old:
        assert old.status == 101
        controller.wait_for("alpha", connected=True)
        with Agent(url, token) as new:
            assert old.close_code() == 4001
            new.send_text("still here")
            new.pong()
            # The other one stays away: once it is restarted, this one has been without its old connection for as long.
            controller.wait_for("beta", phase="backoff", timeout_s=GRACE_S + 10)
            assert controller.session("alpha")["connected"] is True
    told = [row["reason"] for row in controller.timeline("alpha")]
    assert told.count("connected") == 1
    assert "not_connected" not in told


def reasons(controller: ControllerProcess, name: str) -> dict[str, Json]:
    """The first row with each reason."""
    return {str(row["reason"]): row for row in reversed(controller.timeline(name))}


def connected_count(controller: ControllerProcess) -> int:
    return sum(session["connected"] is True for session in controller.sessions().values())


def same_runs(before: dict[str, Json], now: dict[str, Json], names: list[str]) -> bool:
    fields = ("phase", "attempt", "restarts", "container_id", "started_at")
    return all(before[name][field] == now[name][field] for name in names for field in fields)
