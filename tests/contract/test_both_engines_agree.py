"""The simulated engine shows what a real one shows: the same scripts on both, recording against recording.

What the simulation proves is worth as much as this comparison.
"""

import random
from collections.abc import Iterator
from typing import Final

import anyio
import pytest

from controller.engine.connection import Address
from controller.engine.docker import DockerBackend
from controller.engine.sketch import Owner
from tests.contract.outages import LIVE_RESTORE, OUTAGES
from tests.contract.outsiders import DockerOutsider, SimulatedOutsider
from tests.contract.scripts import SCRIPTS, Script
from tests.contract.stage import SCRIPT_LIMIT_S, Stage
from tests.contract.streams import STREAMS
from tests.simulation.daemon import Daemon, Traits
from tests.simulation.engine import SimulatedEngine, travel
from tests.simulation.exchange import Wire
from tests.simulation.faults import FaultMenu
from tests.simulation.loop import SimulatedLoop, live
from tests.simulation.timeline import Timeline
from tests.support import private_engine
from tests.support.private_engine import PrivateEngine

CASES: Final = (
    *((script, False) for script in (*SCRIPTS, *STREAMS, *OUTAGES)),
    *((script, True) for script in LIVE_RESTORE),
)
NAMES: Final = [script.__name__ for script, _ in CASES]


def simulated(script: Script, *, live_restore: bool) -> list[str]:
    timeline = Timeline()
    daemon = Daemon(timeline=timeline, rng=random.Random(1), traits=traits_of_20_10(live_restore=live_restore))
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


def traits_of_20_10(*, live_restore: bool) -> Traits:
    """The engine that is here to be compared with; what ended without it is still known to containerd."""
    return Traits(
        stop_first=0.0,
        oom_after_die=0.0,
        clean_stream_end=False,
        status_survives=1.0,
        live_restore=live_restore,
    )


@pytest.fixture(scope="module")
def engine() -> Iterator[PrivateEngine]:
    if missing := private_engine.missing():
        pytest.skip(missing)
    with PrivateEngine() as started:
        yield started


async def set_up(engine: PrivateEngine, *, live_restore: bool) -> None:
    """Empty, and started so."""
    await anyio.to_thread.run_sync(engine.remove_all)
    if engine.live_restore is not live_restore:
        engine.live_restore = live_restore
        await anyio.to_thread.run_sync(engine.restart)


async def really(script: Script, engine: PrivateEngine, *, live_restore: bool) -> list[str]:
    await set_up(engine, live_restore=live_restore)
    owner = Owner(prefix="agentd", controller_id=None, stop_grace_s=10)
    async with DockerBackend(address=Address(url=engine.url), owner=owner) as backend:
        stage = Stage(backend=backend, outsider=DockerOutsider(engine))
        with anyio.fail_after(SCRIPT_LIMIT_S):
            await stage.begin()
            await script(stage)
    return stage.recording


@pytest.mark.parametrize(("script", "live_restore"), CASES, ids=NAMES)
def test_each_script_plays_to_its_end_on_the_simulated_engine(script: Script, *, live_restore: bool) -> None:
    assert simulated(script, live_restore=live_restore)


@pytest.mark.docker
@pytest.mark.parametrize(("script", "live_restore"), CASES, ids=NAMES)
async def test_the_simulated_engine_shows_what_the_real_one_shows(
    script: Script, engine: PrivateEngine, *, live_restore: bool
) -> None:
    model = await anyio.to_thread.run_sync(lambda: simulated(script, live_restore=live_restore))
    assert model == await really(script, engine, live_restore=live_restore)
