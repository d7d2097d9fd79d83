"""Create, start, stop, restart, remove: the client is told what was seen, not what was accepted."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from controller.model.phase import Phase
from controller.model.reason import Reason
from tests.api.world import HandClock, Site, World, a_session, a_site, settings_for

SPEC = {"image": "demo", "env": {"SECRET": "hunter2"}, "restart": {"mode": "on-failure", "max_attempts": 3}}


def _creation(name: str = "alpha", **changes: object) -> Mapping[str, object]:
    return {"name": name, "spec": SPEC | changes}


async def test_a_created_session_is_answered_once_it_runs_with_its_secrets_masked(site: Site) -> None:
    async with site.client.post("/v1/sessions", json=_creation()) as answer:
        assert answer.status == 201
        told = await answer.json()
    assert (told["name"], told["phase"], told["status"]) == ("alpha", "running", "running")
    assert told["spec"]["env"] == {"SECRET": "***"}
    assert set(told) == {
        *("name", "external", "desired", "phase", "status", "health", "reason", "message", "reachable", "connected"),
        *("attempt", "restarts", "container_id", "container_name", "image", "engine", "created_at", "started_at"),
        *("finished_at", "since", "next_attempt_at", "expires_at", "removed_at", "exit", "spec", "labels"),
    }


async def test_the_same_name_and_spec_again_is_done_and_another_spec_is_refused(site: Site, world: World) -> None:
    async with site.client.post("/v1/sessions", json=_creation()):
        pass
    async with site.client.post("/v1/sessions", json=_creation()) as again:
        assert again.status == 200
    async with site.client.post("/v1/sessions", json=_creation(env={"SECRET": "other"})) as other:
        assert other.status == 409
        assert "another spec" in (await other.json())["detail"]
    assert len(world.submitted) == 1


async def test_a_removed_session_frees_its_name(site: Site) -> None:
    async with site.client.post("/v1/sessions", json=_creation()):
        pass
    async with site.client.delete("/v1/sessions/alpha") as removed:
        assert removed.status == 200
        assert (await removed.json())["removed_at"] is not None
    async with site.client.delete("/v1/sessions/alpha") as again:
        assert again.status == 200
    async with site.client.post("/v1/sessions/alpha/start") as start:
        assert start.status == 404
    async with site.client.post("/v1/sessions", json=_creation(image="other")) as anew:
        assert anew.status == 201


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ({"name": "Alpha!", "spec": SPEC}, "name: a session name is 1 to 63"),
        ({"name": "../x", "spec": SPEC}, "name: a session name is 1 to 63"),
        ({"name": "x\n", "spec": SPEC}, "name: a session name is 1 to 63"),
        ({"name": "a" * 64, "spec": SPEC}, "name: a session name is 1 to 63"),
        ({"spec": SPEC}, "name: required"),
        (_creation(imagee="x"), "spec.imagee: unknown"),
        (_creation(labels={"agentd.controller": "me"}), "belong to the controller"),
        (_creation(labels={"a\x1b": "me"}), "spec.labels"),
        (_creation(env={"A=B": "x"}), "spec.env"),
        (_creation(env={"A": "x\x00y"}), "spec.env"),
        (_creation(network_policy="bridge"), "spec.network_policy"),
        (_creation(restart={"mode": "sometimes"}), "spec.restart.mode"),
        (_creation(restart={"mode": "always", "max_attempts": 9, "window_s": 60}), "window"),
        (_creation(memory_bytes=1), "spec.memory_bytes"),
        (_creation(memory_bytes="512m"), "spec.memory_bytes"),
        (_creation(cpus=float("inf")), "spec.cpus"),
        (_creation(ttl_s=0), "spec.ttl_s"),
        (_creation(ttl_s=1e300), "spec.ttl_s"),
        (_creation(mounts=[{"source": "/a:ro", "target": "/b"}]), "spec.mounts.0.source"),
        (_creation(mounts=[{"source": "/a", "target": "b"}]), "spec.mounts.0.target"),
        (_creation(expect_connection=True), "expect_connection cannot work: the controller listens on 127.0.0.1"),
    ],
)
async def test_what_can_never_work_is_refused_with_one_line(
    site: Site, world: World, body: Mapping[str, object], line: str
) -> None:
    async with site.client.post("/v1/sessions", json=body) as answer:
        told = await answer.json()
    assert answer.status in (400, 422)
    assert line in told["detail"]
    assert "\n" not in told["detail"]
    assert world.submitted == []


async def test_a_body_that_is_not_encoded_as_it_says_is_a_bad_request(site: Site, world: World) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    async with site.client.post("/v1/sessions", data=b"no gzip", headers=headers) as answer:
        assert (answer.status, (await answer.json())["detail"]) == (
            400,
            "the body is cut, or is not encoded as its headers say",
        )
    assert world.submitted == []


async def test_a_lone_surrogate_never_reaches_the_ledger(site: Site, world: World) -> None:
    raw = b'{"name": "alpha", "spec": {"image": "demo", "env": {"A": "\\ud800"}}}'
    async with site.client.post("/v1/sessions", data=raw, headers={"Content-Type": "application/json"}) as answer:
        assert answer.status in (400, 422)
    assert world.submitted == []


async def test_a_connection_can_be_expected_on_the_hosts_network(site: Site) -> None:
    body = _creation(expect_connection=True, network_policy="host_network")
    async with site.client.post("/v1/sessions", json=body) as answer:
        assert answer.status == 201


async def test_without_waiting_the_answer_is_acceptance(still_site: Site) -> None:
    async with still_site.client.post("/v1/sessions?wait=false", json=_creation()) as answer:
        assert answer.status == 202
        assert (await answer.json())["phase"] == "pending"


async def test_a_result_that_is_not_seen_in_time_is_a_504(
    still_site: Site, still_world: World, hand_clock: HandClock
) -> None:
    session = await still_world.commit(a_session("alpha", now=hand_clock.now()))
    statuses: list[int] = []
    details: list[str] = []

    async def ask() -> None:
        async with still_site.client.post("/v1/sessions/alpha/start?timeout_s=5") as answer:
            statuses.append(answer.status)
            details.append((await answer.json())["detail"])

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            while not hand_clock.sleepers_count:
                await anyio.lowlevel.checkpoint()
            await still_world.commit(replace(session, phase=Phase.STARTING))
            hand_clock.pass_s(6)
    assert statuses == [504]
    assert "alpha is starting just now" in details[0]


@pytest.mark.parametrize("verb", ["start", "restart"])
async def test_a_start_that_fails_is_answered_with_the_failed_session(
    still_site: Site, still_world: World, hand_clock: HandClock, verb: str
) -> None:
    session = await still_world.commit(a_session("alpha", now=hand_clock.now()))
    told: list[dict[str, object]] = []

    async def ask() -> None:
        async with still_site.client.post(f"/v1/sessions/alpha/{verb}") as answer:
            told.append(await answer.json())

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            while not still_world.submitted:
                await anyio.lowlevel.checkpoint()
            await still_world.fail(session, Reason.START_FAILED, "no such image")
    assert (told[0]["phase"], told[0]["message"]) == ("failed", "no such image")


async def test_a_refusal_says_why(site: Site, world: World) -> None:
    await world.run(a_session("alpha", now=world.clock.now()))
    world.refusal = "alpha is running: stop it first, or use --force"
    async with site.client.delete("/v1/sessions/alpha") as answer:
        assert answer.status == 409
        assert answer.content_type == "application/problem+json"
        assert (await answer.json())["detail"] == world.refusal


@pytest.mark.parametrize(
    ("mode", "method", "path", "status"),
    [
        ("observe", "POST", "/v1/sessions/alpha/start", 403),
        ("observe", "POST", "/v1/sessions/alpha/stop", 403),
        ("observe", "GET", "/v1/sessions/alpha", 200),
        ("restart", "POST", "/v1/sessions/alpha/stop", 200),
        ("restart", "DELETE", "/v1/sessions/alpha", 403),
        ("restart", "POST", "/v1/orphans/apply", 403),
        ("manage", "DELETE", "/v1/sessions/alpha", 200),
    ],
)
async def test_the_mode_bounds_what_may_be_asked(
    world: World, tmp_path: Path, mode: str, method: str, path: str, status: int
) -> None:
    await world.run(a_session("alpha", now=world.clock.now()))
    async with (
        a_site(world, settings_for(tmp_path, mode=mode)) as site,
        site.client.request(method, path) as answer,
    ):
        assert answer.status == status


async def test_where_the_mode_forbids_a_start_none_is_promised(world: World, tmp_path: Path) -> None:
    await world.run(a_session("alpha", now=world.clock.now()))
    told = {}
    for mode in ("observe", "manage"):
        async with (
            a_site(world, settings_for(tmp_path, mode=mode)) as site,
            site.client.get("/v1/sessions/alpha/why") as answer,
        ):
            told[mode] = (await answer.json())["outlook"]
    assert "may not start it" in told["observe"]
    assert "may not start it" not in told["manage"]


async def test_a_ttl_is_renewed(site: Site, world: World) -> None:
    await world.run(a_session("alpha", now=world.clock.now()))
    async with site.client.post("/v1/sessions/alpha/renew", json={"ttl_s": 60}) as answer:
        assert answer.status == 200
        assert (await answer.json())["reason"] == "renewed"
    async with site.client.post("/v1/sessions/alpha/renew", json={"ttl_s": -1}) as answer:
        assert answer.status == 422


async def test_the_claimed_actor_reaches_the_journal_only_as_a_plain_name(site: Site, world: World) -> None:
    await world.run(a_session("alpha", now=world.clock.now()))
    for claimed in ("anna", "an na\t", "engine:x"):
        async with site.client.post("/v1/sessions/alpha/stop", headers={"Agentd-Actor": claimed}):
            pass
    assert [getattr(each, "actor", "") for each in world.submitted] == ["user:anna", "user:api", "user:api"]
