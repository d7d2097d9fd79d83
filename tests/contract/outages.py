"""What happens to the daemon, as scripts: killed, stopped in order, frozen; with and without live-restore.

Each asks the ring before and after, and listens across: what a daemon does not tell is as much a part of the contract
as what it does. Of a `--rm` container and of a probe under live-restore nothing is asked, because engines before 25
differ there: they remove the first and never probe the second again.
"""

from collections.abc import Mapping
from typing import Final

import anyio

from controller.model.container import EngineRestart
from tests.contract.outsiders import Options
from tests.contract.scripts import EXITED, OURS, PLAIN, Script
from tests.contract.stage import Stage
from tests.simulation.containers import Program

ALWAYS: Final = Options(labels=OURS, restart=EngineRestart.ALWAYS)
UNLESS_STOPPED: Final = Options(labels=OURS, restart=EngineRestart.UNLESS_STOPPED)
ON_FAILURE: Final = Options(labels=OURS, restart=EngineRestart.ON_FAILURE)
AUTO_REMOVE: Final = Options(labels=OURS, auto_remove=True)


async def run_all(stage: Stage, crew: Mapping[str, Options]) -> None:
    """Run them side by side, and record what is told of them."""
    async with anyio.create_task_group() as group:
        for name, options in crew.items():
            group.start_soon(stage.outsider.run, name, Program(), options)
    for name in crew:
        await stage.identify(name)
    await anyio.sleep(0.3)  # Until their shells have set their traps.
    await stage.hear()


async def look_at_all(stage: Stage, crew: Mapping[str, Options]) -> None:
    await stage.backend.connect()
    for name in crew:
        await stage.look(name)
    await stage.hear()


async def the_daemon_is_killed(stage: Stage) -> None:
    crew = {"always": ALWAYS, "unless": UNLESS_STOPPED, "auto": AUTO_REMOVE, "ends": ALWAYS, "paused": PLAIN}
    await run_all(stage, crew)
    await stage.outsider.pause("paused")
    async with stage.listening():
        await stage.outsider.kill_daemon()
        await stage.outsider.end_process("ends")
        await stage.outsider.start_daemon()
    await look_at_all(stage, crew)


async def the_daemon_stops_in_order(stage: Stage) -> None:
    # None with `--rm`: the daemon does not wait for its removal, so that its `destroy` may be told or not.
    crew = {"plain": PLAIN, "always": ALWAYS, "unless": UNLESS_STOPPED, "failed": ON_FAILURE}
    await run_all(stage, crew)
    # A daemon that starts does not mind that somebody had stopped it.
    await stage.outsider.stop("failed", grace_s=5)
    async with stage.listening():
        await stage.outsider.stop_daemon()
        await stage.outsider.start_daemon()
    await look_at_all(stage, crew)


async def the_daemon_is_killed_and_stops_and_containers_live_on(stage: Stage) -> None:
    crew = {"plain": PLAIN, "paused": PLAIN, "ends": PLAIN, "again": UNLESS_STOPPED}
    await run_all(stage, crew)
    await stage.outsider.pause("paused")
    async with stage.listening():
        await stage.outsider.kill_daemon()
        await stage.outsider.end_process("ends")
        await stage.outsider.end_process("again")
        await stage.outsider.start_daemon()
    await look_at_all(stage, crew)
    async with stage.listening():
        await stage.outsider.stop_daemon()
        await stage.outsider.end_process("again")
        await stage.outsider.start_daemon()
    await look_at_all(stage, crew)
    # The daemon has hold of them again.
    await stage.outsider.stop("plain", grace_s=5)
    await stage.outsider.unpause("paused")
    await look_at_all(stage, {"plain": PLAIN, "paused": PLAIN})


async def the_daemon_is_frozen(stage: Stage) -> None:
    crew = {"ends": PLAIN, "stopped": ALWAYS}
    await run_all(stage, crew)
    stopped = await stage.identify("stopped")
    async with stage.listening():
        await stage.outsider.freeze_daemon()
        try:
            await stage.outsider.end_process("ends")
            with anyio.move_on_after(0.3):
                await stage.attempt("stop", stage.backend.stop(stopped, grace_s=5))
        finally:
            await stage.outsider.thaw_daemon()
        await stage.until("ends", EXITED)
        await stage.until("stopped", EXITED)
        await anyio.sleep(0.2)
    await look_at_all(stage, crew)


OUTAGES: Final[tuple[Script, ...]] = (the_daemon_is_killed, the_daemon_stops_in_order, the_daemon_is_frozen)
LIVE_RESTORE: Final[tuple[Script, ...]] = (the_daemon_is_killed_and_stops_and_containers_live_on,)
