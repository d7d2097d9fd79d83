"""The OpenAPI document, and the running server held to it by schemathesis."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import CHECKS
from schemathesis.generation import GenerationMode

from controller.api.openapi import document
from controller.api.route import Route
from controller.api.schemas import CreateBody
from controller.api.server import ROUTES
from tests.api.world import Site, hosted
from tests.support.anew import anew

HELD_ROUTES = [route for route in ROUTES if route.path not in ("/v1/events", "/ws/{name}")]
"""All but the two that do not end by themselves."""
HELD = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Schemathesis asks from this thread, and blocks while it waits."""
    with hosted(tmp_path_factory.mktemp("openapi")) as found:
        yield found


@pytest.mark.parametrize("route", HELD_ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_answer_is_as_the_document_says(url: str, route: Route) -> None:
    operation = schemathesis.openapi.from_dict(json.loads(document(ROUTES)))[route.path][route.method]

    # A spec may be well-formed and still never work: only there may what the document allows be refused.
    held = HELD if route.body is CreateBody else (*HELD, "positive_data_acceptance")

    checks: Any = CHECKS.get_by_names(held)

    @given(case=operation.as_strategy() | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
    @settings(max_examples=15, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @anew
    def holds(case: "schemathesis.Case[Any]") -> None:
        case.call_and_validate(base_url=url, checks=checks, timeout=30)

    holds()


async def test_the_document_names_every_route(site: Site) -> None:
    async with site.client.get("/openapi.json") as answer:
        document = await answer.json()
    assert document["openapi"] == "3.1.0"
    told = {(path, method.upper()) for path, item in document["paths"].items() for method in item}
    assert told == {(route.path, route.method) for route in ROUTES}
    operations = [each["operationId"] for item in document["paths"].values() for each in item.values()]
    assert len(set(operations)) == len(operations)
    text = json.dumps(document)
    schemas = document["components"]["schemas"]
    assert {name.split('"')[0] for name in text.split("#/components/schemas/")[1:]} <= set(schemas)
