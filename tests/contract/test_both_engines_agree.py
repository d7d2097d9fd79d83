"""The simulated engine shows what a real one shows: the same scripts on both, recording against recording.

What the simulation proves is worth as much as this comparison.
"""

import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest

from controller.engine.connection import Address
from controller.engine.docker import DockerBackend
from controller.engine.sketch import Owner
from tests.contract.scripts import SCRIPTS, Script
from tests.contract.stage import DockerOutsider, SimulatedOutsider, Stage
from tests.simulation.daemon import Daemon, Traits
from tests.simulation.engine import SimulatedEngine, travel
from tests.simulation.exchange import Wire
from tests.simulation.faults import FaultMenu
from tests.simulation.loop import SimulatedLoop, live
from tests.simulation.timeline import Timeline
from tests.support import private_engine
from tests.support.private_engine import PrivateEngine

SCRIPT_LIMIT_S = 60.0


def simulated(script: Script) -> list[str]:
    timeline = Timeline()
    daemon = Daemon(timeline=timeline, rng=random.Random(1), traits=Traits(stop_first=0.0, oom_after_die=0.0))
    daemon.missing_images.add("no-such")
    wire = Wire(daemon=daemon, rng=random.Random(2), menu=FaultMenu(rng=random.Random(3)))
    daemon.events.deliver = travel(wire)
    stage = Stage(backend=SimulatedEngine(wire), outsider=SimulatedOutsider(daemon))

    async def play() -> None:
        with anyio.fail_after(SCRIPT_LIMIT_S):
            await stage.begin()
            await script(stage)

    live(SimulatedLoop(timeline, seed="contract"), play)
    return stage.recording


@pytest.fixture(scope="module")
def engine() -> Iterator[PrivateEngine]:
    if missing := private_engine.missing():
        pytest.skip(missing)
    with PrivateEngine() as started:
        yield started


@pytest.fixture
async def backend(engine: PrivateEngine) -> AsyncIterator[DockerBackend]:
    engine.remove_all()
    owner = Owner(prefix="agentd", controller_id=None, stop_grace_s=10)
    async with DockerBackend(address=Address(url=engine.url), owner=owner) as opened:
        yield opened


async def really(script: Script, backend: Any, engine: PrivateEngine) -> list[str]:
    stage = Stage(backend=backend, outsider=DockerOutsider(engine))
    with anyio.fail_after(SCRIPT_LIMIT_S):
        await stage.begin()
        await script(stage)
    return stage.recording


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_each_script_plays_to_its_end_on_the_simulated_engine(script: Script) -> None:
    assert simulated(script)


@pytest.mark.docker
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
async def test_the_simulated_engine_shows_what_the_real_one_shows(
    script: Script, backend: DockerBackend, engine: PrivateEngine
) -> None:
    assert await anyio.to_thread.run_sync(simulated, script) == await really(script, backend, engine)
