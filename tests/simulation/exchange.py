"""One request on its way to the simulated engine and back, and all that can happen to it on the way.

A request that was sent goes on without its sender: the engine acts even when the caller has been cancelled or killed
meanwhile. That is why its steps are appointments of the timeline and no part of the caller's task.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.lowlevel

from controller.engine.limits import TimeLimits
from controller.errors import EngineError, EngineUnavailable
from controller.model.ids import ContainerId
from tests.simulation.containers import Status
from tests.simulation.daemon import Daemon, Done
from tests.simulation.faults import Fault, FaultMenu
from tests.simulation.loop import SimulatedLoop

Effect = Callable[[Done], None]
"""What a request does at the engine; it hands its answer (a value or an EngineError) over when it has one."""
CHANGES = ("create", "start", "stop", "remove")


@dataclass(kw_only=True)
class Request:
    """One request that the engine was sent, for the oracle."""

    at: float
    life: int
    kind: str
    container: str
    """Its id; the name for a create."""
    fault: Fault
    acted_at: float | None = None
    """When the engine did it; None when it never got that far."""
    action: str = ""
    """The action in the ledger that it belongs to, and why it was decided: filled in by the oracle."""
    reason: str = ""


@dataclass(kw_only=True)
class Wire:
    """The connection between all lives of a controller and one daemon."""

    daemon: Daemon
    rng: random.Random
    menu: FaultMenu
    limits: TimeLimits = field(default_factory=TimeLimits)
    latency_s: float = 0.002
    requests: list[Request] = field(default_factory=list)
    """Those that change the engine, oldest first."""
    connects: list[float] = field(default_factory=list)
    """When the engine was asked who it is."""
    before_request: "Callable[[Request], None]" = lambda request: None
    """Called before anything is sent: for the oracle, and to kill the controller at this boundary."""
    after_effect: "Callable[[Request], None]" = lambda request: None
    """Called once the engine has acted, before its answer sets out."""

    lists: "list[tuple[str, object]] | None" = None
    """Every list that was answered, where somebody wants to know: its kind, and its rows."""
    stale_lists: dict[int, int] = field(default_factory=dict)
    """Number of a list -> the earlier one whose rows are answered instead: for the complete runs."""

    def listed(self, kind: str, rows: list[Any]) -> list[Any]:
        """A list as it is answered: as the engine has it, or as it once had it."""
        if self.lists is None:
            return rows
        earlier = self.stale_lists.get(len(self.lists))
        self.lists.append((kind, rows))
        answered: Any = rows if earlier is None else self.lists[earlier][1]
        return list(answered)

    def wait(self) -> float:
        """Seconds for one way."""
        return self.rng.expovariate(1 / self.latency_s)


class Exchange:
    """One request and its answer."""

    def __init__(self, wire: Wire, request: Request, effect: Effect, *, limit_s: float) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        self._wire = wire
        self._daemon = wire.daemon
        self._timeline = wire.daemon.timeline
        self._request = request
        self._effect = effect
        self._limit_s = limit_s
        self._loop = loop
        self._answer: asyncio.Future[object] = loop.create_future()

    async def answer(self) -> object:
        """Send, wait for the answer, give up at the limit."""
        late = self._request.fault is Fault.LATE
        self._daemon.on_down.append(self._reset)
        self._timeline.after(self._limit_s * 1.1 if late else self._wire.wait(), self._arrive)
        try:
            with anyio.fail_after(self._limit_s):
                reply = await self._answer
        except TimeoutError:
            raise EngineUnavailable(f"no answer within {self._limit_s:g} s") from None
        finally:
            self._forget()
        if isinstance(reply, EngineError):
            raise reply
        return reply

    def _arrive(self) -> None:
        """The request reaches the engine."""
        fault = self._request.fault
        if self._daemon.frozen:
            self._daemon.on_thaw.append(self._arrive)
        elif not self._daemon.up:
            self._reset()
        elif fault is Fault.ERROR:
            self._settle(EngineUnavailable("500: something went wrong"))
        elif fault is not Fault.HANG:
            self._meddle()
            self._act()

    def _act(self) -> None:
        self._request.acted_at = self._timeline.now
        try:
            self._effect(self._reply)
        except EngineError as error:
            self._reply(error)

    def _reply(self, reply: object) -> None:
        """The engine has acted; its answer sets out."""
        fault = self._request.fault
        self._wire.after_effect(self._request)
        if fault is Fault.PARTIAL and isinstance(reply, list):
            reply = [row for row in reply if self._wire.rng.random() < 0.5]
        if fault is Fault.LOST_REPLY:
            self._reset()
        else:
            wait = self._limit_s * 0.9 if fault is Fault.STALE else self._wire.wait()
            self._timeline.after(wait, lambda: self._settle(reply))

    def _reset(self) -> None:
        self._settle(EngineUnavailable("connection reset by peer"))

    def _settle(self, reply: object) -> None:
        self._forget()
        if not self._loop.dead and not self._answer.done():
            self._answer.set_result(reply)

    def _forget(self) -> None:
        if self._reset in self._daemon.on_down:
            self._daemon.on_down.remove(self._reset)

    def _meddle(self) -> None:
        """Somebody is faster: the honest causes of a 404 and a 409."""
        kind, fault, target = self._request.kind, self._request.fault, self._request.container
        if fault is Fault.CONFLICT and kind == "create" and self._daemon.named(target) is None:
            self._daemon.create(name=target, image="squatter", by="outsider")
        container = self._daemon.containers.get(ContainerId(target))
        if container is None:
            return
        if fault is Fault.GONE:
            self._daemon.remove(container, force=True, by="outsider")
        elif fault is Fault.CONFLICT and kind == "remove" and not container.running:
            with contextlib.suppress(EngineError):  # Its program may be one that never starts.
                self._daemon.start(container, by="outsider")
        elif fault is Fault.CONFLICT and kind == "start" and container.status is Status.RUNNING:
            self._daemon.pause(container)


async def call(wire: Wire, kind: str, effect: Effect, *, limit_s: float, target: str = "", life: int = 1) -> object:
    """One request, unless the process is dead or nobody listens."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimulatedLoop)
    if loop.dead:
        raise EngineUnavailable("this process is dead", request_sent=False)
    if kind == "connect":
        wire.connects.append(wire.daemon.timeline.now)
    fault = wire.menu.of_call(kind)
    request = Request(at=wire.daemon.timeline.now, life=life, kind=kind, container=target, fault=fault)
    wire.before_request(request)
    if loop.crashing:
        await anyio.lowlevel.checkpoint()
    if fault is Fault.REFUSED or not wire.daemon.up or wire.daemon.stopping:
        await anyio.sleep(wire.wait())
        raise EngineUnavailable("connection refused", request_sent=False)
    if kind in CHANGES:
        wire.requests.append(request)
    return await Exchange(wire, request, effect, limit_s=limit_s).answer()
