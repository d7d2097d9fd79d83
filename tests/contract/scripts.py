"""What happens to containers, as scripts that run on any engine. Each records what an engine shows of it."""

from collections.abc import Awaitable, Callable
from typing import Final

import anyio

from controller.interfaces import ContainerPlan
from controller.model.container import ContainerState, EngineRestart
from controller.model.spec import NetworkPolicy
from tests.contract.outsiders import Options
from tests.contract.stage import Stage
from tests.simulation.containers import Probe, Program

OURS: Final = {"agentd.prefix": "agentd"}
PLAIN: Final = Options(labels=OURS)
EXITED: Final = ContainerState.EXITED
Script = Callable[[Stage], Awaitable[None]]


def plan(stage: Stage, name: str, program: Program, *, image: str = "") -> ContainerPlan:
    return ContainerPlan(
        name=name,
        image=image or stage.image,
        command=program.command(),
        env={},
        labels=OURS,
        memory_bytes=64 * 1024**2,
        cpus=1,
        mounts=(),
        workdir=None,
        network_policy=NetworkPolicy.HOST_NETWORK,
        stop_grace_s=10,
    )


async def our_container_from_create_to_remove(stage: Stage) -> None:
    container = await stage.backend.create(plan(stage, "first", Program(runs_s=0.3, code=3)))
    await stage.identify("first")
    await stage.look("first")
    await stage.attempt("start", stage.backend.start(container))
    await stage.until("first", EXITED)
    await stage.look("first")
    await stage.attempt("stop of a stopped one", stage.backend.stop(container, grace_s=1))
    await stage.attempt("remove", stage.backend.remove(container))
    await stage.look("first")
    await stage.attempt("remove again", stage.backend.remove(container))
    await stage.attempt("stop of a removed one", stage.backend.stop(container, grace_s=1))
    await stage.attempt("start of a removed one", stage.backend.start(container))
    await stage.hear()


async def our_stop_in_time_and_start_again(stage: Stage) -> None:
    container = await stage.backend.create(plan(stage, "first", Program(term_code=0)))
    await stage.identify("first")
    await stage.backend.start(container)
    await stage.attempt("start of a started one", stage.backend.start(container))
    await anyio.sleep(0.5)
    await stage.attempt("remove of a running one", stage.backend.remove(container))
    await stage.attempt("stop", stage.backend.stop(container, grace_s=5))
    await stage.look("first")
    await stage.attempt("start", stage.backend.start(container))
    await stage.look("first")
    await stage.hear()


async def our_stop_of_one_that_does_not_listen(stage: Stage) -> None:
    container = await stage.backend.create(plan(stage, "first", Program(ends_after_term_s=None)))
    await stage.identify("first")
    await stage.backend.start(container)
    await anyio.sleep(0.3)
    await stage.attempt("stop", stage.backend.stop(container, grace_s=1))
    await stage.look("first")
    await stage.hear()


async def our_start_that_cannot_work(stage: Stage) -> None:
    container = await stage.backend.create(plan(stage, "first", Program(start_fails=True)))
    await stage.identify("first")
    await stage.attempt("create with a taken name", stage.backend.create(plan(stage, "first", Program())))
    await stage.attempt("create from no image", stage.backend.create(plan(stage, "second", Program(), image="no-such")))
    await stage.look("first")
    await stage.attempt("remove", stage.backend.remove(container))
    await stage.hear()


async def a_start_that_fails(stage: Stage) -> None:
    await stage.outsider.run("first", Program(start_fails=True), PLAIN)
    await stage.identify("first")
    await stage.look("first")
    await stage.hear()


async def a_start_that_fails_after_a_run(stage: Stage) -> None:
    policy = Options(labels=OURS, restart=EngineRestart.ON_FAILURE, restart_limit=3)
    await stage.outsider.run("first", Program(runs_s=0.2, code=3, runs_once=True), PLAIN)
    await stage.outsider.run("second", Program(runs_s=0.2, code=5, runs_once=True), policy)
    await stage.identify("first")
    await stage.identify("second")
    await stage.until("first", EXITED)
    await stage.outsider.start("first")
    await stage.look("first")
    # This one is started again by the engine itself.
    await stage.until("second", EXITED)
    await stage.look("second")
    await stage.hear()


async def a_clean_exit(stage: Stage) -> None:
    await stage.outsider.run("first", Program(runs_s=0.3), PLAIN)
    await stage.identify("first")
    await stage.until("first", EXITED)
    await stage.look("first")
    await stage.hear()


async def an_exit_with_a_label_that_lies(stage: Stage) -> None:
    await stage.outsider.run("first", Program(runs_s=0.3, code=7), Options(labels={**OURS, "exitCode": "0"}))
    await stage.identify("first")
    await stage.until("first", EXITED)
    await stage.look("first")
    await stage.hear()


async def somebody_stops_it(stage: Stage) -> None:
    await stage.outsider.run("first", Program(), PLAIN)
    await stage.identify("first")
    await anyio.sleep(0.3)
    await stage.outsider.stop("first", grace_s=5)
    await stage.look("first")
    await stage.hear()


async def somebody_kills_it(stage: Stage) -> None:
    await stage.outsider.run("first", Program(), PLAIN)
    await stage.identify("first")
    await anyio.sleep(0.3)
    await stage.outsider.kill("first", 1)
    await stage.look("first")
    await stage.outsider.kill("first", 9)
    await stage.until("first", EXITED)
    await stage.look("first")
    await stage.hear()


async def somebody_restarts_it(stage: Stage) -> None:
    await stage.outsider.run("first", Program(), PLAIN)
    await stage.identify("first")
    await anyio.sleep(0.3)
    await stage.outsider.restart("first", grace_s=2)
    await stage.look("first")
    await stage.hear()


async def somebody_pauses_it_and_stops_or_kills_it_paused(stage: Stage) -> None:
    await stage.outsider.run("first", Program(), PLAIN)
    await stage.identify("first")
    await anyio.sleep(0.3)
    await stage.outsider.pause("first")
    await stage.until("first", ContainerState.PAUSED)
    await stage.look("first")
    await stage.outsider.unpause("first")
    await stage.until("first", ContainerState.RUNNING)
    await stage.look("first")
    await stage.outsider.pause("first")
    await stage.outsider.stop("first", grace_s=5)
    await stage.look("first")
    await stage.outsider.start("first")
    await stage.outsider.pause("first")
    await stage.outsider.kill("first", 9)
    await stage.until("first", EXITED)
    await stage.look("first")
    await stage.hear()


async def somebody_renames_it(stage: Stage) -> None:
    await stage.outsider.run("first", Program(), PLAIN)
    await stage.identify("first")
    await stage.outsider.rename("first", "second")
    await stage.look("first")
    await stage.hear()


async def somebody_removes_it_while_it_runs(stage: Stage) -> None:
    await stage.outsider.run("first", Program(), PLAIN)
    await stage.identify("first")
    await anyio.sleep(0.3)
    await stage.outsider.remove("first", force=True)
    await stage.until_gone("first")
    await stage.hear()


async def it_removes_itself(stage: Stage) -> None:
    await stage.outsider.run("first", Program(runs_s=1.0, code=4), Options(labels=OURS, auto_remove=True))
    await stage.identify("first")
    await stage.look("first")
    await stage.until_gone("first")
    await stage.hear()


async def the_engines_policy_restarts_it(stage: Stage) -> None:
    options = Options(labels=OURS, restart=EngineRestart.ON_FAILURE, restart_limit=2)
    await stage.outsider.run("first", Program(runs_s=0.3, code=5), options)
    await stage.identify("first")
    await stage.until_starts("first", 2)
    await stage.until("first", EXITED)
    await stage.look("first")
    await stage.hear()


async def a_stop_ends_the_engines_policy(stage: Stage) -> None:
    await stage.outsider.run("first", Program(), Options(labels=OURS, restart=EngineRestart.ALWAYS))
    await stage.identify("first")
    await anyio.sleep(0.3)
    await stage.outsider.stop("first", grace_s=2)
    await anyio.sleep(1)
    await stage.look("first")
    await stage.hear()


async def its_health_comes_and_goes_and_then_it_stops(stage: Stage) -> None:
    options = Options(labels=OURS, probe=Probe(interval_s=0.3, retries=2))
    await stage.outsider.run("first", Program(), options)
    await stage.identify("first")
    await stage.until_health("first", "healthy")
    await stage.outsider.sicken("first")
    await stage.until_health("first", "unhealthy")
    await stage.look("first")
    await stage.outsider.heal("first")
    await stage.until_health("first", "healthy")
    await stage.outsider.pause("first")
    await stage.look("first")
    await stage.outsider.unpause("first")
    # No look here: it is unhealthy without a word until the next probe, which says `healthy` once more.
    await stage.until_health("first", "healthy")
    await stage.outsider.sicken("first")
    await stage.until_health("first", "unhealthy")
    await stage.outsider.stop("first", grace_s=2)
    await stage.look("first")
    await stage.hear()


async def it_runs_out_of_memory(stage: Stage) -> None:
    await stage.outsider.run("first", Program(oom_at_s=0.3), Options(labels=OURS, memory_bytes=16 * 1024**2))
    await stage.identify("first")
    await stage.until("first", EXITED)
    await anyio.sleep(0.3)
    await stage.look("first")
    await stage.hear()


SCRIPTS: Final[tuple[Script, ...]] = (
    our_container_from_create_to_remove,
    our_stop_in_time_and_start_again,
    our_stop_of_one_that_does_not_listen,
    our_start_that_cannot_work,
    a_start_that_fails,
    a_start_that_fails_after_a_run,
    a_clean_exit,
    an_exit_with_a_label_that_lies,
    somebody_stops_it,
    somebody_kills_it,
    somebody_restarts_it,
    somebody_pauses_it_and_stops_or_kills_it_paused,
    somebody_renames_it,
    somebody_removes_it_while_it_runs,
    it_removes_itself,
    the_engines_policy_restarts_it,
    a_stop_ends_the_engines_policy,
    its_health_comes_and_goes_and_then_it_stops,
    it_runs_out_of_memory,
)
