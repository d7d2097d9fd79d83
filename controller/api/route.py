"""One route as data: what it answers to, takes and gives. The server and the OpenAPI document are made from it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web
from pydantic import BaseModel

from controller.api.edge import Edge
from controller.api.schemas import Body, NoQuery, Query

Answerer = Callable[[Edge, web.Request], Awaitable[web.StreamResponse]]
Given = type[BaseModel] | str
"""What a response holds: JSON of a view, or a media type."""


@dataclass(frozen=True, kw_only=True)
class Route:
    """One method of one path."""

    method: str
    path: str
    answerer: Answerer
    summary: str
    gives: Mapping[int, Given]
    query: type[Query] = NoQuery
    body: type[Body] | None = None
    refuses: tuple[int, ...] = ()
    """Statuses of its own problems, beside those that every route may answer."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers of its responses, each with its meaning."""
