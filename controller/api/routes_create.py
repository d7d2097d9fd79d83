"""A new session on request: everything that can be known to be wrong is refused before anything is recorded."""

from typing import Final

from aiohttp import web

from controller.api.edge import Edge
from controller.api.problems import Problem
from controller.api.reading import actor_of, read_body, read_query
from controller.api.route import Route
from controller.api.routes_sessions import session_response
from controller.api.routes_verbs import require_mode, see, too_late
from controller.api.schemas import CreateBody, VerbQuery
from controller.api.shapes import SessionView
from controller.api.timing import OutOfTime, within
from controller.api.waiting import creation_settled
from controller.core.restart_policy import unreachable
from controller.core.specs import spec_hash
from controller.model.ids import SessionId, SessionName
from controller.model.observation import SessionRequested
from controller.model.session import Session
from controller.model.spec import NetworkPolicy, SessionSpec
from controller.settings import Settings


async def create_session(edge: Edge, request: web.Request) -> web.Response:
    """POST /v1/sessions."""
    query = read_query(request, VerbQuery)
    body = await read_body(request, CreateBody)
    require_mode(edge, allowed=edge.settings.may_manage, what="create")
    spec = body.spec.to_model()
    refuse_what_cannot_work(spec, edge.settings)
    wanted = SessionRequested(
        session_id=SessionId(edge.rng.token(16)),
        name=SessionName(body.name),
        spec=spec,
        spec_hash=spec_hash(spec, (await edge.ledger.meta()).key),
        start=body.start,
        actor=actor_of(request),
        observed_at=edge.clock.now(),
    )
    existing = await edge.ledger.find(wanted.name)
    if existing is not None and existing.removed_at is None:
        return session_response(edge, _same_or_refused(existing, wanted))
    return await _submit(edge, wanted, query)


def refuse_what_cannot_work(spec: SessionSpec, settings: Settings) -> None:
    """Raise a 422 problem for a spec that is well-formed and can never do what it says."""
    arithmetic = unreachable(spec.restart)
    if arithmetic is not None:
        raise Problem(422, arithmetic)
    bridged = spec.network_policy is not NetworkPolicy.HOST_NETWORK
    if spec.expect_connection and bridged and settings.is_unreachable_from_bridges:
        raise Problem(
            422,
            f"expect_connection cannot work: the controller listens on {settings.bind} only, which a container on a "
            "bridge cannot reach; set AGENTD_BIND, or use the network policy host_network",
        )


def _same_or_refused(existing: Session, wanted: SessionRequested) -> Session:
    if existing.spec_hash == wanted.spec_hash:
        return existing
    raise Problem(409, f"a session named {wanted.name} exists with another spec: remove it first, or use another name")


async def _submit(edge: Edge, wanted: SessionRequested, query: VerbQuery) -> web.Response:
    async def ask_and_see() -> web.Response:
        answer = await edge.requests.create(wanted)
        if not answer.accepted:
            raise Problem(409, answer.message or "the session was refused")
        created = await edge.present_session(wanted.name)
        if not query.wait:
            return session_response(edge, created, status=202)
        seen = await see(edge, created, lambda now: now.id != created.id or creation_settled(now, start=wanted.start))
        return session_response(edge, seen, status=201)

    try:
        return await within(edge.clock, query.timeout_s, ask_and_see)
    except OutOfTime:
        found = await edge.ledger.find(wanted.name)
        if found is None:
            raise Problem(504, f"not recorded within {query.timeout_s:g} s; it may still happen") from None
        raise await too_late(edge, found, query.timeout_s) from None


ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/sessions",
        answerer=create_session,
        summary="Create a session, and start it unless told otherwise; the same name and spec again is no error",
        query=VerbQuery,
        body=CreateBody,
        gives={200: SessionView, 201: SessionView, 202: SessionView},
        refuses=(403, 404, 409, 504),
    ),
)
