"""A small engine for the tests of the loops: containers, an event stream with a memory, and switches for trouble."""

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

import anyio
import anyio.lowlevel

from controller.errors import ContainerGone, EngineConflict, EngineError, EngineUnavailable
from controller.interfaces import BadLine, Clock, ContainerPlan, ExecutionBackend, StreamItem
from controller.loops.waiting import Bell
from controller.model.container import (
    ContainerFacts,
    ContainerState,
    EngineEvent,
    EngineInfo,
    EventAction,
    ListedContainer,
    LogTail,
    Snapshot,
)
from controller.model.ids import ContainerId, EngineId
from controller.model.instant import Instant, after
from controller.model.phase import Health

_RUNNING = (ContainerState.RUNNING, ContainerState.PAUSED)


@dataclass
class _Stream:
    items: list[StreamItem | None] = field(default_factory=list)
    is_dead: bool = False
    bell: Bell = field(default_factory=Bell)

    def push(self, item: StreamItem | None) -> None:
        self.items.append(item)
        self.bell.ring()


class FakeEngine(ExecutionBackend):
    """Containers by id. `sent` lists the changes that reached it, in order."""

    def __init__(self, clock: Clock, *, engine_id: str = "engine-1") -> None:
        self.clock = clock
        self.info = EngineInfo(
            id=EngineId(engine_id), name="docker", version="29.0.0", api_version="1.50", system_time=None
        )
        self.containers: dict[ContainerId, Snapshot] = {}
        self.memory: list[EngineEvent] = []
        self.sent: list[str] = []
        self.asked: list[str] = []
        self.down: EngineUnavailable | None = None
        """While set, nothing answers."""
        self.failing: dict[str, EngineError] = {}
        """By method: raised before anything happens."""
        self.unsure: dict[str, EngineError] = {}
        """By method: raised once, after it happened."""
        self.hanging: dict[str, None] = {}
        """Methods that never answer."""
        self.wedged: dict[str, None] = {}
        """Containers whose inspect never answers, by id."""
        self.plans: list[ContainerPlan] = []
        self.lines: tuple[str, ...] = ("last words",)
        self._streams: dict[int, _Stream] = {}
        self._count = 0
        self._last = 0
        self._ahead_s = 0.0

    # --- what a test does to it ---

    def add(
        self,
        name: str,
        *,
        labels: Mapping[str, str],
        state: ContainerState = ContainerState.RUNNING,
        exit_code: int | None = None,
        created_at: Instant | None = None,
    ) -> ContainerId:
        """A container that somebody made; no event tells of it."""
        container = self._new_id(name)
        now = self._tick()
        started = state is not ContainerState.CREATED
        self.containers[container] = Snapshot(
            facts=ContainerFacts(
                id=container, name=name, image="busybox", labels=dict(labels), created_at=created_at or now
            ),
            state=state,
            started_at=(created_at or now) if started else None,
            finished_at=now if exit_code is not None else None,
            exit_code=exit_code,
            health=Health.NONE if state is ContainerState.RUNNING else Health.UNKNOWN,
        )
        return container

    def emit(self, action: EventAction, container: ContainerId, **more: object) -> EngineEvent:
        """One event on every open stream, and in the memory."""
        snapshot = self.containers[container]
        event = EngineEvent(
            container=container,
            action=action,
            at=self._tick(),
            name=snapshot.facts.name,
            image=snapshot.facts.image,
            attributes=snapshot.facts.labels,
        )
        event = replace(event, **more)  # type: ignore[arg-type]
        self.remember(event)
        for stream in self._streams.values():
            stream.push(event)
        return event

    def remember(self, event: EngineEvent) -> None:
        """In the memory only: a stream that is open now does not show it."""
        self.memory.append(event)

    def set_clock(self, *, ahead_s: float) -> None:
        """Its clock shows that much more than the true time from now on."""
        self._ahead_s = ahead_s
        self._last = 0

    def run(self, container: ContainerId, *, told: bool = True) -> None:
        """Somebody starts it."""
        now = self._tick()
        self._change(container, state=ContainerState.RUNNING, started_at=now, exit_code=None, health=Health.NONE)
        if told:
            self.emit(EventAction.START, container)

    def exit(self, container: ContainerId, code: int, *, told: bool = True) -> None:
        """Its process ends."""
        now = self._tick()
        self._change(container, state=ContainerState.EXITED, finished_at=now, exit_code=code, health=Health.UNKNOWN)
        if told:
            self.emit(EventAction.DIE, container, exit_code=code)

    def pause(self, container: ContainerId) -> None:
        """Somebody pauses it."""
        self._change(container, state=ContainerState.PAUSED, health=Health.UNKNOWN)
        self.emit(EventAction.PAUSE, container)

    def unpause(self, container: ContainerId) -> None:
        """Somebody lets it go on."""
        self._change(container, state=ContainerState.RUNNING, health=Health.NONE)
        self.emit(EventAction.UNPAUSE, container)

    def destroy(self, container: ContainerId, *, told: bool = True) -> None:
        """It is removed."""
        if told:
            self.emit(EventAction.DESTROY, container)
        del self.containers[container]

    def send_bad_line(self, why: str = "not json") -> None:
        """Something that is no event."""
        for stream in self._streams.values():
            stream.push(BadLine(why=why))

    def cut(self) -> None:
        """Every open stream breaks."""
        for stream in self._streams.values():
            stream.push(None)

    def go_half_open(self) -> None:
        """Every open stream stays open, and says nothing more, its end included."""
        for stream in self._streams.values():
            stream.is_dead = True

    @property
    def open_streams_count(self) -> int:
        return len(self._streams)

    # --- EngineReader ---

    async def connect(self) -> EngineInfo:
        await self._called("connect")
        return replace(self.info, system_time=self._now())

    @asynccontextmanager
    async def events(self, *, since: Instant, until: Instant) -> AsyncIterator[AsyncIterator[StreamItem]]:
        await self._called("events")
        stream = _Stream(items=[event for event in self.memory if since <= event.at <= until])
        self._count += 1
        number = self._count
        self._streams[number] = stream
        try:
            yield self._read(stream, until)
        finally:
            del self._streams[number]

    async def _read(self, stream: _Stream, until: Instant) -> AsyncIterator[StreamItem]:
        while True:
            if stream.is_dead:
                await anyio.sleep_forever()
            while stream.items:
                item = stream.items.pop(0)
                if item is None:
                    raise EngineUnavailable("the stream was cut")
                yield item
            if self._now() >= until:
                return
            await stream.bell.wait(clock=self.clock, until=after(until, -self._ahead_s))

    async def list_ours(self, prefix: str) -> Sequence[ListedContainer]:
        await self._called("list_ours")
        return self._listed(lambda labels: labels.get("agentd.prefix") == prefix)

    async def list_external(self) -> Sequence[ListedContainer]:
        await self._called("list_external")
        return self._listed(lambda labels: "agentd.watch" in labels)

    async def inspect(self, container: ContainerId | str) -> Snapshot:
        await self._called("inspect")
        if container in self.wedged:
            await anyio.Event().wait()
        return self._find(container)

    # --- EngineWriter ---

    async def create(self, plan: ContainerPlan) -> ContainerId:
        await self._called("create")
        if any(snapshot.facts.name == plan.name for snapshot in self.containers.values()):
            raise EngineConflict(f"the name {plan.name} is in use")
        self.plans.append(plan)
        self.sent.append(f"create {plan.name}")
        container = self.add(plan.name, labels=plan.labels, state=ContainerState.CREATED)
        self.emit(EventAction.CREATE, container)
        self._unsure("create")
        return container

    async def start(self, container: ContainerId) -> None:
        await self._called("start")
        snapshot = self._find(container)
        self.sent.append(f"start {snapshot.facts.name}")
        if snapshot.state not in _RUNNING:
            self.run(container)
        self._unsure("start")

    async def stop(self, container: ContainerId, *, grace_s: float) -> None:
        await self._called("stop")
        snapshot = self._find(container)
        self.sent.append(f"stop {snapshot.facts.name} {grace_s:g}")
        if snapshot.state in _RUNNING:
            self.emit(EventAction.KILL, container, signal=15)
            self.exit(container, 0)
            self.emit(EventAction.STOP, container)
        self._unsure("stop")

    async def remove(self, container: ContainerId) -> None:
        await self._called("remove")
        snapshot = self._find(container)
        if snapshot.state in _RUNNING:
            raise EngineConflict("it runs")
        self.sent.append(f"remove {snapshot.facts.name}")
        self.destroy(container)
        self._unsure("remove")

    # --- ContainerLogs and the sketch ---

    async def tail(
        self, container: ContainerId, *, lines: int, max_bytes: int, since: Instant | None, until: Instant | None
    ) -> LogTail:
        await self._called("tail")
        return LogTail(lines=self.lines[-lines:], truncated=False)

    @asynccontextmanager
    async def follow(self, container: ContainerId, *, lines: int) -> AsyncIterator[AsyncIterator[str]]:
        await self._called("follow")

        async def read() -> AsyncIterator[str]:
            for line in self.lines[-lines:]:
                yield line

        yield read()

    async def list_sessions(self) -> Sequence[str]:
        return [snapshot.facts.name for snapshot in self.containers.values()]

    async def stop_session(self, name: str) -> None:
        await self.stop(self._find(name).facts.id, grace_s=10)

    # --- inside ---

    async def _called(self, method: str) -> None:
        self.asked.append(method)
        await anyio.lowlevel.checkpoint()
        if method in self.hanging:
            await anyio.Event().wait()
        if self.down is not None:
            raise self.down
        if method in self.failing:
            raise self.failing[method]

    def _unsure(self, method: str) -> None:
        if method in self.unsure:
            raise self.unsure.pop(method)

    def _find(self, container: str) -> Snapshot:
        for snapshot in self.containers.values():
            if container in (snapshot.facts.id, snapshot.facts.name) or (
                len(container) >= 12 and snapshot.facts.id.startswith(container)
            ):
                return snapshot
        raise ContainerGone(f"no such container: {container}")

    def _listed(self, wanted: "_Wanted") -> list[ListedContainer]:
        return [
            ListedContainer(
                id=snapshot.facts.id,
                name=snapshot.facts.name,
                image=snapshot.facts.image,
                labels=snapshot.facts.labels,
                state=snapshot.state,
                created_at=snapshot.facts.created_at,
                exit_code=snapshot.exit_code,
                health=Health.UNKNOWN,
            )
            for snapshot in self.containers.values()
            if wanted(snapshot.facts.labels)
        ]

    def _change(self, container: ContainerId, **more: object) -> None:
        self.containers[container] = replace(self.containers[container], **more)  # type: ignore[arg-type]

    def _new_id(self, name: str) -> ContainerId:
        self._count += 1
        return ContainerId(hashlib.sha256(f"{name}/{self._count}".encode()).hexdigest())

    def _tick(self) -> Instant:
        """The engine's clock: no two events have the same time while it is not set."""
        self._last = max(self._now(), self._last + 1_000)
        return Instant(self._last)

    def _now(self) -> Instant:
        return after(self.clock.now(), self._ahead_s)


class _Wanted(Protocol):
    def __call__(self, labels: Mapping[str, str]) -> bool: ...
