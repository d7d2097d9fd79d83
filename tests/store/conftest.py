"""A ledger on disk for each test that asks for one."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controller.store.committer import SqliteLedger
from controller.store.ledger import open_ledger
from tests.store.records import ManualClock, SeededRng


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "controller.db"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def ledger(path: Path, clock: ManualClock) -> AsyncIterator[SqliteLedger]:
    async with open_ledger(path, clock=clock, rng=SeededRng()) as opened:
        yield opened
