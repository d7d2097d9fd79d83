"""`agentdctl` as its users call it: arguments in, exit code and two streams of text out."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
import pytest

from controller.cli.main import main
from tests.api.world import Site, World, a_site, a_world, settings_for


@dataclass(frozen=True, kw_only=True)
class Called:
    """How one call ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Ctl = Callable[..., Awaitable[Called]]


def run(arguments: tuple[str, ...], environment: dict[str, str]) -> int:
    """The exit code of one call, however it leaves."""
    try:
        return main(arguments, environment)
    except SystemExit as left:
        return int(left.code or 0)


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """The environment of a user who has set nothing but a home of his own."""
    return {"HOME": str(tmp_path), "USER": "anna", "DOCKER_HOST": "unix:///nowhere/docker.sock"}


@pytest.fixture
def bare_ctl(home: dict[str, str], capsys: pytest.CaptureFixture[str]) -> Ctl:
    """A call without a controller; variables may be added by keyword."""

    async def call(*arguments: str, **variables: str) -> Called:
        capsys.readouterr()
        # In a thread, because every call brings an event loop of its own.
        code = await anyio.to_thread.run_sync(partial(run, arguments, home | variables))
        told = capsys.readouterr()
        return Called(code=code, out=told.out, err=told.err)

    return call


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with a_world(tmp_path) as opened:
        yield opened


@pytest.fixture
async def site(world: World, tmp_path: Path) -> AsyncIterator[Site]:
    async with a_site(world, settings_for(tmp_path)) as opened:
        yield opened


@pytest.fixture
def ctl(bare_ctl: Ctl, site: Site) -> Ctl:
    """A call to a controller that runs."""

    async def call(*arguments: str, **variables: str) -> Called:
        return await bare_ctl(*arguments, AGENTD_URL=site.url, **variables)

    return call
