"""The event stream of a real engine, live and replayed, whole and broken."""

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from controller.engine.docker import DockerBackend
from controller.errors import EngineUnavailable
from controller.interfaces import BadLine, StreamItem
from controller.model.container import EngineEvent, EngineInfo
from controller.model.instant import Instant, after
from controller.model.phase import Health
from tests.support.backends import backend_at
from tests.support.fault_proxy import CutLine, Duplicate, FaultProxy, HalfOpen, HalveLine, InjectLine, PassLines, always
from tests.support.private_engine import PrivateEngine

pytestmark = pytest.mark.docker


def clock(info: EngineInfo) -> Instant:
    assert info.system_time is not None
    return info.system_time


async def replay(backend: DockerBackend, since: Instant) -> list[StreamItem]:
    """All that the engine kept since then; the window ends now, so nothing is waited for."""
    async with backend.events(since=since, until=clock(await backend.connect())) as events:
        return [item async for item in events]


def told(items: list[StreamItem], container: str) -> list[str]:
    return [item.action.value for item in items if isinstance(item, EngineEvent) and item.container == container]


async def until_(events: AsyncIterator[StreamItem], action: str) -> EngineEvent:
    with anyio.fail_after(20):
        async for item in events:
            if isinstance(item, EngineEvent) and item.action.value == action:
                return item
    raise AssertionError(f"the stream ended without {action}")


async def test_a_whole_life_is_told_in_order(engine: PrivateEngine) -> None:
    async with backend_at(engine.url) as backend:
        since = clock(await backend.connect())
        container = engine.run("--name", "one", "--", "sleep", "1000")
        engine.cli("pause", "one")
        engine.cli("unpause", "one")
        engine.cli("rename", "one", "two")
        engine.cli("kill", "-s", "HUP", "two")
        engine.cli("stop", "-t", "0", "two")
        engine.cli("rm", "two")
        items = await replay(backend, since)
    actions = told(items, container)
    assert actions[:6] == ["create", "start", "pause", "unpause", "rename", "kill"]
    assert {"kill", "die", "stop"} <= set(actions[6:-1])
    assert actions[-1] == "destroy"
    events = [item for item in items if isinstance(item, EngineEvent) and item.container == container]
    assert next(event.signal for event in events if event.action.value == "kill") == 1
    assert [event.exit_code for event in events if event.action.value == "die"] == [137]
    assert [(event.old_name, event.name) for event in events if event.action.value == "rename"] == [("one", "two")]


async def test_a_replay_includes_both_ends_and_nothing_before(engine: PrivateEngine) -> None:
    async with backend_at(engine.url) as backend:
        since = clock(await backend.connect())
        for name in ("one", "two", "three"):
            engine.cli("create", "--name", name, "busybox:test")
        everything = [item for item in await replay(backend, since) if isinstance(item, EngineEvent)]
        assert [event.name for event in everything] == ["one", "two", "three"]
        assert [
            item for item in await replay(backend, everything[1].at) if isinstance(item, EngineEvent)
        ] == everything[1:]


async def test_live_events_come_as_they_happen(engine: PrivateEngine) -> None:
    async with backend_at(engine.url) as backend:
        now = clock(await backend.connect())
        async with backend.events(since=now, until=after(now, 300)) as events:
            probe = ("--health-cmd", "test -e /tmp/well", "--health-interval", "1s", "--health-retries", "1")
            container = engine.run(*probe, "--", "sh", "-c", "sleep 1.5; touch /tmp/well; sleep 1000")
            assert (await until_(events, "start")).container == container
            assert (await until_(events, "health_status")).health is Health.UNHEALTHY
            assert (await until_(events, "health_status")).health is Health.HEALTHY
            assert (await backend.inspect(container)).health is Health.HEALTHY


async def test_out_of_memory_is_told(engine: PrivateEngine) -> None:
    async with backend_at(engine.url) as backend:
        now = clock(await backend.connect())
        async with backend.events(since=now, until=after(now, 300)) as events:
            container = engine.run("--memory", "8m", "--memory-swap", "8m", "--", "sh", "-c", "tail /dev/zero")
            assert (await until_(events, "oom")).container == container
        engine.cli("wait", container)
        assert (await backend.inspect(container)).oom_killed


async def test_probes_and_execs_leave_no_trace(engine: PrivateEngine) -> None:
    async with backend_at(engine.url) as backend:
        since = clock(await backend.connect())
        container = engine.run("--", "sleep", "1000")
        engine.cli("exec", container, "true")
        assert told(await replay(backend, since), container) == ["create", "start"]


async def test_a_label_of_200_kib_is_an_ordinary_event(engine: PrivateEngine, tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    labels.write_text("".join(f"big{n}={'x' * 50_000}\n" for n in range(4)) + "exitCode=0\n")
    async with backend_at(engine.url) as backend:
        since = clock(await backend.connect())
        container = engine.run("--label-file", str(labels), "--", "sh", "-c", "exit 9")
        engine.cli("wait", container)
        items = await replay(backend, since)
        assert told(items, container)[:2] == ["create", "start"]
        die = next(item for item in items if isinstance(item, EngineEvent) and item.action.value == "die")
        assert sum(map(len, die.attributes.values())) > 200_000
        assert die.attributes["exitCode"] == "0", "a label overwrites the attribute; the inspect does not lie"
        assert (await backend.inspect(container)).exit_code == 9


async def test_two_windows_may_be_open_at_once(engine: PrivateEngine) -> None:
    async with backend_at(engine.url) as backend:
        now = clock(await backend.connect())
        async with (
            backend.events(since=now, until=after(now, 300)) as old,
            backend.events(since=now, until=after(now, 310)) as new,
        ):
            engine.cli("create", "--name", "one", "busybox:test")
            assert (await until_(old, "create")) == (await until_(new, "create"))


async def test_a_window_ends_by_itself_at_its_time(engine: PrivateEngine) -> None:
    async with backend_at(engine.url) as backend:
        now = clock(await backend.connect())
        with anyio.fail_after(10):
            async with backend.events(since=now, until=after(now, 1)) as events:
                assert [item async for item in events] == []


# --- broken ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (InjectLine(b"this is not json", before=2), "not json"),
        (InjectLine(b"x" * (1024 * 1024 + 1), before=2), "too long"),
        (HalveLine(2), "not json"),
    ],
)
async def test_one_bad_line_costs_one_line(
    engine: PrivateEngine, tmp_path: Path, fault: InjectLine | HalveLine, why: str
) -> None:
    proxy = FaultProxy(listen=tmp_path / "p", upstream=engine.socket)
    async with proxy, backend_at(proxy.url) as backend:
        since = clock(await backend.connect())
        for name in ("one", "two", "three"):
            engine.cli("create", "--name", name, "busybox:test")
        proxy.rule = always(fault, when=lambda request: request.is_events)
        items = await replay(backend, since)
    assert [item for item in items if isinstance(item, BadLine)] == [BadLine(why=why)]
    names = [item.name for item in items if isinstance(item, EngineEvent)]
    assert names == (["one", "three"] if isinstance(fault, HalveLine) else ["one", "two", "three"])


async def test_a_cut_line_is_told_and_then_the_break(engine: PrivateEngine, tmp_path: Path) -> None:
    proxy = FaultProxy(listen=tmp_path / "p", upstream=engine.socket)
    async with proxy, backend_at(proxy.url) as backend:
        now = clock(await backend.connect())
        proxy.rule = always(CutLine(2), when=lambda request: request.is_events)
        async with backend.events(since=now, until=after(now, 300)) as events:
            for name in ("one", "two"):
                engine.cli("create", "--name", name, "busybox:test")
            assert (await until_(events, "create")).name == "one"
            assert await anext(events) == BadLine(why="cut")
            with pytest.raises(EngineUnavailable):
                await anext(events)


async def test_doubled_lines_are_the_same_event_twice(engine: PrivateEngine, tmp_path: Path) -> None:
    proxy = FaultProxy(listen=tmp_path / "p", upstream=engine.socket)
    async with proxy, backend_at(proxy.url) as backend:
        since = clock(await backend.connect())
        engine.cli("create", "--name", "one", "busybox:test")
        proxy.rule = always(Duplicate(), when=lambda request: request.is_events)
        first, second = [item for item in await replay(backend, since) if isinstance(item, EngineEvent)]
    assert first.key == second.key


async def test_a_line_can_be_injected_at_any_time(engine: PrivateEngine, tmp_path: Path) -> None:
    proxy = FaultProxy(listen=tmp_path / "p", upstream=engine.socket)
    proxy.rule = always(PassLines(), when=lambda request: request.is_events)
    async with proxy, backend_at(proxy.url) as backend:
        now = clock(await backend.connect())
        async with backend.events(since=now, until=after(now, 300)) as events:
            assert await proxy.inject(b'{"Type":"container","Action":"of another world","Actor":{"ID":"x"}}') == 1
            assert await proxy.inject(b'{"Type":"container","Action":"oom","Actor":{"ID":"x"},"timeNano":7}') == 1
            assert (await until_(events, "oom")).at == Instant(7)


async def test_a_stream_that_says_nothing_more_is_dead_soon_after_its_time(
    engine: PrivateEngine, tmp_path: Path
) -> None:
    proxy = FaultProxy(listen=tmp_path / "p", upstream=engine.socket)
    async with proxy, backend_at(proxy.url) as backend:
        backend._connection.limits = type(backend._connection.limits)(overdue_s=0.5)
        now = clock(await backend.connect())
        proxy.rule = always(HalfOpen(350), when=lambda request: request.is_events)
        async with backend.events(since=now, until=after(now, 1)) as events:
            engine.cli("create", "--name", "one", "busybox:test")
            with anyio.fail_after(10), pytest.raises(EngineUnavailable):
                await until_(events, "start")


async def test_a_cut_connection_is_a_break(engine: PrivateEngine, tmp_path: Path) -> None:
    proxy = FaultProxy(listen=tmp_path / "p", upstream=engine.socket)
    async with proxy, backend_at(proxy.url) as backend:
        now = clock(await backend.connect())
        async with backend.events(since=now, until=after(now, 300)) as events:
            proxy.kill_all()
            with anyio.fail_after(5), pytest.raises(EngineUnavailable):
                await anext(events)


@pytest.mark.parametrize("how", ["stopped in order", "killed"])
async def test_an_engine_that_goes_away_breaks_the_stream(own_engine: PrivateEngine, how: str) -> None:
    async with backend_at(own_engine.url) as backend:
        now = clock(await backend.connect())
        async with backend.events(since=now, until=after(now, 300)) as events:
            own_engine.run("--init", "--", "sleep", "1000")
            await until_(events, "start")
            if how == "killed":
                own_engine.kill()
            else:
                await anyio.to_thread.run_sync(own_engine.stop)
                await until_(events, "die")
            with anyio.fail_after(10), pytest.raises(EngineUnavailable):
                async for _ in events:
                    pass
