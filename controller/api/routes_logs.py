"""What a session printed: from the engine, or the lines that were kept once the container is gone.

The header `Agentd-Logs` says which: `engine`, `kept`, or `none` with the reason in `Agentd-Logs-Absent`. The lines are
plain text and hostile; whoever shows them on a terminal cleans them.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from controller.api.edge import Edge
from controller.api.problems import Problem
from controller.api.reading import read_query
from controller.api.route import Route
from controller.api.schemas import LogsQuery
from controller.errors import ContainerGone, EngineUnavailable
from controller.model.ids import ContainerId
from controller.model.instant import Instant, after
from controller.model.session import Attempt, Session

TAIL_MAX_BYTES: Final = 1024 * 1024
ENGINE_TIMEOUT_S: Final = 20.0
SLACK_S: Final = 2.0
"""An engine notes StartedAt a moment after the program began to print, and FinishedAt may be as imprecise."""


@dataclass(frozen=True, kw_only=True)
class Lines:
    """Some lines and where they came from."""

    source: str
    """`engine`, `kept` or `none`."""
    lines: Sequence[str] = ()
    absent: str = ""


@dataclass(frozen=True, kw_only=True)
class Window:
    """Which container's lines, and of which time by the engine's clock."""

    container: ContainerId | None
    since: Instant | None = None
    until: Instant | None = None


async def show_logs(edge: Edge, request: web.Request) -> web.StreamResponse:
    """GET /v1/sessions/{name}/logs."""
    query = read_query(request, LogsQuery)
    session = await edge.session(request.match_info["name"])
    window = await _window(edge, session, query.attempt)
    if query.follow and session.container_id is not None and query.attempt in (None, session.attempt_count):
        followed = await _follow(edge, request, session.container_id, query.tail)
        if followed is not None:
            return followed
    found = await engine_lines(edge, window, query)
    if found.source != "engine":
        found = await kept_lines(edge, session, query, found.absent)
    body = b"".join(_bytes_of(line) for line in found.lines)
    return web.Response(body=body, headers=_headers(found))


async def engine_lines(edge: Edge, window: Window, query: LogsQuery) -> Lines:
    """The engine's answer; `none` when it has nothing to say or could not be asked."""
    container = window.container
    if container is None:
        return Lines(source="none", absent="no container")
    try:
        tail = await edge.ask(
            ENGINE_TIMEOUT_S,
            lambda: edge.logs.tail(
                container,
                lines=query.tail,
                max_bytes=TAIL_MAX_BYTES,
                since=window.since,
                until=window.until,
            ),
        )
    except ContainerGone:
        return Lines(source="none", absent="container gone")
    except (EngineUnavailable, Problem):
        return Lines(source="none", absent="could not ask")
    if tail.absent:
        return Lines(source="none", absent=tail.absent)
    return Lines(source="engine", lines=tail.lines)


async def kept_lines(edge: Edge, session: Session, query: LogsQuery, absent: str) -> Lines:
    """The lines that the ledger keeps of that attempt, or of the latest that left any."""
    evidence = await edge.ledger.evidence(session.id, query.attempt)
    if evidence is None:
        return Lines(source="none", absent=absent)
    if evidence.tail.absent:
        return Lines(source="none", absent=evidence.tail.absent)
    kept = evidence.tail.lines[-query.tail :] if query.tail else ()
    return Lines(source="kept", lines=kept)


async def _window(edge: Edge, session: Session, number: int | None) -> Window:
    if number is None:
        return Window(container=session.container_id)
    attempts = {attempt.number: attempt for attempt in await edge.ledger.attempts(session.id)}
    if number not in attempts:
        raise Problem(404, f"{session.name} has no attempt {number} on record")
    return window_of(attempts[number], attempts.get(number - 1))


def window_of(attempt: Attempt, before: Attempt | None) -> Window:
    """From a moment before its start, but after the end of the attempt before it in the same container."""
    since = after(attempt.started_at, -SLACK_S) if attempt.started_at is not None else None
    if since is not None and before is not None and before.container == attempt.container and before.finished_at:
        since = max(since, before.finished_at)
    until = after(attempt.finished_at, SLACK_S) if attempt.finished_at is not None else None
    return Window(container=attempt.container, since=since, until=until)


async def _follow(edge: Edge, request: web.Request, container: ContainerId, tail: int) -> web.StreamResponse | None:
    """The live lines until the container ends; None when the engine cannot give them."""
    with edge.streams.opened():
        async with AsyncExitStack() as stack:
            try:
                lines = await stack.enter_async_context(edge.logs.follow(container, lines=tail))
            except (ContainerGone, EngineUnavailable):
                return None
            response = web.StreamResponse(headers=_headers(Lines(source="engine")))
            await response.prepare(request)
            await _copy(lines, response)
            return response
    return None


async def _copy(lines: AsyncIterator[str], response: web.StreamResponse) -> None:
    try:
        async for line in lines:
            await response.write(_bytes_of(line))
    except (ContainerGone, EngineUnavailable):
        # The status has been sent long since: the stream just ends, as it does when the container ends.
        return


def _bytes_of(line: str) -> bytes:
    # One line stays one line, whatever stands in it.
    return line.removesuffix("\n").replace("\n", "\\n").encode("utf-8", "replace") + b"\n"


def _headers(found: Lines) -> dict[str, str]:
    headers = {"Content-Type": "text/plain; charset=utf-8", "Agentd-Logs": found.source}
    if found.absent and not found.lines:
        headers["Agentd-Logs-Absent"] = found.absent.encode("ascii", "replace").decode().replace("\n", " ")
    return headers


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/sessions/{name}/logs",
        answerer=show_logs,
        summary="What it printed, from the engine or from what was kept",
        query=LogsQuery,
        gives={200: "text/plain"},
        refuses=(404, 503),
        headers={
            "Agentd-Logs": "where the lines come from: engine, kept or none",
            "Agentd-Logs-Absent": "why there are none",
        },
    ),
)
