"""A sweep of a thousand sessions without drift costs two lists and little more, and asks nothing else."""

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest

from tests.support.backends import backend_at
from tests.support.controller_process import ControllerProcess, until
from tests.support.engine_client import create_many
from tests.support.fault_proxy import Request
from tests.support.private_engine import PrivateEngine
from tests.support.proxy_thread import ProxyThread, proxy_before

pytestmark = [pytest.mark.docker, pytest.mark.timeout(240)]

SESSIONS_COUNT = 1000
RUNNING_COUNT = 20
RUNS_COUNT = 7
RATIO_MAX = 1.5
MEASUREMENTS_MAX = 4
"""Others use the machine too: the claim is about the program, so a noisy measurement is made again."""


@pytest.fixture
def thousand(engine: PrivateEngine, tmp_path: Path) -> Iterator[tuple[ControllerProcess, ProxyThread]]:
    create_many(engine.socket, SESSIONS_COUNT, labels={"agentd.watch": "true"}, running_count=RUNNING_COUNT)
    controller = ControllerProcess(folder=tmp_path, engine_url="", sweep_interval_s="3600")
    with proxy_before(engine) as via:
        controller.environment["DOCKER_HOST"] = via.url
        with controller:
            until(lambda: count(controller) == SESSIONS_COUNT, what="all are known", timeout_s=60)
            until(lambda: is_quiet(via), what="no more looks", timeout_s=60)
            yield controller, via


def count(controller: ControllerProcess) -> int:
    return len(controller.sessions())


def is_quiet(via: ProxyThread) -> bool:
    """Nothing was asked for as long as it takes to see it."""
    before = len(via.proxy.requests)
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        if len(via.proxy.requests) != before:
            return False
        time.sleep(0.05)
    return True


async def timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    await anyio.to_thread.run_sync(call)
    return time.perf_counter() - began


async def medians(controller: ControllerProcess, url: str) -> tuple[float, float]:
    """Seconds of the two bare lists through the same backend, and of a sweep on request; run in turns."""
    bare: list[float] = []
    swept: list[float] = []
    async with backend_at(url) as backend:
        await backend.connect()
        for _ in range(RUNS_COUNT):
            began = time.perf_counter()
            await backend.list_ours("agentd")
            await backend.list_external()
            bare.append(time.perf_counter() - began)
            swept.append(await timed(controller.reconcile))
    return statistics.median(bare), statistics.median(swept)


def test_a_sweep_without_drift_costs_two_lists(
    engine: PrivateEngine, thousand: tuple[ControllerProcess, ProxyThread]
) -> None:
    controller, via = thousand

    def asked_by_a_sweep() -> list[Request]:
        """What a sweep asked; empty when something else asked meanwhile."""
        before = len(via.proxy.requests)
        assert controller.reconcile() == []
        asked = via.proxy.requests[before:]
        return asked if len(asked) == 2 else []

    # One that is only created is looked at for half a minute, sweep or no sweep, because a failed start has no event.
    asked = until(asked_by_a_sweep, what="a sweep that asks for two things only", timeout_s=90)
    assert [request.path for request in asked] == ["/containers/json"] * 2
    assert {("agentd.prefix" in request.query, "agentd.watch" in request.query) for request in asked} == {
        (True, False),
        (False, True),
    }

    # Without the proxy, which would slow the bare lists as much as the sweep and flatter it.
    controller.kill()
    controller.environment["DOCKER_HOST"] = engine.url
    controller.start()
    assert controller.reconcile() == []
    ratios: list[float] = []
    while not ratios or (ratios[-1] > RATIO_MAX and len(ratios) < MEASUREMENTS_MAX):
        bare, swept = anyio.run(medians, controller, engine.url)
        ratios.append(swept / bare)
    assert ratios[-1] <= RATIO_MAX, f"a sweep takes {ratios} times the bare lists"
