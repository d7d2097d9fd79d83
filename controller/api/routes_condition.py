"""How the controller itself is doing: alive, ready, and the numbers behind that."""

from typing import Final

import anyio
from aiohttp import web

from controller.api.edge import Edge
from controller.api.reading import json_of
from controller.api.route import Route
from controller.api.shapes import HealthView, LiveView, ReadyView
from controller.api.views import health_view, ready_view


async def livez(_edge: Edge, _request: web.Request) -> web.Response:
    """GET /livez: the process answers. Nothing else is asked, so that no engine's trouble restarts us."""
    return json_of(LiveView(alive=True))


async def readyz(edge: Edge, _request: web.Request) -> web.Response:
    """GET /readyz."""
    readiness = edge.condition.readiness()
    return json_of(ready_view(readiness), status=200 if readiness.ready else 503)


async def healthz(edge: Edge, _request: web.Request) -> web.Response:
    """GET /healthz."""
    readiness = edge.condition.readiness()
    # What runs in this program at once, this request with it: at rest it is always the same number.
    tasks = len(anyio.get_running_tasks())
    view = health_view(readiness, connected_sessions=edge.registry.connected(), tasks=tasks)
    return json_of(view, status=200 if readiness.ready else 503)


ROUTES: Final = (
    Route(method="GET", path="/livez", answerer=livez, summary="The process answers", gives={200: LiveView}),
    Route(
        method="GET",
        path="/readyz",
        answerer=readyz,
        summary="Whether the controller can be believed just now, check by check",
        gives={200: ReadyView, 503: ReadyView},
    ),
    Route(
        method="GET",
        path="/healthz",
        answerer=healthz,
        summary="The same with the numbers behind it",
        gives={200: HealthView, 503: HealthView},
    ),
)
