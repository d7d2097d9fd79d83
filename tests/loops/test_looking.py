"""An inspect can hang, fail or come late; none of that is an answer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from controller.clock import RealClock, RealRng
from controller.errors import EngineUnavailable
from controller.loops.condition import ControllerCondition
from controller.loops.inbox import Envelope, Inbox, Item
from controller.loops.look import LIMIT_S as LOOK_LIMIT_S
from controller.loops.look import PARALLEL_MAX, Look, LookBatch
from controller.loops.second_opinion import LIMIT_S, PAUSE_S, SecondOpinion
from controller.model.container import EngineInfo
from controller.model.decision import LookWish
from controller.model.ids import ContainerId, EngineId
from controller.model.instant import after
from controller.model.observation import ContainerAbsent, ContainerSeen, LookCause
from tests.support.fake_engine import FakeEngine
from tests.support.manual_clock import ManualClock, turns

NO_ANSWER = EngineUnavailable("no answer")
INFO = EngineInfo(id=EngineId("e"), name="docker", version="29", api_version="1.50", system_time=None)


class Desk:
    """A look, and the inbox that its answers go to."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.engine = FakeEngine(self.clock)
        self.condition = ControllerCondition(self.clock)
        self.inbox = Inbox()
        self.second_opinion = SecondOpinion(clock=self.clock, engine=self.engine, condition=self.condition)
        self.look = Look(clock=self.clock, engine=self.engine, inbox=self.inbox, condition=self.condition)

    async def ask(self, container: ContainerId, *, delay_s: float = 0.0, tail: bool = False) -> LookBatch:
        batch = LookBatch()
        wish = LookWish(container=container, cause=LookCause.EVENT, delay_s=delay_s, tail=tail)
        self.look.ask(wish, batch=batch)
        await turns()
        return batch

    async def answers(self) -> list[Item]:
        await turns()
        self.inbox.offer(Envelope(observation=_nothing(self.clock)))
        return (await self.inbox.take())[:-1]


@asynccontextmanager
async def looking(*, accepted: bool = True) -> AsyncIterator[Desk]:
    desk = Desk()
    if accepted:
        desk.condition.connected(INFO, offset_ns=0, doubt_s=0.0)
        desk.condition.accept()
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(desk.look.run)
            group.start_soon(desk.second_opinion.run)
            yield desk
            group.cancel_scope.cancel()
    finally:
        desk.inbox.end()


async def test_a_look_is_an_observation_of_what_is_there() -> None:
    async with looking() as desk:
        container = desk.engine.add("web", labels={})
        await desk.ask(container)
        [answer] = await desk.answers()
        assert isinstance(answer, Envelope)
        assert isinstance(answer.observation, ContainerSeen)
        assert answer.observation.snapshot.facts.id == container


async def test_only_a_definite_404_is_absence() -> None:
    async with looking() as desk:
        container = desk.engine.add("web", labels={})
        desk.engine.failing["inspect"] = NO_ANSWER
        batch = await desk.ask(container)
        assert await desk.answers() == []
        assert not await batch.wait(clock=desk.clock, until=after(desk.clock.now(), 1))
        del desk.engine.containers[container]
        desk.engine.failing.clear()
        await desk.clock.advance(1)
        [answer] = await desk.answers()
        assert isinstance(answer, Envelope)
        assert isinstance(answer.observation, ContainerAbsent)


async def test_an_inspect_that_hangs_is_given_up_and_asked_again() -> None:
    async with looking() as desk:
        container = desk.engine.add("web", labels={})
        desk.engine.hanging["inspect"] = None
        await desk.ask(container)
        await desk.clock.advance(4.9)
        desk.engine.hanging.clear()
        assert await desk.answers() == []
        await desk.clock.advance(1)
        assert len(await desk.answers()) == 1


@pytest.mark.parametrize("trouble", ["hangs", "fails"])
async def test_one_container_that_cannot_be_inspected_makes_no_engine_unreachable(trouble: str) -> None:
    async with looking() as desk:
        container = desk.engine.add("web", labels={})
        if trouble == "hangs":
            desk.engine.hanging["inspect"] = None
        else:
            desk.engine.failing["inspect"] = EngineUnavailable("inspect: device or resource busy (HTTP 500)")
        await desk.ask(container)
        for _ in range(60):
            await desk.clock.advance(1)
            assert desk.condition.reachable
        # It is the engine itself that was asked, and not more often than there was a reason to.
        assert 1 <= desk.engine.asked.count("list_external") <= desk.engine.asked.count("inspect")


async def test_an_engine_that_answers_nothing_any_more_is_found_out_by_one_look() -> None:
    async with looking() as desk:
        container = desk.engine.add("web", labels={})
        desk.engine.hanging |= {"inspect": None, "list_external": None}
        await desk.ask(container)
        await desk.clock.advance(LOOK_LIMIT_S + LIMIT_S - 0.1)
        assert desk.condition.reachable
        await desk.clock.advance(0.2)
        assert not desk.condition.reachable
        desk.engine.hanging.clear()
        await desk.clock.advance(20)
        assert desk.condition.reachable


async def test_a_request_that_never_left_makes_the_engine_unreachable_at_once() -> None:
    async with looking() as desk:
        desk.engine.down = EngineUnavailable("connection refused", request_sent=False)
        await desk.ask(desk.engine.add("web", labels={}))
        assert not desk.condition.reachable
        assert "list_external" not in desk.engine.asked


async def test_however_many_containers_do_not_answer_the_engine_is_asked_about_itself_once_a_second() -> None:
    async with looking() as desk:
        desk.engine.failing["inspect"] = NO_ANSWER
        for n in range(50):
            await desk.ask(desk.engine.add(f"c{n}", labels={}))
        await desk.clock.advance(10 * PAUSE_S)
        assert desk.engine.asked.count("list_external") <= 11


async def test_log_lines_that_hang_cost_two_seconds_and_not_the_answer() -> None:
    async with looking() as desk:
        container = desk.engine.add("web", labels={})
        desk.engine.exit(container, 3)
        desk.engine.hanging["tail"] = None
        await desk.ask(container, tail=True)
        await desk.clock.advance(2.1)
        [answer] = await desk.answers()
        assert isinstance(answer, Envelope)
        assert isinstance(answer.observation, ContainerSeen)
        assert answer.observation.tail is not None
        assert answer.observation.tail.absent == "could not ask"


async def test_one_container_is_looked_at_once_at_a_time_and_again_for_a_later_wish() -> None:
    async with looking() as desk:
        container = desk.engine.add("web", labels={})
        desk.engine.hanging["inspect"] = None
        await desk.ask(container)
        await desk.ask(container)
        await desk.ask(container)
        assert desk.engine.asked.count("inspect") == 1
        desk.engine.hanging.clear()
        await desk.clock.advance(6)
        assert desk.engine.asked.count("inspect") >= 2


async def test_wishes_for_different_times_are_all_kept() -> None:
    async with looking() as desk:
        container = desk.engine.add("web", labels={})
        for delay_s in (0.0, 2.0, 10.0, 30.0):
            await desk.ask(container, delay_s=delay_s)
        await desk.clock.advance(31)
        assert desk.engine.asked.count("inspect") == 4


async def test_looks_are_bounded_in_parallel() -> None:
    async with looking() as desk:
        desk.engine.hanging["inspect"] = None
        for n in range(3 * PARALLEL_MAX):
            await desk.ask(desk.engine.add(f"c{n}", labels={}))
        await turns()
        assert desk.engine.asked.count("inspect") == PARALLEL_MAX


async def test_an_engine_that_is_not_accepted_is_asked_nothing() -> None:
    async with looking(accepted=False) as desk:
        await desk.ask(desk.engine.add("web", labels={}))
        await desk.clock.advance(60)
        assert desk.engine.asked == []
        desk.condition.accept()
        assert len(await desk.answers()) == 1


async def test_the_real_clock_goes_forward_and_the_real_dice_differ() -> None:
    clock, rng = RealClock(), RealRng()
    before = clock.now()
    await clock.sleep(0)
    assert clock.now() >= before
    assert len(rng.token(16)) == 32
    assert rng.token(16) != rng.token(16)
    assert 1 <= rng.uniform(1, 2) <= 2


def _nothing(clock: ManualClock) -> ContainerAbsent:
    now = clock.now()
    return ContainerAbsent(container=ContainerId("mark"), cause=LookCause.EVENT, asked_at=now, observed_at=now)
