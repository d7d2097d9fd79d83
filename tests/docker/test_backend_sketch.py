"""The sketch's operations by their names, on a real engine."""

import pytest

from controller.engine.docker import DockerBackend
from controller.errors import EngineRefused
from controller.interfaces import ExecutionBackend
from controller.model.ids import ContainerId
from controller.model.instant import NANOS_PER_S
from controller.model.sketch import SessionExitInfo, SessionHealth
from tests.support.backends import backend_at, plan_for, session_labels
from tests.support.private_engine import PrivateEngine

pytestmark = pytest.mark.docker


async def started(backend: ExecutionBackend, session: str, *command: str, **labels: str) -> str:
    container = await backend.create(plan_for(session, *command, labels=session_labels(session, **labels)))
    await backend.start(container)
    return container


async def test_exit_info_is_none_for_running_absent_and_merely_created(engine: PrivateEngine) -> None:
    async with backend_at(engine.url) as backend:
        await backend.connect()
        await backend.create(plan_for("new"))
        await started(backend, "runs")
        assert [await backend.session_exit_info(name) for name in ("new", "runs", "absent")] == [None, None, None]


async def test_exit_info_tells_code_memory_and_time(engine: PrivateEngine) -> None:
    async with backend_at(engine.url) as backend:
        await backend.connect()
        container = await started(backend, "three", "sh", "-c", "exit 3")
        engine.cli("wait", container)
        finished_at = (await backend.inspect(container)).finished_at
        assert await backend.session_exit_info("three") == SessionExitInfo(
            exit_code=3, oom_killed=False, error="", finished_at=finished_at
        )


async def test_exit_info_tells_a_failed_start(engine: PrivateEngine) -> None:
    async with backend_at(engine.url) as backend:
        await backend.connect()
        container = engine.cli("create", "--name", "agentd-bad", "busybox:test", "/no/such/command")
        with pytest.raises(EngineRefused):
            await backend.start(ContainerId(container))
        info = await backend.session_exit_info("bad")
    assert info is not None
    assert (info.exit_code, info.finished_at) == (127, None)
    assert "/no/such/command" in info.error


async def test_health_is_healthy_without_a_probe_and_unknown_when_not_running(engine: PrivateEngine) -> None:
    async with backend_at(engine.url) as backend:
        await backend.connect()
        await started(backend, "plain")
        container = await started(backend, "ended", "true")
        engine.cli("wait", container)
        engine.run("--name", "agentd-new", "--health-cmd", "true", "--health-interval", "60s", "--", "sleep", "1000")
        health = {name: await backend.session_health(name) for name in ("plain", "ended", "absent", "new")}
    assert health == {
        "plain": SessionHealth.HEALTHY,
        "ended": SessionHealth.UNKNOWN,
        "absent": SessionHealth.UNKNOWN,
        "new": SessionHealth.STARTING,
    }


async def test_shutdown_stops_ours_side_by_side_and_nobody_elses(engine: PrivateEngine) -> None:
    stubborn = ("sh", "-c", "trap '' TERM; while :; do sleep 1; done")
    async with backend_at(engine.url) as backend:
        await backend.connect()
        ours = [await started(backend, f"ours-{n}", *stubborn) for n in range(6)]
        spared = [
            await started(backend, "watched", watch="true"),
            await started(backend, "controller", role="controller"),
            await started(backend, "foreign", controller="another"),
            engine.run("--label", "agentd.prefix=other", "--", "sleep", "1000"),
            engine.run("--", "sleep", "1000"),
        ]
        assert list(await backend.list_sessions()) == [f"ours-{n}" for n in range(6)]
        await backend.shutdown_all_sessions()
        ends = [(await backend.inspect(container)).finished_at or 0 for container in ours]
    assert set(engine.cli("ps", "-q", "--no-trunc").split()) == set(spared)
    assert max(ends) - min(ends) < 4 * NANOS_PER_S, "five graces of one second lie between the first and the last else"


async def test_one_session_is_stopped_by_name_and_only_if_ours(engine: PrivateEngine) -> None:
    async with backend_at(engine.url) as backend:
        await backend.connect()
        await started(backend, "mine")
        foreign = await started(backend, "foreign", controller="another")
        await backend.stop_session("absent")
        await backend.stop_session("mine")
        with pytest.raises(EngineRefused, match="not ours"):
            await backend.stop_session("foreign")
    assert engine.cli("ps", "-q", "--no-trunc") == foreign


async def test_without_a_controller_id_the_prefix_decides(engine: PrivateEngine) -> None:
    async with backend_at(engine.url, controller_id=None) as backend:
        await backend.connect()
        labels = ("--label", "agentd.prefix=agentd", "--label", "agentd.session=agentd-old")
        engine.run("--name", "agentd-old", *labels, "--", "sleep", "1000")
        assert list(await backend.list_sessions()) == ["old"]
        await backend.shutdown_all_sessions()
    assert engine.cli("ps", "-q") == ""


def test_the_backend_is_an_execution_backend() -> None:
    backend: type[ExecutionBackend] = DockerBackend
    assert backend.__name__ == "DockerBackend"
