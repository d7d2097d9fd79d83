"""Fixtures that several rooms' tests share: private engines, and the checks that nothing blocks and nothing leaks."""

from collections.abc import AsyncIterator, Generator, Iterator
from typing import Final

import pytest

from tests.support.blocking import Belongings, left_behind, nothing_blocks, other_tasks
from tests.support.private_engine import PrivateEngine, missing

BEGIN_WITH: Final = ("tests/simulation/test_worlds.py", "tests/docker/")
CHECKED_ROOMS: Final = ("tests/loops/", "tests/api/", "tests/engine/")
"""Where each test stands alone: no fixture that outlives it, no process of the test's own."""
SHARES_A_PROGRAM: Final = "tests/api/test_openapi.py"
"""One program for all its tests: what the first of them leaves is needed by the next."""
_BEFORE: Final = pytest.StashKey[Belongings]()


@pytest.fixture(scope="session")
def shared_engine() -> Iterator[PrivateEngine]:
    """One engine for the whole run. Tests take `engine`, which cleans up after each."""
    if lacking := missing():
        pytest.skip(f"no private engine here: {lacking}")
    with PrivateEngine() as engine:
        yield engine


@pytest.fixture
def engine(shared_engine: PrivateEngine) -> Iterator[PrivateEngine]:
    """The shared engine, empty before and after the test. Never stop or kill this one."""
    yield shared_engine
    shared_engine.remove_all()


@pytest.fixture
def own_engine() -> Iterator[PrivateEngine]:
    """An engine for one test that stops or kills it."""
    if lacking := missing():
        pytest.skip(f"no private engine here: {lacking}")
    with PrivateEngine() as engine:
        yield engine


# --- nothing blocks, nothing leaks -----------------------------------------------------------------------------------


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # What takes longest begins first, so that files side by side end together.
    items.sort(key=lambda item: [item.nodeid.startswith(first) for first in BEGIN_WITH], reverse=True)
    for item in items:
        if item.nodeid.startswith(CHECKED_ROOMS) and isinstance(item, pytest.Function):
            item.fixturenames.insert(0, "calls_do_not_block")
            if item.get_closest_marker("asyncio") is not None:
                item.fixturenames.insert(0, "no_task_is_left")


@pytest.fixture
def calls_do_not_block() -> Iterator[None]:
    """A blocking call of the program on the loop fails the test."""
    with nothing_blocks():
        yield


@pytest.fixture
async def no_task_is_left() -> AsyncIterator[None]:
    """A task that outlives its test fails it."""
    before = other_tasks()
    yield
    left = {task for task in other_tasks() - before if not task.done()}
    assert not left, f"tasks are left: {left}"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    if item.nodeid.startswith(CHECKED_ROOMS) and not item.nodeid.startswith(SHARES_A_PROGRAM):
        item.stash[_BEFORE] = Belongings.now()
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    yield
    if _BEFORE in item.stash and (left := left_behind(item.stash[_BEFORE])):
        pytest.fail(f"left behind: {left}")
