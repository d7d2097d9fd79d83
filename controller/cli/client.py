"""The controller's HTTP API as the command line uses it: answers as views, refusals as exit codes."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final, TypeVar
from urllib.parse import quote

import aiohttp
from pydantic import BaseModel, ValidationError

from controller.cli.failure import CommandFailed, ExitCode
from controller.cli.invocation import Invocation

View = TypeVar("View", bound=BaseModel)
CONNECT_TIMEOUT_S: Final = 5.0
READ_TIMEOUT_S: Final = 150.0
"""Longer than the controller itself takes for anything but a follow."""
LINE_MAX_BYTES: Final = 1024 * 1024
_CODES: Final = {503: ExitCode.UNREACHABLE, 504: ExitCode.TIMED_OUT}
_DETAIL_MAX_BYTES: Final = 64 * 1024
_NO_NAMES: Final = ("", ".", "..")
"""In a path they stand for another one, which would then be asked."""


class Client:
    """One controller."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def get(self, path: str, answer: type[View], query: Mapping[str, str] | None = None) -> View:
        """One answer. Raises CommandFailed."""
        return await self._ask("GET", path, answer, query or {}, None)

    async def send(
        self,
        method: str,
        path: str,
        answer: type[View],
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
    ) -> View:
        """Ask for a change. Raises CommandFailed."""
        return await self._ask(method, path, answer, query or {}, body)

    @asynccontextmanager
    async def opened(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str],
        body: Mapping[str, object] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A response that is no refusal; its body is read by the caller. Raises CommandFailed."""
        wait_s = float(query.get("timeout_s", "0"))
        limits = aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT_S, sock_read=wait_s + READ_TIMEOUT_S)
        try:
            async with self._session.request(
                method,
                f"{self._url}{path}",
                params=dict(query),
                json=body,
                timeout=limits,
                allow_redirects=False,
            ) as response:
                if response.status >= 300 and not path.startswith(("/readyz", "/healthz")):
                    raise await _refusal(response)
                yield response
        except aiohttp.ConnectionTimeoutError:
            raise self._unreachable("no answer") from None
        except TimeoutError:
            raise CommandFailed(ExitCode.TIMED_OUT, f"the controller at {self._url} took too long") from None
        except aiohttp.ClientConnectorError as error:
            raise self._unreachable(error.strerror or str(error)) from None
        except aiohttp.ClientError as error:
            raise self._unreachable(str(error)) from None

    async def _ask(
        self, method: str, path: str, answer: type[View], query: Mapping[str, str], body: Mapping[str, object] | None
    ) -> View:
        async with self.opened(method, path, query=query, body=body) as response:
            raw = await response.read()
        try:
            return answer.model_validate_json(raw)
        except ValidationError:
            raise CommandFailed(ExitCode.REFUSED, f"{self._url} does not answer as a controller does") from None

    def _unreachable(self, why: str) -> CommandFailed:
        return CommandFailed(ExitCode.UNREACHABLE, f"no controller answers at {self._url}: {why}")


@asynccontextmanager
async def connected(call: Invocation) -> AsyncIterator[Client]:
    """A client of the controller that this invocation means."""
    headers = {"Agentd-Actor": call.actor()}
    token = call.token()
    if token:
        headers["Authorization"] = f"Bearer {token}"
    url = call.url()
    async with aiohttp.ClientSession(headers=headers) as session:
        yield Client(session, url)


def session_path(name: str, below: str = "") -> str:
    """The path of one session, whatever its name holds. Raises CommandFailed."""
    if name in _NO_NAMES:
        raise CommandFailed(ExitCode.NO_SUCH_SESSION, f"no such session: {name!r}")
    # What is no UTF-8 is no session's name: it is asked for as it would be shown.
    return f"/v1/sessions/{quote(name, safe='', errors='backslashreplace')}{below}"


async def lines_of(response: aiohttp.ClientResponse) -> AsyncIterator[str]:
    """The body line by line, each bounded, as it comes."""
    held = b""
    async for chunk in response.content.iter_any():
        *whole, held = (held + chunk).split(b"\n")
        for line in whole:
            yield line.decode("utf-8", "replace")
        if len(held) > LINE_MAX_BYTES:
            yield held.decode("utf-8", "replace")
            held = b""
    if held:
        yield held.decode("utf-8", "replace")


async def _refusal(response: aiohttp.ClientResponse) -> CommandFailed:
    raw = await response.content.read(_DETAIL_MAX_BYTES)
    detail = _detail(raw) or f"the controller answered {response.status} {response.reason}"
    if response.status == 404 and detail.startswith("no such session"):
        return CommandFailed(ExitCode.NO_SUCH_SESSION, detail)
    return CommandFailed(_CODES.get(response.status, ExitCode.REFUSED), detail)


def _detail(raw: bytes) -> str:
    try:
        problem: object = json.loads(raw)
    except ValueError:
        return ""
    detail = problem.get("detail") if isinstance(problem, dict) else None
    return detail if isinstance(detail, str) else ""
