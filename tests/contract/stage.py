"""Where a contract script is played: the simulated engine in virtual time, or a real one.

A script sees the engine through `ExecutionBackend` only; what other people do to containers goes through an outsider,
who is the docker command line for the real engine. What was seen is kept in a recording without ids and times, so that
two recordings can be compared.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import anyio

from controller.errors import ContainerGone, EngineError, EngineRefused
from controller.interfaces import ExecutionBackend
from controller.model.container import ContainerState, EngineEvent, EngineRestart, Snapshot
from controller.model.ids import ContainerId
from controller.model.instant import Instant, after
from tests.simulation.containers import Probe, Program
from tests.simulation.daemon import Daemon
from tests.simulation.outage import kill_daemon, start_daemon, stop_daemon
from tests.support.private_engine import BUSYBOX_IMAGE, PrivateEngine

PATIENCE_S = 20.0
_UNORDERED = ({"die", "stop"}, {"die", "oom"}, {"oom"})


@dataclass(frozen=True, kw_only=True)
class Options:
    """How somebody runs a container."""

    restart: EngineRestart = EngineRestart.NO
    restart_limit: int = 0
    auto_remove: bool = False
    probe: Probe | None = None
    memory_bytes: int = 0
    labels: dict[str, str] = field(default_factory=dict)


PLAIN = Options()


class Outsider(Protocol):
    """What other people do to containers, by name."""

    async def run(self, name: str, program: Program, options: Options = PLAIN) -> None: ...
    async def create(self, name: str, program: Program) -> None: ...
    async def stop(self, name: str, *, grace_s: int) -> None: ...
    async def kill(self, name: str, signal: int) -> None: ...
    async def restart(self, name: str, *, grace_s: int) -> None: ...
    async def pause(self, name: str) -> None: ...
    async def unpause(self, name: str) -> None: ...
    async def rename(self, name: str, new: str) -> None: ...
    async def remove(self, name: str, *, force: bool) -> None: ...
    async def kill_daemon_and_start_it(self) -> None: ...
    async def restart_daemon(self) -> None: ...


class SimulatedOutsider:
    """The same on the simulated engine; each command takes a moment."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    async def run(self, name: str, program: Program, options: Options = PLAIN) -> None:
        await self._create(name, program, options)
        with contextlib.suppress(EngineRefused):
            await self._do(lambda: self._daemon.start(self._daemon.find(name), by="outsider"))

    async def create(self, name: str, program: Program) -> None:
        await self._create(name, program, PLAIN)

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

    async def kill_daemon_and_start_it(self) -> None:
        kill_daemon(self._daemon)
        await anyio.sleep(1)
        start_daemon(self._daemon)

    async def restart_daemon(self) -> None:
        stop_daemon(self._daemon)
        await anyio.sleep(20)
        start_daemon(self._daemon)

    async def _do(self, act: Callable[[], Any]) -> None:
        await anyio.sleep(0.05)
        act()


class DockerOutsider:
    """The docker command line on a private engine."""

    def __init__(self, engine: PrivateEngine) -> None:
        self._engine = engine

    async def _cli(self, *arguments: str, check: bool = True) -> None:
        await anyio.to_thread.run_sync(lambda: self._engine.cli(*arguments, check=check))

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

    async def create(self, name: str, program: Program) -> None:
        await self._cli("create", "--name", name, BUSYBOX_IMAGE, *program.command())

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

    async def kill_daemon_and_start_it(self) -> None:
        await anyio.to_thread.run_sync(lambda: self._engine.restart(kill=True))

    async def restart_daemon(self) -> None:
        await anyio.to_thread.run_sync(lambda: self._engine.restart())


@dataclass(kw_only=True)
class Stage:
    """One engine, an outsider, and the recording of what was seen."""

    backend: ExecutionBackend
    outsider: Outsider
    image: str = BUSYBOX_IMAGE
    recording: list[str] = field(default_factory=list)
    _since: Instant = field(default=Instant(0))
    _known: dict[str, ContainerId] = field(default_factory=dict)

    async def begin(self) -> None:
        """From here on events count."""
        info = await self.backend.connect()
        assert info.system_time is not None
        self._since = after(info.system_time, 0.001)

    async def identify(self, name: str) -> ContainerId:
        """The id of a container that exists now; kept under that name."""
        self._known[name] = (await self.backend.inspect(name)).facts.id
        return self._known[name]

    async def until(self, name: str, *states: ContainerState) -> None:
        """Wait until an inspect shows one of the states."""
        await self._until(name, lambda seen: seen.state in states)

    async def _until(self, name: str, wanted: Callable[[Snapshot], bool]) -> None:
        with anyio.fail_after(PATIENCE_S):
            while not wanted(await self.backend.inspect(self._known.get(name, name))):  # noqa: ASYNC110  there is no other way to ask an engine
                await anyio.sleep(0.05)

    async def until_starts(self, name: str, count: int) -> None:
        """Wait until the engine's own policy has restarted it so often."""
        await self._until(name, lambda seen: seen.restart_count >= count)

    async def until_health(self, name: str, health: str) -> None:
        """Wait until an inspect shows that health."""
        await self._until(name, lambda seen: seen.health.value == health)

    async def until_gone(self, name: str) -> None:
        """Wait for a definite 404."""
        with anyio.fail_after(PATIENCE_S):
            try:
                while True:
                    await self.backend.inspect(self._known.get(name, name))
                    await anyio.sleep(0.05)
            except ContainerGone:
                return

    async def look(self, name: str) -> None:
        """Record an inspect, and the row of a list where there is one."""
        try:
            seen = await self.backend.inspect(self._known.get(name, name))
        except ContainerGone:
            self.recording.append(f"{name}: gone")
            return
        self.recording.append(f"{name}: {_told(seen)}")
        rows = [row for row in await self.backend.list_ours("agentd") if row.name == seen.facts.name]
        for row in rows:
            self.recording.append(f"{name} listed: {row.state}, exit {row.exit_code}, health {row.health}")

    async def attempt(self, what: str, act: Any) -> None:
        """Record how a request ended."""
        try:
            await act
        except EngineError as error:
            self.recording.append(f"{what}: {type(error).__name__}")
        else:
            self.recording.append(f"{what}: done")

    async def hear(self, *names: str) -> None:
        """Record all events since the beginning, container by container, from the ring."""
        info = await self.backend.connect()
        assert info.system_time is not None
        heard: dict[ContainerId, list[str]] = {}
        async with self.backend.events(since=self._since, until=after(info.system_time, 0.2)) as events:
            async for event in events:
                if isinstance(event, EngineEvent):
                    heard.setdefault(event.container, []).append(_words(event))
        for name in names or tuple(self._known):
            self.recording.append(f"{name} said: {' '.join(_ordered(heard.get(self._known[name], [])))}")


def _told(seen: Snapshot) -> str:
    return (
        f"{seen.state}, exit {seen.exit_code}, oom {seen.oom_killed}, error {bool(seen.error)}, health {seen.health}, "
        f"started {seen.started_at is not None}, finished {seen.finished_at is not None}, "
        f"restarts {seen.restart_count}, policy {seen.facts.engine_restart}, rm {seen.facts.auto_remove}, "
        f"probe {seen.facts.has_probe}"
    )


def _words(event: EngineEvent) -> str:
    told = (
        (event.exit_code, "exit={}"),
        (event.signal, "signal={}"),
        (event.health, "{}"),
        (event.old_name or None, "was={}"),
    )
    details = ",".join(form.format(value) for value, form in told if value is not None)
    return f"{event.action.value}({details})" if details else event.action.value


def _ordered(words: list[str]) -> list[str]:
    """Engines say some pairs in either order, and may repeat an `oom`: neither is part of the contract."""
    ordered: list[str] = []
    for word in words:
        if word == "oom" and "oom" in ordered[-2:]:
            continue
        ordered.append(word)
    for place in range(len(ordered) - 1):
        pair = {word.partition("(")[0] for word in ordered[place : place + 2]}
        if any(pair == unordered for unordered in _UNORDERED):
            ordered[place : place + 2] = sorted(ordered[place : place + 2])
    return ordered
