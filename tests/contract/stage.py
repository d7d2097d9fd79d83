"""Where a contract script is played: the simulated engine in virtual time, or a real one.

A script sees the engine through `ExecutionBackend` only; what other people do to containers goes through an outsider,
who is the docker command line for the real engine. What was seen is kept in a recording without ids and times, so that
two recordings can be compared.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio.abc import TaskStatus

from controller.errors import ContainerGone, EngineError, EngineUnavailable
from controller.interfaces import ExecutionBackend
from controller.model.container import ContainerState, EngineEvent, Snapshot
from controller.model.ids import ContainerId
from controller.model.instant import Instant, after
from tests.contract.outsiders import Outsider, Unread
from tests.support.private_engine import BUSYBOX_IMAGE

PATIENCE_S = 20.0
SCRIPT_LIMIT_S = 60.0
MANY = 30
"""So many events of one container are told by their number, the first and the last."""
_UNORDERED = ({"die", "stop"}, {"die", "oom"}, {"oom"})


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
        heard: list[EngineEvent] = []
        async with self.backend.events(since=self._since, until=after(info.system_time, 0.2)) as events:
            async for event in events:
                if isinstance(event, EngineEvent):
                    heard.append(event)
        self._record(heard, "said", names)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Record what an open stream tells meanwhile, and how it ended."""
        info = await self.backend.connect()
        assert info.system_time is not None
        heard: list[EngineEvent] = []
        ended = ["is still open"]
        window = self.backend.events(since=info.system_time, until=after(info.system_time, SCRIPT_LIMIT_S))

        async def listen(*, task_status: TaskStatus[None]) -> None:
            try:
                async with window as events:
                    task_status.started()
                    async for event in events:
                        if isinstance(event, EngineEvent):
                            heard.append(event)
                ended[0] = "ended in order"
            except EngineUnavailable:
                ended[0] = "broke"

        async with anyio.create_task_group() as group:
            await group.start(listen)
            yield
            group.cancel_scope.cancel()
        self._record(heard, "said live", ())
        self.recording.append(f"the stream {ended[0]}")

    def unread(self) -> AbstractContextManager[Unread]:
        """A stream of renames that nobody reads."""
        return self.outsider.open_stream(since=self._since)

    def _record(self, heard: list[EngineEvent], how: str, names: tuple[str, ...]) -> None:
        for name in names or tuple(self._known):
            words = _ordered([_words(event) for event in heard if event.container == self._known[name]])
            if len(words) > MANY:
                words = [words[0], "...", words[-1], f"({len(words)} events)"]
            self.recording.append(f"{name} {how}: {' '.join(words)}")


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
