"""Who may ask at all. Three guards, outermost first: which host was meant, which page sent it, which token came.

A loopback server without a token believes everybody on this host, but no web page that a browser on this host has
open: such a page is known by its Host (DNS rebinding) or by its Origin (cross-site requests).
"""

import hmac
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from controller.api.edge import EDGE
from controller.api.problems import Endpoint, Problem
from controller.settings import is_loopback

OPEN_PATHS: Final = ("/livez", "/readyz")
AGENTS_PATH: Final = "/ws/"
"""The agents' connection has session tokens of its own."""
_SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS")
_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="agentd"'}


@web.middleware
async def guard(request: web.Request, handler: Endpoint) -> web.StreamResponse:
    """Refuse with 401 or 403 whoever may not ask."""
    if not request.path.startswith(AGENTS_PATH):
        token = request.app[EDGE].settings.token
        if not token:
            _require_loopback_host(request)
        _require_own_origin(request)
        if token and request.path not in OPEN_PATHS:
            _require_token(request, token)
    return await handler(request)


def bearer_token(request: web.Request) -> str:
    """The token of the Authorization header; empty when there is none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def same_secret(given: str, expected: str) -> bool:
    """Whether the two are equal, in a time that does not tell how far they agree."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), expected.encode())


def _require_token(request: web.Request, token: str) -> None:
    given = bearer_token(request)
    if not given:
        raise Problem(401, "a bearer token is needed: send Authorization: Bearer TOKEN", headers=_CHALLENGE)
    if not same_secret(given, token):
        raise Problem(401, "the bearer token is not the right one", headers=_CHALLENGE)


def _require_loopback_host(request: web.Request) -> None:
    if not is_loopback(_host_name(request.headers.get("Host", ""))):
        raise Problem(403, "without a token only this host may ask, as localhost or 127.0.0.1")


def _require_own_origin(request: web.Request) -> None:
    if request.method in _SAFE_METHODS:
        return
    origin = request.headers.get("Origin")
    elsewhere = origin is not None and _origin_host(origin) != request.headers.get("Host", "").lower()
    if elsewhere or request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        raise Problem(403, "a page of another origin may not change anything here")


def _origin_host(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
