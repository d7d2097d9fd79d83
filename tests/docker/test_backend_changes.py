"""Create, start, stop, remove on a real engine: what comes into being is what was planned."""

import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from controller.errors import ContainerGone, EngineConflict, EngineRefused, EngineUnavailable
from controller.model.container import ContainerState
from controller.model.ids import ContainerId
from controller.model.spec import Mount, NetworkPolicy
from tests.support.backends import backend_at, plan_for, session_labels
from tests.support.fault_proxy import Delay, FaultProxy, Garble, LostReply, Reset, always, times
from tests.support.private_engine import PrivateEngine

pytestmark = pytest.mark.docker


def seen(engine: PrivateEngine, container: str) -> dict[str, Any]:
    return json.loads(engine.cli("inspect", container))[0]  # type: ignore[no-any-return]


async def test_a_container_comes_into_being_as_planned(engine: PrivateEngine, tmp_path: Path) -> None:
    tmp_path.joinpath("hello").write_text("from the host\n")
    plan = plan_for("one", "sh", "-c", "cat hello; echo $AGENT_TYPE; pwd", workdir=str(tmp_path))
    async with backend_at(engine.url) as backend:
        await backend.connect()
        container = await backend.create(plan)
        assert (await backend.inspect(container)).state is ContainerState.CREATED
        await backend.start(container)
        engine.cli("wait", container)
        tail = await backend.tail(container, lines=10, max_bytes=1000, since=None, until=None)
    assert tail.lines == ("from the host", "general", "/workspace")
    raw = seen(engine, container)
    host = raw["HostConfig"]
    assert raw["Name"] == "/agentd-one"
    assert raw["Config"]["Labels"] == session_labels("one")
    assert (raw["Config"]["Tty"], raw["Config"]["StopTimeout"]) == (False, 1)
    assert (host["Memory"], host["NanoCpus"]) == (64 * 1024 * 1024, 2_000_000_000)
    assert (host["Init"], host["RestartPolicy"]["Name"], host["AutoRemove"]) == (True, "no", False)
    assert host["Privileged"] is False
    assert [(mount["Source"], mount["Destination"], mount["RW"]) for mount in raw["Mounts"]] == [
        (str(tmp_path), "/workspace", True)
    ]


async def test_more_cpus_than_there_are_means_all_of_them(engine: PrivateEngine) -> None:
    async with backend_at(engine.url) as backend:
        await backend.connect()
        plan = plan_for("one")
        container = await backend.create(type(plan)(**{**vars(plan), "cpus": 4096.0}))
    assert seen(engine, container)["HostConfig"]["NanoCpus"] == int(engine.cli("info", "-f", "{{.NCPU}}")) * 10**9


async def test_mounts_can_be_folders_or_volumes(engine: PrivateEngine, tmp_path: Path) -> None:
    plan = plan_for("one")
    mounts = (Mount(source=str(tmp_path), target="/in", read_only=True), Mount(source="things", target="/keep"))
    async with backend_at(engine.url) as backend:
        await backend.connect()
        container = await backend.create(type(plan)(**{**vars(plan), "mounts": mounts}))
    assert sorted(
        (mount["Type"], mount["Destination"], mount["RW"]) for mount in seen(engine, container)["Mounts"]
    ) == [
        ("bind", "/in", False),
        ("volume", "/keep", True),
    ]


# --- networks --------------------------------------------------------------------------------------------------


async def test_internet_is_the_bridge_until_there_is_a_network_agentd(engine: PrivateEngine) -> None:
    async with backend_at(engine.url) as backend:
        await backend.connect()
        engine.cli("network", "create", "not-agentd")
        first = await backend.create(plan_for("one"))
        engine.cli("network", "create", "agentd")
        second = await backend.create(plan_for("two"))
    for container, network in ((first, "bridge"), (second, "agentd")):
        host = seen(engine, container)["HostConfig"]
        assert (host["NetworkMode"], host["ExtraHosts"]) == (network, ["host.docker.internal:host-gateway"])


async def test_isolated_makes_its_internal_network_once(engine: PrivateEngine) -> None:
    async with backend_at(engine.url) as backend:
        await backend.connect()
        async with anyio.create_task_group() as group:
            for session in ("one", "two", "three"):
                group.start_soon(backend.create, plan_for(session, network_policy=NetworkPolicy.ISOLATED))
    assert engine.cli("network", "ls", "--filter", "name=agentd-isolated", "--format", "{{.Name}}") == "agentd-isolated"
    assert engine.cli("network", "inspect", "-f", "{{.Internal}} {{.Driver}}", "agentd-isolated") == "true bridge"
    host = seen(engine, "agentd-one")["HostConfig"]
    gateway = engine.cli("network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "agentd-isolated")
    assert host["NetworkMode"] == "agentd-isolated"
    assert host["ExtraHosts"] == [f"host.docker.internal:{gateway}"]


async def test_an_isolated_network_that_is_not_internal_is_refused(engine: PrivateEngine) -> None:
    engine.cli("network", "create", "agentd-isolated")
    async with backend_at(engine.url) as backend:
        await backend.connect()
        with pytest.raises(EngineRefused, match="not internal"):
            await backend.create(plan_for("one", network_policy=NetworkPolicy.ISOLATED))
    assert engine.cli("ps", "-aq") == ""


async def test_host_network_is_the_hosts(engine: PrivateEngine) -> None:
    async with backend_at(engine.url) as backend:
        await backend.connect()
        container = await backend.create(plan_for("one", network_policy=NetworkPolicy.HOST_NETWORK))
    assert seen(engine, container)["HostConfig"]["NetworkMode"] == "host"


# --- refusals --------------------------------------------------------------------------------------------------


async def test_what_can_never_work_is_refused_with_the_engines_words(engine: PrivateEngine) -> None:
    async with backend_at(engine.url) as backend:
        await backend.connect()
        with pytest.raises(EngineRefused, match=r"no such image: nowhere:9 \(docker pull nowhere:9 first\)"):
            await backend.create(plan_for("one", image="nowhere:9"))
        with pytest.raises(EngineRefused, match="/no/such/folder"):
            await backend.create(plan_for("one", workdir="/no/such/folder"))
        container = ContainerId(engine.cli("create", "busybox:test", "/no/such/command"))
        with pytest.raises(EngineRefused, match="/no/such/command"):
            await backend.start(container)
        snapshot = await backend.inspect(container)
    assert (snapshot.state, snapshot.exit_code) == (ContainerState.CREATED, None)
    assert "/no/such/command" in snapshot.error


async def test_behind_an_init_process_a_missing_command_is_an_exit_of_127(engine: PrivateEngine) -> None:
    async with backend_at(engine.url) as backend:
        await backend.connect()
        container = await backend.create(plan_for("one", "/no/such/command"))
        await backend.start(container)
        engine.cli("wait", container)
        assert (await backend.inspect(container)).exit_code == 127
        tail = await backend.tail(container, lines=5, max_bytes=999, since=None, until=None)
    assert "/no/such/command" in tail.lines[-1]


async def test_a_port_in_use_is_refused(engine: PrivateEngine) -> None:
    engine.run("-p", "8080:80", "--", "sleep", "1000")
    second = engine.cli("create", "-p", "8080:80", "busybox:test", "sleep", "1000")
    async with backend_at(engine.url) as backend:
        await backend.connect()
        with pytest.raises(EngineRefused, match="allocated"):
            await backend.start(ContainerId(second))


async def test_a_start_into_a_network_that_is_gone_is_refused_and_no_absence(engine: PrivateEngine) -> None:
    engine.cli("network", "create", "passing")
    container = engine.cli("create", "--network", "passing", "busybox:test", "true")
    engine.cli("network", "rm", "passing")
    async with backend_at(engine.url) as backend:
        await backend.connect()
        with pytest.raises(EngineRefused, match="network"):
            await backend.start(ContainerId(container))


async def test_a_taken_name_is_a_conflict(engine: PrivateEngine) -> None:
    async with backend_at(engine.url) as backend:
        await backend.connect()
        first = await backend.create(plan_for("one"))
        with pytest.raises(EngineConflict, match=first):
            await backend.create(plan_for("one"))


# --- stop and remove -------------------------------------------------------------------------------------------


async def test_already_so_is_success_and_gone_is_said(engine: PrivateEngine) -> None:
    async with backend_at(engine.url) as backend:
        await backend.connect()
        container = await backend.create(plan_for("one"))
        await backend.start(container)
        await backend.start(container)
        with pytest.raises(EngineConflict, match="running"):
            await backend.remove(container)
        await backend.stop(container, grace_s=1)
        await backend.stop(container, grace_s=1)
        await backend.remove(container)
        for call in (backend.start(container), backend.remove(container), backend.stop(container, grace_s=0)):
            with pytest.raises(ContainerGone):
                await call
        with pytest.raises(ContainerGone):
            await backend.inspect("agentd-one")


async def test_a_process_that_ignores_its_signal_is_killed_after_the_grace(engine: PrivateEngine) -> None:
    async with backend_at(engine.url) as backend:
        await backend.connect()
        container = await backend.create(plan_for("one", "sh", "-c", "trap '' TERM; while :; do sleep 1; done"))
        await backend.start(container)
        with anyio.fail_after(5):
            await backend.stop(container, grace_s=0.2)
        assert (await backend.inspect(container)).exit_code == 137


async def test_remove_takes_anonymous_volumes_along(engine: PrivateEngine) -> None:
    container = engine.cli("create", "-v", "/data", "-v", "named:/kept", "busybox:test", "true")
    async with backend_at(engine.url) as backend:
        await backend.connect()
        await backend.remove(ContainerId(container))
    assert engine.cli("volume", "ls", "-q") == "named"


# --- faults between us and the engine --------------------------------------------------------------------------


async def test_a_lost_reply_leaves_it_open_and_the_deed_is_done(engine: PrivateEngine, tmp_path: Path) -> None:
    proxy = FaultProxy(listen=tmp_path / "p", upstream=engine.socket)
    async with proxy, backend_at(proxy.url) as backend:
        await backend.connect()
        proxy.rule = times(1, LostReply(), when=lambda request: request.path == "/containers/create")
        with pytest.raises(EngineUnavailable) as caught:
            await backend.create(plan_for("one", "sleep", "1000"))
        assert caught.value.request_sent
        snapshot = await backend.inspect("agentd-one")
        assert snapshot.facts.labels == session_labels("one")
        for done in (backend.start(snapshot.facts.id), backend.stop(snapshot.facts.id, grace_s=1)):
            proxy.rule = times(1, LostReply(), when=lambda request: request.method == "POST")
            with pytest.raises(EngineUnavailable):
                await done
        assert (await backend.inspect("agentd-one")).state is ContainerState.EXITED
        assert proxy.asked(lambda request: request.path.endswith("/start")) == 1, "a start is never sent twice"


@pytest.mark.parametrize("fault", [Reset(300), Garble(0.2), Garble(0.01, seed=3)])
async def test_a_broken_answer_is_no_absence(engine: PrivateEngine, tmp_path: Path, fault: Reset | Garble) -> None:
    for session in ("one", "two", "three"):
        engine.cli("create", "--name", session, "--label", "agentd.prefix=agentd", "busybox:test")
    proxy = FaultProxy(listen=tmp_path / "p", upstream=engine.socket)
    async with proxy, backend_at(proxy.url) as backend:
        await backend.connect()
        proxy.rule = always(fault)
        with pytest.raises(EngineUnavailable):
            await backend.list_ours("agentd")
        with pytest.raises(EngineUnavailable):
            await backend.inspect("one")
        proxy.rule = None
        assert len(await backend.list_ours("agentd")) == 3


async def test_a_slow_engine_is_waited_for(engine: PrivateEngine, tmp_path: Path) -> None:
    proxy = FaultProxy(listen=tmp_path / "p", upstream=engine.socket, rule=always(Delay(0.2)))
    async with proxy, backend_at(proxy.url) as backend:
        await backend.connect()
        assert list(await backend.list_ours("agentd")) == []


async def test_a_restarted_engine_is_met_again_by_a_new_connect(own_engine: PrivateEngine) -> None:
    async with backend_at(own_engine.url) as backend:
        before = await backend.connect()
        container = await backend.create(plan_for("one"))
        own_engine.kill()
        with pytest.raises(EngineUnavailable):
            await backend.inspect(container)
        with pytest.raises(EngineUnavailable) as caught:
            await backend.connect()
        assert not caught.value.request_sent
        own_engine.start()
        after = await backend.connect()
        assert after.id == before.id
        assert (await backend.inspect(container)).facts.name == "agentd-one"
