"""What other people do to containers and to the daemon; on a real engine mostly with docker's command line."""

import contextlib
import http.client
import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final, Protocol
from urllib.parse import urlencode

import anyio

from controller.engine.stream import engine_time
from controller.errors import EngineRefused
from controller.model.container import EngineEvent, EngineRestart
from controller.model.instant import Instant, after
from tests.simulation.containers import Probe, Program
from tests.simulation.daemon import Daemon
from tests.simulation.outage import freeze_daemon, kill_daemon, start_daemon, stop_daemon, thaw_daemon
from tests.simulation.stream import Reader
from tests.support.engine_client import EngineClient
from tests.support.private_engine import BUSYBOX_IMAGE, PrivateEngine


@dataclass(frozen=True, kw_only=True)
class Options:
    """How somebody runs a container."""

    restart: EngineRestart = EngineRestart.NO
    restart_limit: int = 0
    auto_remove: bool = False
    probe: Probe | None = None
    memory_bytes: int = 0
    labels: dict[str, str] = field(default_factory=dict)


PLAIN: Final = Options()


class Unread(Protocol):
    """An event stream whose reader takes nothing from it until it is asked to."""

    async def read(self, count: int) -> list[str]:
        """The names that containers had at the next so many events."""
        ...

    async def read_until(self, name: str) -> list[str]:
        """The same up to the first event of a container with that name."""
        ...


class Outsider(Protocol):
    """What other people do to containers and to the daemon, by name."""

    async def run(self, name: str, program: Program, options: Options = PLAIN) -> None: ...
    async def start(self, name: str) -> None: ...
    async def stop(self, name: str, *, grace_s: int) -> None: ...
    async def kill(self, name: str, signal: int) -> None: ...
    async def restart(self, name: str, *, grace_s: int) -> None: ...
    async def pause(self, name: str) -> None: ...
    async def unpause(self, name: str) -> None: ...
    async def rename(self, name: str, new: str) -> None: ...
    async def remove(self, name: str, *, force: bool) -> None: ...
    async def sicken(self, name: str) -> None: ...
    async def heal(self, name: str) -> None: ...
    async def make_noise(self, name: str, count: int) -> None: ...
    async def rename_often(self, *names: str, times: int) -> None: ...
    def open_stream(self, *, since: Instant) -> AbstractContextManager[Unread]: ...
    async def kill_daemon(self) -> None: ...
    async def stop_daemon(self) -> None: ...
    async def start_daemon(self) -> None: ...
    async def freeze_daemon(self) -> None: ...
    async def thaw_daemon(self) -> None: ...
    async def end_process(self, name: str) -> None:
        """Kill its main process without asking the daemon."""
        ...


class SimulatedUnread:
    """A reader of the simulated event service."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def read(self, count: int) -> list[str]:
        return [await self._next() for _ in range(count)]

    async def read_until(self, name: str) -> list[str]:
        names = [await self._next()]
        while names[-1] != name:
            names.append(await self._next())
        return names

    async def _next(self) -> str:
        while not self._reader.items:  # noqa: ASYNC110  in virtual time
            await anyio.sleep(0.01)
        item = self._reader.items.popleft()
        assert isinstance(item, EngineEvent)
        return item.name


class SimulatedOutsider:
    """The same on the simulated engine; each command takes a moment."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    async def run(self, name: str, program: Program, options: Options = PLAIN) -> None:
        await self._create(name, program, options)
        await self.start(name)

    async def start(self, name: str) -> None:
        with contextlib.suppress(EngineRefused):
            await self._do(lambda: self._daemon.start(self._daemon.find(name), by="outsider"))

    async def _create(self, name: str, program: Program, options: Options) -> None:
        await anyio.sleep(0.05)
        self._daemon.create(
            name=name,
            command=program.command(),
            restart=options.restart,
            restart_limit=options.restart_limit,
            auto_remove=options.auto_remove,
            probe=options.probe,
            memory_bytes=options.memory_bytes,
            labels=options.labels,
            by="outsider",
        )

    async def stop(self, name: str, *, grace_s: int) -> None:
        ended = anyio.Event()
        self._daemon.stop(self._daemon.find(name), grace_s=grace_s, done=lambda _: ended.set(), by="outsider")
        await ended.wait()

    async def kill(self, name: str, signal: int) -> None:
        await self._do(lambda: self._daemon.kill(self._daemon.find(name), signal))

    async def restart(self, name: str, *, grace_s: int) -> None:
        self._daemon.restart(self._daemon.find(name), grace_s=grace_s)
        await anyio.sleep(grace_s + 1)

    async def pause(self, name: str) -> None:
        await self._do(lambda: self._daemon.pause(self._daemon.find(name)))

    async def unpause(self, name: str) -> None:
        await self._do(lambda: self._daemon.unpause(self._daemon.find(name)))

    async def rename(self, name: str, new: str) -> None:
        await self._do(lambda: self._daemon.rename(self._daemon.find(name), new))

    async def remove(self, name: str, *, force: bool) -> None:
        await self._do(lambda: self._daemon.remove(self._daemon.find(name), force=force, by="outsider"))

    async def sicken(self, name: str) -> None:
        await self._sick_at(name, 0.0)

    async def heal(self, name: str) -> None:
        await self._sick_at(name, None)

    async def _sick_at(self, name: str, age_s: float | None) -> None:
        container = self._daemon.find(name)
        container.program = replace(container.program, sick_at_s=age_s)
        await self._do(lambda: self._daemon.events.noise(self._daemon.clock(), 3))

    async def make_noise(self, name: str, count: int) -> None:
        self._daemon.find(name)
        await self._do(lambda: self._daemon.events.noise(self._daemon.clock(), count))

    async def rename_often(self, *names: str, times: int) -> None:
        for number in range(1, times + 1):
            for name in names:
                self._daemon.rename(
                    self._daemon.find(name if number == 1 else f"{name}-{number - 1}"), f"{name}-{number}"
                )
                await anyio.sleep(0.001)
        await anyio.sleep(0.05)  # Until the last of them have arrived.

    @contextmanager
    def open_stream(self, *, since: Instant) -> Iterator[Unread]:
        reader = self._daemon.events.subscribe(since=since, until=after(since, 1000))
        yield SimulatedUnread(reader)
        self._daemon.events.close(reader)

    async def kill_daemon(self) -> None:
        kill_daemon(self._daemon)

    async def stop_daemon(self) -> None:
        stop_daemon(self._daemon)
        while self._daemon.up:  # noqa: ASYNC110  in virtual time
            await anyio.sleep(0.1)

    async def start_daemon(self) -> None:
        await self._do(lambda: start_daemon(self._daemon))

    async def freeze_daemon(self) -> None:
        freeze_daemon(self._daemon)

    async def thaw_daemon(self) -> None:
        thaw_daemon(self._daemon)

    async def end_process(self, name: str) -> None:
        await self._do(lambda: self._daemon.process_ends(self._daemon.find(name), 137, by="outsider"))

    async def _do(self, act: Callable[[], Any]) -> None:
        await anyio.sleep(0.05)
        act()


class DockerUnread:
    """A response of a real engine, on a socket of its own."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self._response = response

    async def read(self, count: int) -> list[str]:
        return await anyio.to_thread.run_sync(lambda: [self._next() for _ in range(count)])

    async def read_until(self, name: str) -> list[str]:
        def read() -> list[str]:
            names = [self._next()]
            while names[-1] != name:
                names.append(self._next())
            return names

        return await anyio.to_thread.run_sync(read)

    def _next(self) -> str:
        return str(json.loads(self._response.readline())["Actor"]["Attributes"]["name"])


class DockerOutsider:
    """The docker command line on a private engine."""

    def __init__(self, engine: PrivateEngine) -> None:
        self._engine = engine
        self._processes: dict[str, int] = {}

    async def _cli(self, *arguments: str, check: bool = True) -> str:
        return await anyio.to_thread.run_sync(lambda: self._engine.cli(*arguments, check=check))

    async def run(self, name: str, program: Program, options: Options = PLAIN) -> None:
        words = ["--name", name]
        for key, value in options.labels.items():
            words += ["--label", f"{key}={value}"]
        if options.restart is not EngineRestart.NO:
            limit = f":{options.restart_limit}" if options.restart_limit else ""
            words += ["--restart", f"{options.restart.value}{limit}"]
        if options.auto_remove:
            words.append("--rm")
        if options.memory_bytes:
            words += ["--memory", str(options.memory_bytes), "--memory-swap", str(options.memory_bytes)]
        if options.probe is not None:
            words += ["--health-cmd", "/bin/test ! -e /tmp/sick", "--health-interval", f"{options.probe.interval_s}s"]
            words += ["--health-retries", str(options.probe.retries)]
        await self._cli("run", "-d", *words, BUSYBOX_IMAGE, *program.command(), check=False)

    async def start(self, name: str) -> None:
        await self._cli("start", name, check=False)

    async def stop(self, name: str, *, grace_s: int) -> None:
        await self._cli("stop", "-t", str(grace_s), name)

    async def kill(self, name: str, signal: int) -> None:
        await self._cli("kill", "-s", str(signal), name)

    async def restart(self, name: str, *, grace_s: int) -> None:
        await self._cli("restart", "-t", str(grace_s), name)

    async def pause(self, name: str) -> None:
        await self._cli("pause", name)

    async def unpause(self, name: str) -> None:
        await self._cli("unpause", name)

    async def rename(self, name: str, new: str) -> None:
        await self._cli("rename", name, new)

    async def remove(self, name: str, *, force: bool) -> None:
        await self._cli("rm", *(["-f"] if force else []), name, check=False)

    async def sicken(self, name: str) -> None:
        await self._cli("exec", name, "/bin/touch", "/tmp/sick")

    async def heal(self, name: str) -> None:
        await self._cli("exec", name, "/bin/rm", "/tmp/sick")

    async def make_noise(self, name: str, count: int) -> None:
        # What will never be started is the cheapest event: nothing is written to a disk, and nothing runs.
        request = ("POST", f"/containers/{name}/exec", {"Cmd": ["/bin/true"]})
        await anyio.to_thread.run_sync(self._ask, [request] * count)

    async def rename_often(self, *names: str, times: int) -> None:
        async with anyio.create_task_group() as group:
            for name in names:
                steps = pairwise([name, *(f"{name}-{number}" for number in range(1, times + 1))])
                requests = [("POST", f"/containers/{old}/rename?name={new}", None) for old, new in steps]
                group.start_soon(anyio.to_thread.run_sync, self._ask, requests)

    def _ask(self, requests: Sequence[tuple[str, str, object]]) -> None:
        with closing(EngineClient(self._engine.socket)) as client:
            for method, path, body in requests:
                client.ask(method, path, body)

    @contextmanager
    def open_stream(self, *, since: Instant) -> Iterator[Unread]:
        query = urlencode({"since": engine_time(since), "filters": '{"event": ["rename"]}'})
        with closing(EngineClient(self._engine.socket)) as client:
            client.connection.request("GET", f"/events?{query}")
            yield DockerUnread(client.connection.getresponse())

    async def kill_daemon(self) -> None:
        await self._remember_processes()
        await anyio.to_thread.run_sync(self._engine.kill)

    async def stop_daemon(self) -> None:
        await self._remember_processes()
        await anyio.to_thread.run_sync(self._engine.stop)

    async def start_daemon(self) -> None:
        await anyio.to_thread.run_sync(self._engine.start)

    async def freeze_daemon(self) -> None:
        await self._remember_processes()
        os.kill(self._engine.pid, signal.SIGSTOP)

    async def thaw_daemon(self) -> None:
        os.kill(self._engine.pid, signal.SIGCONT)

    async def end_process(self, name: str) -> None:
        os.kill(self._processes[name], signal.SIGKILL)

    async def _remember_processes(self) -> None:
        """Main processes by name: without the daemon nobody can be asked for them."""

        def processes() -> dict[str, int]:
            with closing(EngineClient(self._engine.socket)) as client:
                ids = [row["Id"] for row in client.ask("GET", "/containers/json")]
                told = [client.ask("GET", f"/containers/{one}/json") for one in ids]
            return {one["Name"].removeprefix("/"): int(one["State"]["Pid"]) for one in told}

        self._processes = await anyio.to_thread.run_sync(processes)
