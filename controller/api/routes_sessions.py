"""Sessions, as they are: the list, one of them, its timeline, and why it is where it is."""

from typing import Final

from aiohttp import web

from controller.api.edge import Edge
from controller.api.explaining import explained
from controller.api.reading import json_of, read_query
from controller.api.route import Route
from controller.api.schemas import NoQuery, PageQuery, SessionsQuery
from controller.api.shapes import RowsView, SessionsView, SessionView, WhyView
from controller.api.views import rows_view, session_view
from controller.interfaces import JournalFilter
from controller.model.session import Session


async def list_sessions(edge: Edge, request: web.Request) -> web.Response:
    """GET /v1/sessions."""
    query = read_query(request, SessionsQuery)
    found = sorted(await edge.ledger.sessions(include_removed=query.all), key=_place)
    wanted = [each for each in found if query.phase in (None, each.phase) and _place(each) > query.after]
    page = wanted[: query.limit]
    reachable = edge.condition.readiness().reachable
    return json_of(
        SessionsView(
            items=[session_view(each, reachable=reachable) for each in page],
            next=_place(page[-1]) if len(wanted) > len(page) else None,
        )
    )


async def show_session(edge: Edge, request: web.Request) -> web.Response:
    """GET /v1/sessions/{name}."""
    read_query(request, NoQuery)
    session = await edge.session(request.match_info["name"])
    return session_response(edge, session)


async def show_timeline(edge: Edge, request: web.Request) -> web.Response:
    """GET /v1/sessions/{name}/timeline."""
    query = read_query(request, PageQuery)
    session = await edge.session(request.match_info["name"])
    wanted = JournalFilter(after=query.after, limit=query.limit, session_id=session.id)
    return json_of(rows_view(await edge.ledger.journal(wanted), limit=query.limit))


async def show_why(edge: Edge, request: web.Request) -> web.Response:
    """GET /v1/sessions/{name}/why."""
    read_query(request, NoQuery)
    session = await edge.session(request.match_info["name"])
    may_restart = edge.settings.may_restart
    return json_of(await explained(edge.ledger, session, now=edge.clock.now(), may_restart=may_restart))


def session_response(edge: Edge, session: Session, *, status: int = 200) -> web.Response:
    """One session as a response."""
    return json_of(session_view(session, reachable=edge.condition.readiness().reachable), status=status)


def _place(session: Session) -> str:
    # Names repeat among removed sessions; a space sorts before every character of a name.
    return f"{session.name} {session.id}"


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/sessions",
        answerer=list_sessions,
        summary="Sessions by name; removed ones only with `all`",
        query=SessionsQuery,
        gives={200: SessionsView},
    ),
    Route(
        method="GET",
        path="/v1/sessions/{name}",
        answerer=show_session,
        summary="One session, removed or not",
        gives={200: SessionView},
        refuses=(404,),
    ),
    Route(
        method="GET",
        path="/v1/sessions/{name}/timeline",
        answerer=show_timeline,
        summary="Every journal row of one session",
        query=PageQuery,
        gives={200: RowsView},
        refuses=(404,),
    ),
    Route(
        method="GET",
        path="/v1/sessions/{name}/why",
        answerer=show_why,
        summary="Why it is where it is: a sentence, its proof, and what happens next",
        gives={200: WhyView},
        refuses=(404,),
    ),
)
