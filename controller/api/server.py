"""The HTTP application, put together, and the socket it listens on."""

import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Final

import anyio
import structlog
from aiohttp import web

from controller.api import (
    routes_agents,
    routes_condition,
    routes_create,
    routes_journal,
    routes_logs,
    routes_sessions,
    routes_sweeps,
    routes_verbs,
)
from controller.api.auth import guard
from controller.api.edge import EDGE, Edge, OpenStreams
from controller.api.openapi import document
from controller.api.problems import Endpoint, problems
from controller.api.reading import BODY_MAX_BYTES
from controller.api.registry import ConnectionRegistry
from controller.api.route import Answerer, Route
from controller.errors import SettingsError
from controller.interfaces import Clock, Condition, ContainerLogs, Feed, LedgerReader, Requests, Rng
from controller.model.ids import SessionId
from controller.model.observation import ConnectionChanged
from controller.settings import Settings

SHUTDOWN_TIMEOUT_S: Final = 2.0
"""How long a request under way may take once the server is told to stop."""
CLEANUP_TIMEOUT_S: Final = 8.0
IDLE_TIMEOUT_S: Final = 30.0
"""How long a connection may stand without a whole request: sessions share a network with us, and may be hostile."""
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}

ROUTES: Final[tuple[Route, ...]] = (
    *routes_sessions.ROUTES,
    *routes_create.ROUTES,
    *routes_verbs.ROUTES,
    *routes_logs.ROUTES,
    *routes_journal.ROUTES,
    *routes_sweeps.ROUTES,
    *routes_condition.ROUTES,
    *routes_agents.ROUTES,
)


def build_app(
    *,
    settings: Settings,
    ledger: LedgerReader,
    requests: Requests,
    condition: Condition,
    feed: Feed,
    logs: ContainerLogs,
    clock: Clock,
    rng: Rng,
) -> web.Application:
    """The application with all its routes. `settings.token` must be set wherever it listens beyond loopback."""
    if not settings.binds_loopback and not settings.token:
        raise SettingsError(f"AGENTD_BIND={settings.bind!r} reaches beyond this host: set AGENTD_TOKEN")

    async def report(session_id: SessionId, connected: bool) -> None:  # noqa: FBT001 - the registry's own signature
        await requests.verb(session_id, ConnectionChanged(connected=connected, observed_at=clock.now()))

    edge = Edge(
        settings=settings,
        ledger=ledger,
        requests=requests,
        condition=condition,
        feed=feed,
        logs=logs,
        clock=clock,
        rng=rng,
        registry=ConnectionRegistry(report, clock=clock),
        streams=OpenStreams(),
    )
    app = web.Application(middlewares=[problems, guard], client_max_size=BODY_MAX_BYTES)
    app[EDGE] = edge
    for route in ROUTES:
        app.router.add_route(route.method, route.path, _endpoint(edge, route.answerer))
    app.router.add_route("GET", "/openapi.json", _answer_openapi)
    app.on_response_prepare.append(_add_headers)
    app.on_shutdown.append(_end_long_ones)
    return app


@asynccontextmanager
async def serve(app: web.Application, settings: Settings, *, idle_s: float = IDLE_TIMEOUT_S) -> AsyncIterator[int]:
    """Listen as the settings say, and yield the port. Raises SettingsError when the address cannot be had."""
    runner = web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        shutdown_timeout=SHUTDOWN_TIMEOUT_S,
        keepalive_timeout=idle_s,
    )
    await runner.setup()
    try:
        await _listen(runner, settings)
        port = int(runner.addresses[0][1])
        structlog.get_logger().info("listening", bind=settings.bind, port=port)
        yield port
    finally:
        with anyio.move_on_after(CLEANUP_TIMEOUT_S, shield=True):
            await runner.cleanup()


async def _listen(runner: web.AppRunner, settings: Settings) -> None:
    try:
        await web.TCPSite(runner, settings.bind, settings.port).start()
    except OSError as error:
        where = f"{settings.bind}:{settings.port}"
        if error.errno == errno.EADDRINUSE:
            raise SettingsError(f"AGENTD_PORT={settings.port}: {where} is in use; choose another port") from error
        reason = error.strerror or str(error)
        raise SettingsError(f"AGENTD_BIND={settings.bind!r}: cannot listen on {where}: {reason}") from error


def _endpoint(edge: Edge, answerer: Answerer) -> Endpoint:
    async def endpoint(request: web.Request) -> web.StreamResponse:
        return await answerer(edge, request)

    return endpoint


async def _answer_openapi(_request: web.Request) -> web.StreamResponse:
    return web.Response(body=_openapi(), content_type="application/json")


@cache
def _openapi() -> bytes:
    """The same for the life of the program, and made when somebody asks: it takes longer than the rest of a start."""
    return document(ROUTES)


async def _add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)


async def _end_long_ones(app: web.Application) -> None:
    app[EDGE].streams.end_all()
    await app[EDGE].registry.close_all()
