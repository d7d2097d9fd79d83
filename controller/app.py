"""The composition root: opens ledger and engine, and runs all loops in one task group.

The only module that knows who implements the names of `interfaces.py`. `run_core` is the whole program without
sockets, so that it also runs on a simulated engine and a simulated clock; `run` is real life.
"""

import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Final

import anyio
import structlog

from controller import __version__
from controller import log as log_lines
from controller.api.server import build_app, serve
from controller.api.token_file import ensure_token
from controller.clock import RealClock, RealRng
from controller.engine.docker import DockerBackend
from controller.errors import LedgerError, SettingsError
from controller.interfaces import Clock, Condition, ExecutionBackend, Feed, Ledger, Requests, Rng
from controller.line_writer import LineWriter
from controller.loops.log import InstantPaper, Log, Paper
from controller.loops.program import Program
from controller.loops.watch import EngineLostForGood
from controller.settings import Settings, without_credentials
from controller.store.ledger import open_ledger

EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1
EXIT_SETTINGS: Final = 2
EXIT_ENGINE_LOST: Final = 4

Serve = Callable[[Requests, Condition, Feed], AbstractAsyncContextManager[object]]
"""Opens the edge for as long as the loops run. It gets what an edge may have."""


async def run_core(  # noqa: PLR0913 - the composition root names everything that the program needs
    *,
    settings: Settings,
    ledger: Ledger,
    engine: ExecutionBackend,
    clock: Clock,
    rng: Rng,
    environment: Mapping[str, str],
    shutdown: anyio.Event,
    log: Log,
    paper: Paper | None = None,
    hurry: anyio.Event | None = None,
    serve: Serve | None = None,
) -> int:
    """Run every loop on an open ledger until told to stop. Returns the exit code; why it is a bad one is logged.

    The order of the start: what the ledger knows, the edge, the stream, and then the first sweep.
    """
    program = await Program.load(
        settings=settings,
        ledger=ledger,
        engine=engine,
        clock=clock,
        rng=rng,
        environment=environment,
        log=log,
        paper=paper or InstantPaper(),
    )
    opened = serve(program.requests, program.condition, program.publish) if serve is not None else nullcontext()
    code, why = EXIT_DONE, ""
    try:
        async with opened:
            await program.run(asked=shutdown, hurried=hurry or anyio.Event())
    except* LedgerError as group:
        why = _first(group)
        code = EXIT_FAILED
    except* EngineLostForGood as group:
        why = _first(group)
        code = EXIT_ENGINE_LOST
    finally:
        program.close()
    if why:
        log.error("the controller gives up", why=why)
    return code


async def main(settings: Settings, paper: Paper) -> int:
    """The controller on the real ledger, engine, clock and network. Raises SettingsError and LedgerError."""
    clock, rng = RealClock(), RealRng()
    log = structlog.get_logger("controller")
    async with open_ledger(settings.db, clock=clock, rng=rng) as ledger:
        settings = replace(settings, token=ensure_token(settings))
        log.info("starting", version=__version__, **_shown(settings))
        meta = await ledger.meta()
        async with DockerBackend.from_settings(settings, controller_id=meta.controller_id) as engine:

            def edge(requests: Requests, condition: Condition, feed: Feed) -> AbstractAsyncContextManager[object]:
                app = build_app(
                    settings=settings,
                    ledger=ledger,
                    requests=requests,
                    condition=condition,
                    feed=feed,
                    logs=engine,
                    clock=clock,
                    rng=rng,
                )
                return serve(app, settings)

            asked, hurried = anyio.Event(), anyio.Event()
            async with anyio.create_task_group() as group:
                group.start_soon(_heed_signals, asked, hurried)
                code = await run_core(
                    settings=settings,
                    ledger=ledger,
                    engine=engine,
                    clock=clock,
                    rng=rng,
                    environment=os.environ,
                    shutdown=asked,
                    hurry=hurried,
                    log=log,
                    paper=paper,
                    serve=edge,
                )
                group.cancel_scope.cancel()
            log.info("stopped", exit_code=code)
    return code


def run(settings: Settings) -> int:
    """The controller in the foreground, until it is told to stop. Returns the exit code."""
    lost = partial(log_lines.lost, settings.log_format, sys.stdout)
    code, why = EXIT_FAILED, ""
    with LineWriter(sys.stdout, lost=lost) as writer:
        log_lines.configure(settings.log_format, settings.log_level, stream=writer)
        try:
            code = anyio.run(main, settings, writer)
        except* SettingsError as group:
            code, why = EXIT_SETTINGS, _first(group)
        except* LedgerError as group:
            code, why = EXIT_FAILED, _first(group)
    if why:
        with LineWriter(sys.stderr, lost=lost) as writer:
            writer.write(log_lines.clean(why, log_lines.VALUE_MAX_CHARS) + "\n")
    return code


async def _heed_signals(asked: anyio.Event, hurried: anyio.Event) -> None:
    """The first one asks to stop, the second one hurries. Works as process 1 too, which has no default action."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            if asked.is_set():
                hurried.set()
            asked.set()


def _shown(settings: Settings) -> Mapping[str, object]:
    return {
        "prefix": settings.prefix,
        "engine": without_credentials(settings.docker_host),
        "ledger": settings.db,
        "mode": settings.mode,
        "sweep_interval_s": settings.sweep_interval_s,
        "orphan_policy": settings.orphan_policy,
        "leave_running": settings.shutdown_leave_running,
    }


def _first(group: BaseExceptionGroup[BaseException]) -> str:
    """What the innermost first error says."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)
