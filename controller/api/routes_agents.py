"""WS /ws/{session}: the agents' connection. A stranger is refused before the upgrade."""

from typing import Final

from aiohttp import web

from controller.api.auth import bearer_token, same_secret
from controller.api.edge import Edge
from controller.api.problems import Problem
from controller.api.registry import CLOSE_TIMEOUT_S, MESSAGE_MAX_BYTES, PING_S
from controller.api.route import Route
from controller.core.specs import session_token
from controller.model.session import Session

SESSION_TOKEN: Final = "token"


async def connect_agent(edge: Edge, request: web.Request) -> web.StreamResponse:
    """GET /ws/{session}, upgraded."""
    session = await _admitted(edge, request)
    socket = web.WebSocketResponse(heartbeat=PING_S, timeout=CLOSE_TIMEOUT_S, max_msg_size=MESSAGE_MAX_BYTES)
    if not socket.can_prepare(request).ok:
        raise Problem(426, "connect with a WebSocket", headers={"Upgrade": "websocket"})
    await socket.prepare(request)
    await edge.registry.hold(session.id, socket)
    return socket


async def _admitted(edge: Edge, request: web.Request) -> Session:
    given = bearer_token(request) or request.query.get(SESSION_TOKEN, "")
    if not given:
        raise Problem(401, "the session's token is needed", headers={"WWW-Authenticate": "Bearer"})
    session = await edge.present_session(request.match_info["name"])
    if not same_secret(given, session_token((await edge.ledger.meta()).key, session.id)):
        raise Problem(403, "that is not this session's token")
    return session


ROUTES: Final = (
    Route(
        method="GET",
        path="/ws/{name}",
        answerer=connect_agent,
        summary="The agents' connection (WebSocket), with the session's token",
        gives={101: "application/octet-stream"},
        refuses=(403, 404, 426),
    ),
)
