"""The HTTP edge of one life, asked in-process: the real application with all its routes and guards, and no socket.

What is asked waits on the simulated clock for what it may wait for; who asks hears a status and a body, or nothing,
when the program dies meanwhile.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import cached_property
from typing import Any, Final

import aiohttp
from aiohttp import web, web_app
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpVersion11, RawRequestMessage
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from controller.interfaces import Rng

BODY_LIMIT: Final = 2**16
WISHED_ID: Final[ContextVar[str]] = ContextVar("wished_id", default="")
"""The id that the session is to get that is just being asked for: the judges know it by that."""

_DEFECT: Final = 500
READS: Final = (
    "/livez",
    "/readyz",
    "/healthz",
    "/openapi.json",
    "/v1/sessions?all=true",
    "/v1/sessions/{}",
    "/v1/sessions/{}/timeline",
    "/v1/sessions/{}/why",
    "/v1/sessions/{}/logs?tail=5",
    "/v1/journal?limit=50",
    "/v1/orphans",
)


class WishedIds:
    """Chance as the edge sees it: a session gets the id that its wish was made with."""

    def __init__(self, rng: Rng) -> None:
        self._rng = rng

    def token(self, bytes_count: int) -> str:
        return WISHED_ID.get() or self._rng.token(bytes_count)

    def uniform(self, low: float, high: float) -> float:
        return self._rng.uniform(low, high)


class Refused(Exception):
    """An answer other than 2xx."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.detail = detail

    @property
    def is_defect(self) -> bool:
        """A 500: the program itself says that it made a mistake."""
        return self.status == _DEFECT


class HttpEdge:
    """Asks the application as an HTTP server would."""

    def __init__(self, build: Callable[[], web.Application]) -> None:
        self._build = build

    @cached_property
    def _app(self) -> web.Application:
        """Made when somebody asks: most lives are too short for that."""
        app = self._build()
        app.freeze()
        return app

    async def ask(self, method: str, path: str, body: object = None) -> Any:
        """The JSON of a 2xx answer; None where there is none. Raises Refused."""
        headers = {"Host": "localhost", "Agentd-Actor": "simulated"}
        payload = aiohttp.StreamReader(BaseProtocol(asyncio.get_running_loop()), BODY_LIMIT)
        if body is not None:
            headers["Content-Type"] = "application/json"
            payload.feed_data(json.dumps(body).encode())
        payload.feed_eof()
        answer = await self._app._handle(_request(method, path, headers, payload))
        assert isinstance(answer, web.Response), path
        text = answer.body.decode() if isinstance(answer.body, bytes) else ""
        if not 200 <= answer.status < 300:
            raise Refused(answer.status, str(json.loads(text).get("detail", text)) if text else "")
        return json.loads(text) if text and "json" in answer.content_type else None


def forget_all() -> None:
    """For the end of a world: aiohttp remembers its latest thousand applications, and each holds a whole program."""
    web_app._cached_build_middleware.cache_clear()


class _Wire:
    """As much of a protocol as a request asks for that came over no socket."""

    transport = None
    ssl_context = None
    peername = None
    sockname = ("127.0.0.1", 80)


def _request(method: str, path: str, headers: Mapping[str, str], payload: aiohttp.StreamReader) -> web.Request:
    wire: Any = _Wire()
    message = RawRequestMessage(
        method=method,
        path=path,
        version=HttpVersion11,
        headers=CIMultiDictProxy(CIMultiDict(headers)),
        raw_headers=tuple((key.encode(), value.encode()) for key, value in headers.items()),
        should_close=False,
        compression=None,
        upgrade=False,
        chunked=False,
        url=URL(path),
    )
    loop = asyncio.get_running_loop()
    task: Any = asyncio.current_task()
    return web.Request(message, payload, wire, wire, task, loop, client_max_size=BODY_LIMIT)
