"""The client's side of the simulated engine: an `ExecutionBackend` in virtual time, with faults on the way.

One backend is one life of the controller; how one request travels is `exchange.py`. Errors are those of
`controller.errors`, as the real adapter's are.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar, cast

import anyio

from controller.errors import ContainerGone, EngineError, EngineUnavailable
from controller.interfaces import BadLine, ContainerPlan, ExecutionBackend, StreamItem
from controller.model.container import EngineEvent, EngineInfo, ListedContainer, LogTail, Snapshot
from controller.model.ids import ContainerId
from controller.model.instant import Instant
from controller.model.phase import Health
from controller.model.sketch import SessionExitInfo, SessionHealth
from tests.simulation.containers import Container, Probe, Status, listed, shown_health, snapshot
from tests.simulation.daemon import Done
from tests.simulation.exchange import Wire, call
from tests.simulation.loop import SimulatedLoop
from tests.simulation.stream import Reader, StreamEnd

T = TypeVar("T")
OVERDUE_S = 15.0
EARLY_S = 2.0
LATE_S = 1.0
"""An event that takes longer to arrive than this has been held up."""
PROBED = "probed"
"""An image that brings its own health check."""


class SimulatedEngine(ExecutionBackend):
    """What one life of the controller sees of the engine."""

    def __init__(self, wire: Wire, *, prefix: str = "agentd", life: int = 1) -> None:
        self._wire = wire
        self._daemon = wire.daemon
        self._prefix = prefix
        self._life = life

    async def _ask(self, kind: str, limit_s: float, question: Callable[[], T], *, target: str = "") -> T:
        def effect(done: Done) -> None:
            done(question())

        answer = await call(self._wire, kind, effect, limit_s=limit_s, target=target, life=self._life)
        return cast(T, answer)

    # --- questions -------------------------------------------------------------------------------------------------

    async def connect(self) -> EngineInfo:
        traits, daemon = self._daemon.traits, self._daemon

        def info() -> EngineInfo:
            return EngineInfo(
                id=traits.id,
                name="docker",
                version=traits.version,
                api_version="1.51",
                system_time=daemon.clock(),
                live_restore=traits.live_restore,
            )

        return await self._ask("connect", self._wire.limits.info_s, info)

    @asynccontextmanager
    async def events(self, *, since: Instant, until: Instant) -> AsyncIterator[AsyncIterator[StreamItem]]:
        daemon = self._daemon
        opened: list[Reader] = []
        given_up: list[bool] = []
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)

        def subscribe() -> Reader:
            opened.append(daemon.events.subscribe(since=since, until=until))
            if given_up or loop.dead:
                daemon.events.close(opened[-1])
            return opened[-1]

        try:
            reader = await self._ask("events", self._wire.limits.head_s, subscribe)
        except BaseException:
            # Whoever gives up closes the connection, and the engine notices, even when the request comes after that.
            given_up.append(True)
            for one in opened:
                daemon.events.close(one)
            raise
        ends = daemon.timeline.after(
            max(0.0, (until - daemon.clock()) / 1e9), lambda: reader.end(None) if not daemon.frozen else None
        )
        try:
            yield self._read(reader)
        finally:
            ends.call_off()
            daemon.events.close(reader)

    async def _read(self, reader: Reader) -> AsyncIterator[StreamItem]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        woken = asyncio.Event()
        reader.wake = woken.set
        overdue = max(0.0, (reader.until - self._daemon.clock()) / 1e9) + OVERDUE_S
        gives_up = loop.time() + overdue
        while True:
            while reader.items:
                item = reader.items.popleft()
                if not isinstance(item, StreamEnd):
                    yield item
                elif item.cause is not None:
                    raise EngineUnavailable(item.cause)
                elif (reader.until - self._daemon.clock()) / 1e9 > EARLY_S:
                    raise EngineUnavailable("the engine ended the event stream before its time")
                else:
                    return
            woken.clear()
            try:
                with anyio.fail_after(max(0.0, gives_up - loop.time())):
                    await woken.wait()
            except TimeoutError:
                raise EngineUnavailable("the event stream is overdue") from None

    async def list_ours(self, prefix: str) -> Sequence[ListedContainer]:
        return await self._list("list ours", lambda labels: labels.get("agentd.prefix") == prefix)

    async def list_external(self) -> Sequence[ListedContainer]:
        return await self._list("list external", lambda labels: "agentd.watch" in labels)

    async def _list(self, kind: str, wanted: Callable[[dict[str, str]], bool]) -> Sequence[ListedContainer]:
        def rows() -> list[ListedContainer]:
            rows = [listed(one) for one in self._daemon.containers.values() if wanted(one.labels)]
            return self._wire.listed(kind, rows)

        return await self._ask(kind, self._wire.limits.list_s, rows)

    async def inspect(self, container: ContainerId | str) -> Snapshot:
        return await self._ask(
            "inspect",
            self._wire.limits.inspect_s,
            lambda: snapshot(self._daemon.find(container)),
            target=str(container),
        )

    # --- changes ---------------------------------------------------------------------------------------------------

    async def create(self, plan: ContainerPlan) -> ContainerId:
        def effect() -> ContainerId:
            return self._daemon.create(
                name=plan.name,
                image=plan.image,
                command=tuple(plan.command),
                labels=dict(plan.labels),
                memory_bytes=plan.memory_bytes,
                probe=Probe(interval_s=2.0) if plan.image == PROBED else None,
            )

        return await self._ask("create", self._wire.limits.create_s, effect, target=plan.name)

    async def start(self, container: ContainerId) -> None:
        def effect() -> None:
            self._daemon.start(self._daemon.find(container))

        await self._ask("start", self._wire.limits.start_s, effect, target=container)

    async def stop(self, container: ContainerId, *, grace_s: float) -> None:
        def effect(done: Done) -> None:
            self._daemon.stop(self._daemon.find(container), grace_s=grace_s, done=done)

        limit = grace_s + self._wire.limits.stop_extra_s
        await call(self._wire, "stop", effect, limit_s=limit, target=container, life=self._life)

    async def remove(self, container: ContainerId) -> None:
        def effect(done: Done) -> None:
            self._daemon.remove_in_time(self._daemon.find(container), done=done)

        await call(self._wire, "remove", effect, limit_s=self._wire.limits.remove_s, target=container, life=self._life)

    # --- logs, and the sketch's operations -------------------------------------------------------------------------

    async def tail(
        self, container: ContainerId, *, lines: int, max_bytes: int, since: Instant | None, until: Instant | None
    ) -> LogTail:
        def read() -> LogTail:
            found = tuple(self._daemon.find(container).lines[-lines:])
            return LogTail(lines=found, truncated=False)

        try:
            return await self._ask("logs", self._wire.limits.logs_s, read, target=container)
        except ContainerGone:
            return LogTail(lines=(), truncated=False, absent="container gone")
        except EngineError:
            return LogTail(lines=(), truncated=False, absent="could not ask")

    @asynccontextmanager
    async def follow(self, container: ContainerId, *, lines: int) -> AsyncIterator[AsyncIterator[str]]:
        found = self._daemon.find(container)

        async def told() -> AsyncIterator[str]:
            for line in found.lines[-lines:]:
                yield line

        yield told()

    def _session(self, name: str) -> Container | None:
        return self._daemon.named(f"{self._prefix}-{name}")

    async def session_health(self, name: str) -> SessionHealth:
        container = self._session(name)
        if container is None or container.status is not Status.RUNNING:
            return SessionHealth.UNKNOWN
        health = shown_health(container)
        return SessionHealth.HEALTHY if health is Health.NONE else SessionHealth(health.value)

    async def session_exit_info(self, name: str) -> SessionExitInfo | None:
        container = self._session(name)
        if container is None or (container.status is not Status.EXITED and not container.error):
            return None
        return SessionExitInfo(
            exit_code=container.exit_code,
            oom_killed=container.oom_killed,
            error=container.error,
            finished_at=container.finished_at,
        )

    async def list_sessions(self) -> Sequence[str]:
        prefix = f"{self._prefix}-"
        return [row.name.removeprefix(prefix) for row in await self.list_ours(self._prefix)]

    async def stop_session(self, name: str) -> None:
        container = self._session(name)
        if container is not None:
            await self.stop(container.id, grace_s=10.0)

    async def shutdown_all_sessions(self) -> None:
        for name in await self.list_sessions():
            await self.stop_session(name)


def travel(wire: Wire) -> Callable[[Reader, EngineEvent], None]:
    """How events reach a reader: after a moment, in order; or dropped, doubled, delayed, swapped, spoilt."""
    menu, timeline = wire.menu, wire.daemon.timeline

    def deliver(reader: Reader, event: EngineEvent) -> None:
        menu.events += 1
        if menu.strikes("dropped", menu.drop):
            return
        spoilt = menu.strikes("bad line", menu.bad_line)
        when = timeline.now + wire.wait()
        if spoilt:
            reader.last_arrival = max(when, reader.last_arrival)
            timeline.at(reader.last_arrival, lambda: reader.put(BadLine(why="not json")))
            return
        if menu.strikes("delayed", menu.delay):
            when += menu.rng.uniform(0, menu.delay_s)
        swapped = menu.strikes("swapped", menu.swap)
        if not swapped:
            when = reader.last_arrival = max(when, reader.last_arrival)

        is_late = swapped or when - timeline.now > LATE_S

        def arrive() -> None:
            if is_late and reader.ended:
                menu.lost_on_the_way.append((event.container, event.at))
            reader.put(event)

        timeline.at(when, arrive)
        if menu.strikes("doubled", menu.double):
            timeline.at(when + wire.wait(), lambda: reader.put(event))

    return deliver
