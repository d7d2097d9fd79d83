"""From raw requests to checked values: bodies, queries, and who is asking. Refusals are one clear line."""

import re
from typing import Final, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from controller.api.edge import EDGE
from controller.api.problems import Problem
from controller.api.schemas import NAME_RULE, SESSION_NAME, Body, Query
from controller.api.timing import OutOfTime, within

BODY_MAX_BYTES: Final = 256 * 1024
BODY_TIMEOUT_S: Final = 10.0
_ACTOR: Final = re.compile(r"[A-Za-z0-9_.@-]{1,64}")

BodyModel = TypeVar("BodyModel", bound=Body)
QueryModel = TypeVar("QueryModel", bound=Query)


async def read_body(request: web.Request, model: type[BodyModel]) -> BodyModel:
    """The JSON body, checked. Raises 400, 408, 413, 415 or 422 problems."""
    if request.content_type != "application/json":
        raise Problem(415, "send a JSON body with Content-Type: application/json")
    try:
        raw = await within(request.app[EDGE].clock, BODY_TIMEOUT_S, request.read)
    except OutOfTime:
        raise Problem(408, f"the body did not arrive within {BODY_TIMEOUT_S:g} s") from None
    except web.RequestPayloadError:
        raise Problem(400, "the body is cut, or is not encoded as its headers say") from None
    return checked(model, raw)


def checked(model: type[BodyModel], raw: bytes) -> BodyModel:
    """A JSON text as that model. Raises 400 or 422 problems."""
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise Problem(400 if first["type"] == "json_invalid" else 422, complaint(first)) from None


def read_query(request: web.Request, model: type[QueryModel]) -> QueryModel:
    """The query string, checked. Raises 400 problems."""
    query = request.query
    repeated = [key for key in query if len(query.getall(key)) > 1]
    if repeated:
        raise Problem(400, f"query parameter {repeated[0]!r} is given more than once")
    try:
        return model.model_validate(dict(query))
    except ValidationError as error:
        raise Problem(400, f"query parameter {complaint(error.errors(include_url=False)[0])}") from None


def complaint(error: ErrorDetails) -> str:
    """One line for the first thing that is wrong."""
    where = ".".join(str(part) for part in error["loc"] if part != "[key]")
    match error["type"]:
        case "extra_forbidden":
            return f"{where}: unknown; it may be misspelt"
        case "missing":
            return f"{where}: required"
        case "string_pattern_mismatch" if error.get("ctx", {}).get("pattern") == SESSION_NAME:
            return f"{where}: {NAME_RULE}"
    said = error["msg"].removeprefix("Value error, ")
    return f"{where}: {said}" if where else said


def actor_of(request: web.Request) -> str:
    """Who asks, for the journal: the name that the client gives, which nobody has proven."""
    claimed = request.headers.get("Agentd-Actor", "")
    return f"user:{claimed}" if _ACTOR.fullmatch(claimed) else "user:api"


def json_of(view: BaseModel, *, status: int = 200) -> web.Response:
    """One view as a JSON response."""
    body = view.model_dump_json(by_alias=True).encode()
    return web.Response(status=status, body=body, content_type="application/json")
