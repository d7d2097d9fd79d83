"""Errors as RFC 9457 problem details: every refusal of the HTTP edge has this one form."""

import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import structlog
from aiohttp import web

from controller.errors import ControllerError, EngineUnavailable, Overloaded

Endpoint = Callable[[web.Request], Awaitable[web.StreamResponse]]

DETAIL_MAX_CHARS = 2_000


class Problem(ControllerError):
    """A request is refused: an HTTP status and one line why."""

    def __init__(self, status: int, detail: str, *, headers: dict[str, str] | None = None) -> None:
        """Keep what the response needs."""
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}


def problem_response(problem: Problem) -> web.Response:
    """One problem as a response."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail[:DETAIL_MAX_CHARS],
    }
    return web.Response(
        status=problem.status,
        body=json.dumps(body).encode(),
        content_type="application/problem+json",
        headers=problem.headers,
    )


@web.middleware
async def problems(request: web.Request, handler: Endpoint) -> web.StreamResponse:
    """Outermost: whatever goes wrong inside becomes a problem; only a bug becomes a 500."""
    try:
        return await handler(request)
    except Problem as problem:
        return problem_response(problem)
    except web.HTTPException as refusal:
        return problem_response(_from_aiohttp(refusal))
    except EngineUnavailable as error:
        return problem_response(Problem(503, f"the engine could not be asked: {error}"))
    except Overloaded as error:
        return problem_response(Problem(503, str(error)))
    except ConnectionError:
        raise
    except Exception:  # noqa: BLE001 - a client always gets an answer, and a bug never ends the controller
        structlog.get_logger().exception("request_failed", method=request.method, path=request.path)
        return problem_response(Problem(500, "the controller made a mistake; its log says which"))


def _from_aiohttp(refusal: web.HTTPException) -> Problem:
    details = {
        404: "no such path",
        405: "this path does not know that method",
        413: "the body is too large",
    }
    allow = refusal.headers.get("Allow")
    detail = details.get(refusal.status, refusal.reason)
    return Problem(refusal.status, detail, headers={"Allow": allow} if allow else {})
