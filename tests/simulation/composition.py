"""One life of the real program: `controller.app.run_core` on the real ledger code, everything outside it simulated."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import anyio

from controller import app
from controller.api.server import build_app
from controller.app import run_core
from controller.interfaces import Condition, Feed, Requests
from controller.loops.program import Program
from controller.store.ledger import open_ledger
from tests.simulation.clock import SimulatedClock, SimulatedRng
from tests.simulation.engine import SimulatedEngine
from tests.simulation.http_edge import HttpEdge, WishedIds
from tests.simulation.sqlite import connector
from tests.simulation.wishes import Counter

if TYPE_CHECKING:
    from tests.simulation.world import World


class NotedProgram(Program):
    """The program, where the judges can look at its queues."""

    @classmethod
    async def load(cls, **named: Any) -> Self:
        program = await super().load(**named)
        if isinstance(named["log"], TraceLog):
            named["log"].world.program = program
        return program


class TraceLog:
    """The program's own lines, for the trace; transitions are read from the journal instead."""

    def __init__(self, world: "World") -> None:
        self.world = world

    def info(self, event: str, **fields: object) -> None:
        if "seq" not in fields:
            self._say("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        self._say("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        self._say("error", event, fields)

    def _say(self, level: str, event: str, fields: dict[str, object]) -> None:
        self.world.tell(f"log {level}: {event} {fields or ''}")


async def run_controller(world: "World", clock: SimulatedClock, signal: anyio.Event) -> int:
    """From opening the ledger to closing it. Returns the exit code; raises what ends the program at once."""
    rng = SimulatedRng(f"{world.seed}/controller {world.lives}")
    engine = SimulatedEngine(world.wire, life=world.lives)
    async with open_ledger(world.path, clock=clock, rng=rng, connect=connector(world.disk), hold=world.hold) as ledger:

        @asynccontextmanager
        async def open_counter(requests: Requests, condition: Condition, feed: Feed) -> AsyncIterator[None]:
            build = partial(
                build_app,
                settings=world.knobs.settings,
                ledger=ledger,
                requests=requests,
                condition=condition,
                feed=feed,
                logs=engine,
                clock=clock,
                rng=WishedIds(SimulatedRng(f"{world.seed}/edge {world.lives}")),
            )
            counter = Counter(edge=HttpEdge(build), requests=requests, ledger=ledger)
            async with anyio.create_task_group() as group:
                group.start_soon(world.serve_wishes, counter, clock)
                yield
                group.cancel_scope.cancel()

        vars(app)["Program"] = NotedProgram
        return await run_core(
            settings=world.knobs.settings,
            ledger=ledger,
            engine=engine,
            clock=clock,
            rng=rng,
            environment={},
            shutdown=signal,
            log=TraceLog(world),
            serve=open_counter,
        )
