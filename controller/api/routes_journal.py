"""The journal, by pages and as a stream of server-sent events that resumes without loss."""

from typing import Final

from aiohttp import web

from controller.api.edge import Edge
from controller.api.problems import Problem
from controller.api.reading import json_of, read_query
from controller.api.route import Route
from controller.api.schemas import EventsQuery, JournalQuery
from controller.api.shapes import RowsView
from controller.api.views import is_shown, row_view, rows_view
from controller.interfaces import JournalFilter
from controller.model.journal import JournalRow

HEARTBEAT_S: Final = 15.0
_PAGE: Final = 200
_SEQ_DIGITS_MAX: Final = 18


async def list_journal(edge: Edge, request: web.Request) -> web.Response:
    """GET /v1/journal."""
    query = read_query(request, JournalQuery)
    session_id = (await edge.session(query.session)).id if query.session is not None else None
    wanted = JournalFilter(after=query.after, limit=query.limit, session_id=session_id)
    return json_of(rows_view(await edge.ledger.journal(wanted), limit=query.limit))


async def stream_events(edge: Edge, request: web.Request) -> web.StreamResponse:
    """GET /v1/events: each row once, in order, from where the client left off."""
    query = read_query(request, EventsQuery)
    seq = _resume_after(request, query, newest=edge.feed.committed())
    with edge.streams.opened():
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        await response.prepare(request)
        # The first bytes tell the client where it stands, so that it can resume even if no row ever comes.
        await response.write(f"id: {seq}\n: following\n\n".encode())
        await _pump(edge, response, seq)
    return response


async def _pump(edge: Edge, response: web.StreamResponse, seq: int) -> None:
    while True:
        rows = await edge.ledger.journal(JournalFilter(after=seq, limit=_PAGE))
        if rows:
            await response.write("".join(_message(row) for row in rows if is_shown(row)).encode())
            seq = rows[-1].seq
        elif not await edge.row_beyond(seq, wait_s=HEARTBEAT_S):
            await response.write(b": still here\n\n")


def _message(row: JournalRow) -> str:
    # JSON escapes every line break within it, so that hostile text cannot begin a field of the stream.
    return f"id: {row.seq}\nevent: {row.draft.kind}\ndata: {row_view(row).model_dump_json(by_alias=True)}\n\n"


def _resume_after(request: web.Request, query: EventsQuery, *, newest: int) -> int:
    last = request.headers.get("Last-Event-ID", "")
    if not last:
        return newest if query.after is None else query.after
    if not (last.isascii() and last.isdecimal() and len(last) <= _SEQ_DIGITS_MAX):
        raise Problem(400, "Last-Event-ID must be the seq of a journal row")
    return int(last)


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/journal",
        answerer=list_journal,
        summary="Journal rows after a seq",
        query=JournalQuery,
        gives={200: RowsView},
        refuses=(404,),
    ),
    Route(
        method="GET",
        path="/v1/events",
        answerer=stream_events,
        summary="Journal rows as server-sent events; the id is the seq, Last-Event-ID resumes",
        query=EventsQuery,
        gives={200: "text/event-stream"},
        refuses=(503,),
    ),
)
