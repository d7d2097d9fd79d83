"""Fixtures that several rooms' tests share: private engines."""

from collections.abc import Iterator

import pytest

from tests.support.private_engine import PrivateEngine, missing


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
