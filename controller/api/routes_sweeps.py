"""Sweeps on request, orphans, adoption, and the engine that turned out to be another."""

from typing import Final

from aiohttp import web

from controller.api.edge import Edge
from controller.api.problems import Problem
from controller.api.reading import actor_of, json_of, read_body, read_query
from controller.api.route import Route
from controller.api.routes_verbs import require_mode
from controller.api.schemas import AdoptBody, NoQuery, SweepQuery
from controller.api.shapes import DoneView, SweepView
from controller.api.views import sweep_view
from controller.interfaces import Answer

SWEEP_TIMEOUT_S: Final = 120.0
ANSWER_TIMEOUT_S: Final = 30.0
ORPHAN_FINDINGS: Final = ("orphan", "foreign", "spared")


async def reconcile(edge: Edge, request: web.Request) -> web.Response:
    """POST /v1/reconcile."""
    query = read_query(request, SweepQuery)
    report = await edge.ask(SWEEP_TIMEOUT_S, lambda: edge.requests.sweep(dry_run=query.dry_run))
    return json_of(sweep_view(report))


async def list_orphans(edge: Edge, request: web.Request) -> web.Response:
    """GET /v1/orphans."""
    read_query(request, NoQuery)
    report = await edge.ask(SWEEP_TIMEOUT_S, lambda: edge.requests.sweep(dry_run=True))
    return json_of(sweep_view(report, only=ORPHAN_FINDINGS))


async def remove_orphans(edge: Edge, request: web.Request) -> web.Response:
    """POST /v1/orphans/apply."""
    read_query(request, NoQuery)
    require_mode(edge, allowed=edge.settings.may_manage, what="removing orphans")
    report = await edge.ask(SWEEP_TIMEOUT_S, lambda: edge.requests.sweep(dry_run=False, remove_orphans=True))
    return json_of(sweep_view(report, only=ORPHAN_FINDINGS))


async def adopt(edge: Edge, request: web.Request) -> web.Response:
    """POST /v1/adopt."""
    read_query(request, NoQuery)
    body = await read_body(request, AdoptBody)
    require_mode(edge, allowed=edge.settings.may_manage, what="adopt")
    actor = actor_of(request)
    answer = await edge.ask(ANSWER_TIMEOUT_S, lambda: edge.requests.adopt(body.container, actor=actor))
    return _done(answer, "adopted")


async def accept_engine(edge: Edge, request: web.Request) -> web.Response:
    """POST /v1/engine/accept."""
    read_query(request, NoQuery)
    return _done(await edge.ask(ANSWER_TIMEOUT_S, edge.requests.accept_engine), "accepted")


def _done(answer: Answer, otherwise: str) -> web.Response:
    if not answer.accepted:
        raise Problem(409, answer.message or "refused")
    return json_of(DoneView(message=answer.message or otherwise))


ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/reconcile",
        answerer=reconcile,
        summary="One full sweep now, or only its plan",
        query=SweepQuery,
        gives={200: SweepView},
        refuses=(503, 504),
    ),
    Route(
        method="GET",
        path="/v1/orphans",
        answerer=list_orphans,
        summary="Containers that no session knows, foreign ones, and spared ones, each with its reason",
        gives={200: SweepView},
        refuses=(503, 504),
    ),
    Route(
        method="POST",
        path="/v1/orphans/apply",
        answerer=remove_orphans,
        summary="Remove our orphans, whatever the orphan policy says",
        gives={200: SweepView},
        refuses=(403, 503, 504),
    ),
    Route(
        method="POST",
        path="/v1/adopt",
        answerer=adopt,
        summary="Take over one container",
        body=AdoptBody,
        gives={200: DoneView},
        refuses=(403, 409, 503, 504),
    ),
    Route(
        method="POST",
        path="/v1/engine/accept",
        answerer=accept_engine,
        summary="Believe the engine that answers now, after it turned out not to be the one in the ledger",
        gives={200: DoneView},
        refuses=(409, 503, 504),
    ),
)
