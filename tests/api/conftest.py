"""A world and a server over it for each test that asks."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api.world import HandClock, Site, World, a_site, a_world, settings_for


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with a_world(tmp_path) as opened:
        yield opened


@pytest.fixture
async def site(world: World, tmp_path: Path) -> AsyncIterator[Site]:
    async with a_site(world, settings_for(tmp_path)) as opened:
        yield opened


@pytest.fixture
def hand_clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def still_world(tmp_path: Path, hand_clock: HandClock) -> AsyncIterator[World]:
    """A world in which time passes only by hand, and nothing comes true by itself."""
    async with a_world(tmp_path, clock=hand_clock) as opened:
        opened.prompt = False
        yield opened


@pytest.fixture
async def still_site(still_world: World, tmp_path: Path) -> AsyncIterator[Site]:
    async with a_site(still_world, settings_for(tmp_path)) as opened:
        yield opened
