"""A second controller in the same world: on the same engine with a prefix and a ledger of its own, or before a lock.

It is the real program, too. What each of the two does to the other's containers is judged in the moment before it
leaves; on the same ledger the second one has to stay out.
"""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import anyio

from controller.app import run_core
from controller.core.specs import spec_hash
from controller.errors import LedgerBusy
from controller.interfaces import Condition, Feed, Requests
from controller.model.ids import ContainerId, SessionId, SessionName
from controller.model.observation import SessionRequested
from controller.model.spec import SessionSpec
from controller.store.ledger import open_ledger
from tests.simulation.clock import SimulatedClock, SimulatedRng
from tests.simulation.engine import SimulatedEngine
from tests.simulation.exchange import CHANGES, Request, Wire
from tests.simulation.faults import FaultMenu
from tests.simulation.sqlite import Disk, connector

if TYPE_CHECKING:
    from tests.simulation.world import World

PREFIX: Final = "other"
_ASKED: Final = SessionId("f" * 32)


class NoLog:
    """What it says interests nobody."""

    def info(self, event: str, **fields: object) -> None:
        del event, fields

    warning = error = info


def judge(world: "World", request: Request) -> None:
    """S7, from the other side: it changes nothing that is not its own."""
    container = world.daemon.containers.get(ContainerId(request.container))
    mine = request.container.startswith(f"{PREFIX}-") if container is None else is_neighbours(container.labels)
    gone = container is None and request.kind != "create"
    if request.kind in CHANGES and not mine and not gone:
        world.violated("S7", f"the other controller wants to {request.kind} {request.container[:20]}")


def is_neighbours(labels: dict[str, str]) -> bool:
    """Whether a container carries the other controller's prefix."""
    return labels.get("agentd.prefix") == PREFIX


async def beside(world: "World", clock: SimulatedClock, spec: SessionSpec) -> None:
    """One life of a controller with another prefix and another ledger, which wants a session of the same name."""
    rng = SimulatedRng(f"{world.seed}/neighbour {world.lives}")
    dice = world.dice(f"neighbour {world.lives}")
    wire = Wire(daemon=world.daemon, rng=dice, menu=FaultMenu(rng=random.Random(0)), latency_s=0.003)
    wire.before_request = lambda request: judge(world, request)
    path = world.folder / "neighbour.db"
    disk = Disk(rng=dice)
    async with open_ledger(
        path, clock=clock, rng=rng, connect=connector(disk), hold=lambda *_: nullcontext()
    ) as ledger:

        @asynccontextmanager
        async def open_counter(requests: Requests, condition: Condition, feed: Feed) -> AsyncIterator[None]:
            del condition, feed

            async def ask() -> None:
                meta = await ledger.meta()
                wanted = SessionRequested(
                    session_id=_ASKED,
                    name=SessionName("one"),
                    spec=spec,
                    spec_hash=spec_hash(spec, meta.key),
                    start=True,
                    actor="user:neighbour",
                    observed_at=clock.now(),
                )
                await requests.create(wanted)

            async with anyio.create_task_group() as group:
                group.start_soon(ask)
                yield
                group.cancel_scope.cancel()

        await run_core(
            settings=replace(world.knobs.settings, prefix=PREFIX, db=str(path)),
            ledger=ledger,
            engine=SimulatedEngine(wire, prefix=PREFIX, life=world.lives),
            clock=clock,
            rng=rng,
            environment={},
            shutdown=anyio.Event(),
            log=NoLog(),
            serve=open_counter,
        )


async def before_the_lock(world: "World", clock: SimulatedClock) -> None:
    """S9: whoever comes second to a ledger is told so, and changes nothing."""
    await anyio.sleep(5.0)
    rng = SimulatedRng(f"{world.seed}/second {world.lives}")
    before = world.oracle.query("SELECT count(*) FROM journal")
    try:
        async with open_ledger(
            world.path, clock=clock, rng=rng, connect=connector(Disk(rng=random.Random(0))), hold=world.hold
        ):
            world.violated("S9", "two controllers have one ledger")
    except LedgerBusy:
        world.count("stayed out")
    if before != world.oracle.query("SELECT count(*) FROM journal"):
        world.violated("S9", "the one that stayed out has written")
