"""What can be asked of one session: start, stop, restart, remove, renew.

A verb is submitted as an observation like any other. The client is answered when the result has been seen, not when
the request was accepted, unless it does not want to wait.
"""

from collections.abc import Callable
from typing import Final

from aiohttp import web

from controller.api.edge import Edge
from controller.api.problems import Problem
from controller.api.reading import actor_of, read_body, read_query
from controller.api.route import Answerer, Route
from controller.api.routes_sessions import session_response
from controller.api.schemas import RemoveQuery, RenewBody, VerbQuery
from controller.api.shapes import SessionView
from controller.api.timing import OutOfTime, within
from controller.api.waiting import is_settled
from controller.model.observation import Verb, VerbRequested
from controller.model.session import Session


async def remove_session(edge: Edge, request: web.Request) -> web.Response:
    """DELETE /v1/sessions/{name}."""
    query = read_query(request, RemoveQuery)
    require_mode(edge, allowed=edge.settings.may_manage, what="remove")
    before = await edge.session(request.match_info["name"])
    if before.removed_at is not None:
        return session_response(edge, before)
    wanted = VerbRequested(verb=Verb.REMOVE, actor=actor_of(request), observed_at=edge.clock.now(), force=query.force)
    return await submit(edge, before, wanted, query)


async def renew_session(edge: Edge, request: web.Request) -> web.Response:
    """POST /v1/sessions/{name}/renew."""
    query = read_query(request, VerbQuery)
    body = await read_body(request, RenewBody)
    require_mode(edge, allowed=edge.settings.may_restart, what="renew")
    before = await edge.present_session(request.match_info["name"])
    wanted = VerbRequested(verb=Verb.RENEW, actor=actor_of(request), observed_at=edge.clock.now(), ttl_s=body.ttl_s)
    return await submit(edge, before, wanted, query)


def verb_route(verb: Verb, summary: str) -> Route:
    """The route of a verb that needs no more than its name."""

    async def answer(edge: Edge, request: web.Request) -> web.Response:
        query = read_query(request, VerbQuery)
        require_mode(edge, allowed=edge.settings.may_restart, what=verb)
        before = await edge.present_session(request.match_info["name"])
        wanted = VerbRequested(verb=verb, actor=actor_of(request), observed_at=edge.clock.now())
        return await submit(edge, before, wanted, query)

    return _route("POST", f"/v1/sessions/{{name}}/{verb}", answer, summary)


async def submit(edge: Edge, before: Session, wanted: VerbRequested, query: VerbQuery) -> web.Response:
    """Ask, and wait for what is observed. Raises 409 and 504 problems."""

    async def ask_and_see() -> web.Response:
        answer = await edge.requests.verb(before.id, wanted)
        if not answer.accepted:
            raise Problem(409, answer.message or f"{wanted.verb} was refused")
        if not query.wait:
            return session_response(edge, await same_session(edge, before), status=202)
        seen = await see(edge, before, lambda now: is_settled(wanted.verb, before=before, now=now))
        return session_response(edge, seen)

    try:
        return await within(edge.clock, query.timeout_s, ask_and_see)
    except OutOfTime:
        raise await too_late(edge, before, query.timeout_s) from None


async def see(edge: Edge, before: Session, done: Callable[[Session], bool]) -> Session:
    """The session as soon as `done` says so of it."""
    while True:
        # The row counter is read first: a row committed between the two reads ends the wait at once.
        seq = edge.feed.committed()
        now = await same_session(edge, before)
        if done(now):
            return now
        await edge.feed.wait_beyond(seq)


async def same_session(edge: Edge, before: Session) -> Session:
    """That session as it is now; after its removal a new one may hold its name, and then that one is returned."""
    return await edge.ledger.find(before.name) or before


async def too_late(edge: Edge, before: Session, timeout_s: float) -> Problem:
    """What to say when the result was not seen in time."""
    now = await same_session(edge, before)
    return Problem(504, f"not seen within {timeout_s:g} s; {now.name} is {now.phase} just now, and it may still happen")


def require_mode(edge: Edge, *, allowed: bool, what: str) -> None:
    """Refuse with 403 what the mode does not allow."""
    if not allowed:
        raise Problem(403, f"AGENTD_MODE={edge.settings.mode} does not allow {what}")


def _route(method: str, path: str, answerer: Answerer, summary: str) -> Route:
    return Route(
        method=method,
        path=path,
        answerer=answerer,
        summary=summary,
        query=VerbQuery,
        gives={200: SessionView, 202: SessionView},
        refuses=(403, 404, 409, 504),
    )


ROUTES: Final = (
    verb_route(Verb.START, "Start it, whatever its restart policy says"),
    verb_route(Verb.STOP, "Stop it; it stays down"),
    verb_route(Verb.RESTART, "Stop it if it runs, then start it"),
    Route(
        method="DELETE",
        path="/v1/sessions/{name}",
        answerer=remove_session,
        summary="Remove it with its container; the record stays",
        query=RemoveQuery,
        gives={200: SessionView, 202: SessionView},
        refuses=(403, 404, 409, 504),
    ),
    Route(
        method="POST",
        path="/v1/sessions/{name}/renew",
        answerer=renew_session,
        summary="Give it a new time to live, from now",
        query=VerbQuery,
        body=RenewBody,
        gives={200: SessionView, 202: SessionView},
        refuses=(403, 404, 409, 504),
    ),
)
