"""Plays one world from its seed, and tells what a person needs to see of it."""

import gc
import os
import shutil
import sys
import warnings
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from tests.simulation.world import World

SCRATCH: Final = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path("/tmp")
TRACE_LINES: Final = 60


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What is not left to the seed."""

    sessions_count: int | None = None
    quiet_at_s: float | None = None
    as_usual: bool = False
    """The program as people run it, not as drawn (`knobs.usual`)."""


def run_seed(seed: str, *, folder: Path | None = None, shape: Shape = Shape()) -> World:
    """One world, from its seed to its end."""
    where = folder or SCRATCH / f"agentd-sim-{os.getpid()}"
    world = World(
        seed, where, sessions_count=shape.sessions_count, quiet_at_s=shape.quiet_at_s, as_usual=shape.as_usual
    )
    with the_dead_are_silent():
        try:
            world.run()
        finally:
            shutil.rmtree(where, ignore_errors=True)
            gc.collect()
    return world


@contextmanager
def the_dead_are_silent() -> Iterator[None]:
    """What was killed is taken apart by the collector; its generators complain that their loop is gone.

    And the ledger's own log lines go nowhere: a world has its trace.
    """
    before, sys.unraisablehook = sys.unraisablehook, lambda _: None
    logging = structlog.get_config()
    structlog.configure(
        processors=[_nothing], logger_factory=structlog.ReturnLoggerFactory(), cache_logger_on_first_use=False
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.unraisablehook = before
        structlog.configure(**logging)


def _nothing(logger: object, method: str, event: MutableMapping[str, Any]) -> str:
    del logger, method, event
    return ""


def told(world: World, lines: int = TRACE_LINES) -> str:
    """What a person needs to see of a world that failed."""
    said = [f"seed {world.seed}: {violation}" for violation in world.violations]
    return "\n".join([*(f"    {line}" for line in world.trace[-lines:]), *said])
