"""The OpenAPI 3.1 document, made from the route table and the schemas, so that it cannot tell another story."""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from controller import __version__
from controller.api.auth import AGENTS_PATH, OPEN_PATHS
from controller.api.route import Given, Route
from controller.api.schemas import NAME_RULE, SESSION_NAME, Query
from controller.api.shapes import View

Node = dict[str, object]
_REF: Final = "#/components/schemas/{model}"
_PROBLEM_REF: Final[Node] = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
_PROBLEM: Final[Node] = {
    "type": "object",
    "description": "RFC 9457 problem details",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "One line why"},
    },
}
_EVERYWHERE: Final = (400, 401, 403, 500)
_WITH_BODY: Final = (408, 413, 415, 422)


def document(routes: Sequence[Route]) -> bytes:
    """The whole document as JSON."""
    paths: dict[str, Node] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    whole = {
        "openapi": "3.1.0",
        "info": {
            "title": "agentd-controller",
            "version": __version__,
            "description": "A truthful record of every agent session, and reality kept in step with it.",
        },
        "paths": paths,
        "components": {
            "schemas": _schemas(routes) | {"Problem": _PROBLEM},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }
    return json.dumps(whole, indent=1).encode()


def _operation(route: Route) -> Node:
    operation: Node = {
        "operationId": route.answerer.__name__ if route.answerer.__name__ != "answer" else route.path.rsplit("/", 1)[1],
        "summary": route.summary,
        "parameters": _parameters(route),
        "responses": _responses(route),
        "security": [] if route.path in OPEN_PATHS else [{"bearer": []}, {}],
    }
    if route.body is not None:
        schema = {"$ref": _REF.format(model=route.body.__name__)}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return operation


def _parameters(route: Route) -> list[Node]:
    found: list[Node] = []
    if "{name}" in route.path:
        rule = {"type": "string", "pattern": SESSION_NAME}
        found.append({"name": "name", "in": "path", "required": True, "description": NAME_RULE, "schema": rule})
    if route.path.startswith(AGENTS_PATH):
        text = {"type": "string"}
        found.append({"name": "token", "in": "query", "description": "The session's token", "schema": text})
    return found + _query_parameters(route.query)


def _query_parameters(query: type[Query]) -> list[Node]:
    schema = query.model_json_schema(mode="validation", ref_template=_REF)
    described: Mapping[str, Node] = schema.get("properties", {})
    return [
        {"name": name, "in": "query", "required": False, "schema": _without_null(rule)}
        for name, rule in described.items()
    ]


def _without_null(rule: Node) -> Node:
    # A query string cannot say null: a parameter is there, or it is not.
    options = rule.get("anyOf")
    if not isinstance(options, list):
        return rule
    kept = [option for option in options if option != {"type": "null"}]
    rest = {key: value for key, value in rule.items() if key not in ("anyOf", "default")}
    return rest | (kept[0] if len(kept) == 1 else {"anyOf": kept})


def _responses(route: Route) -> Node:
    responses: Node = {str(status): _given(status, given, route) for status, given in route.gives.items()}
    bodied = _WITH_BODY if route.body is not None else ()
    for status in sorted({*_EVERYWHERE, *bodied, *route.refuses}):
        if str(status) not in responses:
            responses[str(status)] = {"description": HTTPStatus(status).phrase, "content": _PROBLEM_REF}
    return responses


def _given(status: int, given: Given, route: Route) -> Node:
    if isinstance(given, str):
        content: Node = {given: {"schema": {"type": "string"}}}
    else:
        content = {"application/json": {"schema": {"$ref": _REF.format(model=given.__name__)}}}
    response: Node = {"description": HTTPStatus(status).phrase, "content": content}
    if route.headers:
        response["headers"] = {
            name: {"description": meaning, "schema": {"type": "string"}} for name, meaning in route.headers.items()
        }
    return response


def _schemas(routes: Sequence[Route]) -> Node:
    modes: dict[type[BaseModel], JsonSchemaMode] = {}
    for route in routes:
        if route.body is not None:
            modes[route.body] = "validation"
        for given in route.gives.values():
            if not isinstance(given, str) and issubclass(given, View):
                modes[given] = "serialization"
    _, definitions = models_json_schema(list(modes.items()), by_alias=True, ref_template=_REF)
    schemas: Node = definitions.get("$defs", {})
    return schemas
