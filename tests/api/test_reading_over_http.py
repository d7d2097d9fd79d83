"""Lists, journal, events, logs and condition, as a client reads them."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import anyio
import pytest
from aiohttp import ClientResponse

from controller.core.row_fields import row_fields
from controller.interfaces import Batch, CommittedDecision, JournalFilter, PlanLine, Readiness
from controller.model.ids import ContainerId
from controller.model.journal import RowKind
from controller.model.reason import Reason
from tests.api.world import HandClock, Site, World, a_session, an_evidence, container_of, row_of

HOSTILE = "\x1b[31mred\x1b[0m\r\nid: 99\nevent: forged\n\n<script>alert(1)</script>\u202e\u2028"


async def _json(site: Site, path: str, *, status: int = 200) -> Any:
    async with site.client.get(path) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json(content_type=None)


async def test_sessions_are_paged_by_name_and_removed_ones_hidden(site: Site, world: World) -> None:
    for name in ("c", "a", "b"):
        await world.run(a_session(name, now=world.clock.now()))
    for life in ("1", "2"):
        gone = replace(a_session("b", session_id=f"old-{life}", now=world.clock.now()), removed_at=world.clock.now())
        await world.commit(gone)
    first = await _json(site, "/v1/sessions?limit=2")
    second = await _json(site, f"/v1/sessions?limit=2&after={first['next'].replace(' ', '%20')}")
    assert [each["name"] for each in first["items"] + second["items"]] == ["a", "b", "c"]
    assert second["next"] is None
    names = []
    page = {"next": ""}
    while page["next"] is not None:
        page = await _json(site, f"/v1/sessions?all=true&limit=1&after={page['next'].replace(' ', '%20')}")
        names += [each["name"] for each in page["items"]]
    assert names == ["a", "b", "b", "b", "c"]


async def test_sessions_can_be_chosen_by_phase(site: Site, world: World) -> None:
    await world.run(a_session("a", now=world.clock.now()))
    await world.fail(a_session("b", now=world.clock.now()), Reason.ERROR_EXIT, "exit 3")
    found = await _json(site, "/v1/sessions?phase=failed")
    assert [each["name"] for each in found["items"]] == ["b"]


@pytest.mark.parametrize(
    "query",
    ["phase=dead", "limit=0", "limit=1001", "limit=1.5", "limit=%C2%B2", "all=maybe", "nope=1", "all=true&all=false"],
)
async def test_a_query_that_is_not_understood_is_refused(site: Site, query: str) -> None:
    problem = await _json(site, f"/v1/sessions?{query}", status=400)
    assert problem["detail"].startswith("query parameter")


async def test_unknown_sessions_paths_and_methods_are_problems(site: Site) -> None:
    assert (await _json(site, "/v1/sessions/nobody", status=404))["detail"] == "no such session: nobody"
    assert (await _json(site, "/v1/sessions/%1B%5B31m%0A", status=404))["status"] == 404
    assert (await _json(site, "/v1/nothing", status=404))["detail"] == "no such path"
    async with site.client.put("/v1/sessions") as answer:
        assert answer.status == 405
        assert answer.headers["Allow"] == "GET,POST"
        assert answer.content_type == "application/problem+json"


async def test_a_body_beyond_the_limit_is_refused(site: Site) -> None:
    headers = {"Content-Type": "application/json"}
    async with site.client.post("/v1/sessions", data=b"[" * 300_000, headers=headers) as answer:
        assert answer.status == 413
        assert answer.content_type == "application/problem+json"


async def test_a_bug_is_a_500_that_tells_no_insides_and_forges_no_log_line(site: Site, world: World) -> None:
    world.crash = True
    problem = await _json(site, "/healthz", status=500)
    assert "script" not in json.dumps(problem)
    world.crash = False
    assert (await _json(site, "/readyz"))["ready"] is True


async def test_the_journal_is_paged_by_seq(site: Site, world: World) -> None:
    alpha = await world.run(a_session("alpha", now=world.clock.now()))
    await world.run(a_session("beta", now=world.clock.now()))
    await world.fail(alpha, Reason.ERROR_EXIT, HOSTILE)
    page = await _json(site, "/v1/journal?limit=2")
    assert [row["seq"] for row in page["items"]] == [1, 2]
    assert page["next"] == 2
    rest = await _json(site, "/v1/journal?after=2&limit=2")
    assert rest["next"] is None
    assert rest["items"][0]["message"] == HOSTILE
    assert rest["items"][0]["to"] == "failed"
    timeline = await _json(site, "/v1/sessions/alpha/timeline")
    assert [row["to"] for row in timeline["items"]] == ["running", "failed"]
    assert [row["session"] for row in (await _json(site, "/v1/journal?session=beta"))["items"]] == ["beta"]
    assert set(timeline["items"][0]) >= {
        *("seq", "session", "attempt", "from", "to", "health_from", "health_to", "reason", "message", "source"),
        *("actor", "at", "observed_at", "committed_at", "container_id", "exit", "evidence"),
    }


async def test_notes_that_serve_a_replay_are_not_shown(site: Site, world: World) -> None:
    alpha = await world.run(a_session("alpha", now=world.clock.now()))
    note = replace(row_of(alpha, world.clock.now()), kind=RowKind.NOTE)
    for _ in range(3):
        await world.ledger.commit(Batch(decisions=[CommittedDecision(observation=None, rows=[note])]))
    await world.fail(alpha, Reason.ERROR_EXIT, "exit 3")
    page = await _json(site, "/v1/journal?after=1&limit=2")
    assert (page["items"], page["next"]) == ([], 3)
    assert [row["seq"] for row in (await _json(site, "/v1/journal"))["items"]] == [1, 5]


async def test_a_row_is_told_over_http_as_in_the_log(site: Site, world: World) -> None:
    alpha = await world.run(a_session("alpha", now=world.clock.now()))
    await world.fail(alpha, Reason.ERROR_EXIT, HOSTILE)
    rows = await world.ledger.journal(JournalFilter())
    told = (await _json(site, "/v1/journal"))["items"]
    for row, over_http in zip(rows, told, strict=True):
        logged = json.loads(json.dumps(row_fields(row)))
        assert logged == {key: over_http[key] for key in logged}


async def _messages(answer: ClientResponse) -> AsyncIterator[dict[str, str]]:
    message: dict[str, str] = {}
    async for raw in answer.content:
        line = raw.decode().removesuffix("\n")
        if not line:
            if "data" in message:
                yield message
            message = {}
        elif not line.startswith(":"):
            key, _, value = line.partition(": ")
            message[key] = value


async def test_events_resume_after_the_last_one_seen_without_loss(site: Site, world: World) -> None:
    alpha = await world.run(a_session("alpha", now=world.clock.now()))
    await world.fail(alpha, Reason.ERROR_EXIT, HOSTILE)
    with anyio.fail_after(10):
        async with site.client.get("/v1/events", headers={"Last-Event-ID": "1"}) as answer:
            assert answer.content_type == "text/event-stream"
            messages = _messages(answer)
            first = await anext(messages)
            await world.run(alpha)
            second = await anext(messages)
    assert (first["id"], first["event"], second["id"]) == ("2", "transition", "3")
    assert json.loads(first["data"])["message"] == HOSTILE
    assert json.loads(second["data"])["to"] == "running"


async def test_events_begin_with_the_next_row_and_a_silent_stream_is_kept_alive(
    still_site: Site, still_world: World, hand_clock: HandClock
) -> None:
    await still_world.run(a_session("alpha", now=hand_clock.now()))
    with anyio.fail_after(10):
        async with still_site.client.get("/v1/events") as answer:
            assert await answer.content.readline() == b"id: 1\n"
            assert await answer.content.readline() == b": following\n"
            assert await answer.content.readline() == b"\n"
            while not hand_clock.sleepers_count:
                await anyio.lowlevel.checkpoint()
            hand_clock.pass_s(16)
            assert await answer.content.readline() == b": still here\n"


async def test_a_last_event_id_that_is_no_seq_is_refused(site: Site) -> None:
    async with site.client.get("/v1/events", headers={"Last-Event-ID": "x"}) as answer:
        assert answer.status == 400


async def test_logs_come_from_the_engine_while_it_has_them(site: Site, world: World) -> None:
    await world.run(a_session("alpha", now=world.clock.now()))
    world.logs.printed[container_of("alpha")] = ["one", "two", "three"]
    async with site.client.get("/v1/sessions/alpha/logs?tail=2") as answer:
        assert answer.headers["Agentd-Logs"] == "engine"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert await answer.text() == "two\nthree\n"
    async with site.client.get("/v1/sessions/alpha/logs?follow=true") as answer:
        assert await answer.text() == "one\ntwo\nthree\n"


@pytest.mark.parametrize("query", ["", "?follow=true", "?attempt=1"])
@pytest.mark.parametrize("reachable", [True, False])
async def test_logs_fall_back_to_what_was_kept(site: Site, world: World, query: str, *, reachable: bool) -> None:
    session = await world.run(a_session("alpha", now=world.clock.now()))
    await world.commit(session, evidence=[an_evidence(session, "last", "words")])
    world.logs.reachable = reachable
    async with site.client.get(f"/v1/sessions/alpha/logs{query}") as answer:
        assert answer.headers["Agentd-Logs"] == "kept"
        assert await answer.text() == "last\nwords\n"


async def test_logs_that_nobody_has_say_why(site: Site, world: World) -> None:
    await world.run(a_session("alpha", now=world.clock.now()))
    async with site.client.get("/v1/sessions/alpha/logs") as answer:
        assert (answer.headers["Agentd-Logs"], answer.headers["Agentd-Logs-Absent"]) == ("none", "container gone")
        assert await answer.text() == ""
    await _json(site, "/v1/sessions/alpha/logs?attempt=7", status=404)


async def test_why_answers_with_a_sentence_its_proof_and_what_comes_next(site: Site, world: World) -> None:
    await world.run(a_session("alpha", now=world.clock.now()))
    told = await _json(site, "/v1/sessions/alpha/why")
    assert "alpha" in told["sentence"]
    assert isinstance(told["facts"], list)
    assert isinstance(told["outlook"], str)


async def test_readiness_is_told_check_by_check(site: Site, world: World) -> None:
    assert await _json(site, "/readyz") == {"ready": True, "checks": {"ledger": "ok"}}
    world.ready = Readiness(ready=False, reachable=False, checks={"engine": "connection refused"})
    assert (await _json(site, "/readyz", status=503))["checks"] == {"engine": "connection refused"}
    assert (await _json(site, "/healthz", status=503))["reachable"] is False
    assert (await _json(site, "/livez"))["alive"] is True
    await world.run(a_session("alpha", now=world.clock.now()))
    assert (await _json(site, "/v1/sessions/alpha"))["reachable"] is False


async def test_a_sweep_tells_its_plan_and_could_not_ask_is_a_503(site: Site, world: World) -> None:
    world.lines = tuple(
        PlanLine(container=ContainerId("c" * 64), name="x", finding=finding, action="none", reason="too young")
        for finding in ("spared", "missing")
    )
    async with site.client.post("/v1/reconcile?dry_run=true") as answer:
        report = await answer.json()
    assert (report["dry_run"], len(report["lines"])) == (True, 2)
    assert [each["finding"] for each in (await _json(site, "/v1/orphans"))["lines"]] == ["spared"]
    async with site.client.post("/v1/adopt", json={"container": "abc"}) as answer:
        assert await answer.json() == {"message": "adopted abc"}
    world.refusal = "no such container"
    async with site.client.post("/v1/adopt", json={"container": "abc"}) as answer:
        assert answer.status == 409
    world.ready = replace(world.ready, reachable=False)
    assert "could not be asked" in (await _json(site, "/v1/orphans", status=503))["detail"]
