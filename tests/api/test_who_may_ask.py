"""Tokens, hosts and origins: who is let in, on every route."""

from collections.abc import Mapping
from pathlib import Path
from stat import S_IMODE

import anyio
import pytest

from controller.api.route import Route
from controller.api.server import ROUTES
from controller.api.token_file import ensure_token, stored_token, token_path
from controller.errors import SettingsError
from tests.api.world import Site, World, a_session, a_site, settings_for

TOKEN = "t0ken"
GUARDED = [route for route in ROUTES if not route.path.startswith("/ws/")]
MUTATING = [route for route in GUARDED if route.method != "GET"]


def _id(route: Route) -> str:
    return f"{route.method} {route.path}"


def _path(route: Route) -> str:
    return route.path.replace("{name}", "alpha")


@pytest.mark.parametrize("route", GUARDED, ids=_id)
async def test_with_a_token_only_its_bearer_is_let_in(world: World, tmp_path: Path, route: Route) -> None:
    await world.run(a_session("alpha", now=world.clock.now()))
    is_open = route.path in ("/livez", "/readyz")
    async with a_site(world, settings_for(tmp_path, token=TOKEN)) as site:
        for given, let_in in (
            ({}, False),
            ({"Authorization": "Bearer wrong"}, False),
            ({"Authorization": f"Basic {TOKEN}"}, False),
            ({"Authorization": f"Bearer {TOKEN}é"}, False),
            ({"Authorization": f"Bearer {TOKEN}"}, True),
        ):
            async with site.client.request(route.method, _path(route), headers=given) as answer:
                assert (answer.status != 401) is (let_in or is_open), given
                assert is_open or let_in or "WWW-Authenticate" in answer.headers


async def test_an_unknown_path_tells_a_stranger_nothing(world: World, tmp_path: Path) -> None:
    async with a_site(world, settings_for(tmp_path, token=TOKEN)) as site, site.client.get("/v1/nothing") as answer:
        assert answer.status == 401


@pytest.mark.parametrize(
    ("host", "let_in"),
    [
        ("localhost", True),
        ("localhost:7006", True),
        ("127.0.0.1:7006", True),
        ("[::1]:7006", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example:7006", False),
        ("192.168.1.5", False),
        ("[", False),
        ("", False),
    ],
)
async def test_without_a_token_a_name_that_a_stranger_may_own_is_refused(
    site: Site, host: str, *, let_in: bool
) -> None:
    async with site.client.get("/v1/sessions", headers={"Host": host}) as answer:
        assert answer.status == (200 if let_in else 403)


@pytest.mark.parametrize("route", MUTATING, ids=_id)
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
async def test_a_page_of_another_origin_changes_nothing(
    site: Site, world: World, route: Route, headers: Mapping[str, str]
) -> None:
    await world.run(a_session("alpha", now=world.clock.now()))
    async with site.client.request(route.method, _path(route), headers=headers) as answer:
        assert answer.status == 403
    assert world.submitted == []


async def test_our_own_page_may_ask(site: Site, world: World) -> None:
    await world.run(a_session("alpha", now=world.clock.now()))
    headers = {"Origin": site.url, "Sec-Fetch-Site": "same-origin"}
    async with site.client.post("/v1/sessions/alpha/stop", headers=headers) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
async def test_a_form_is_not_a_request(site: Site, content_type: str) -> None:
    body = b'{"name": "alpha", "spec": {"image": "demo"}}'
    async with site.client.post("/v1/sessions", data=body, headers={"Content-Type": content_type}) as answer:
        assert answer.status == 415


@pytest.mark.parametrize("sent", [b"", b"GET /livez HTTP/1.1\r\nHost: local"], ids=["nothing", "half a head"])
async def test_a_connection_without_a_whole_request_is_closed(world: World, tmp_path: Path, sent: bytes) -> None:
    async with (
        a_site(world, settings_for(tmp_path, token=TOKEN), idle_s=0.2) as site,
        await anyio.connect_tcp("127.0.0.1", site.port) as stranger,
    ):
        await stranger.send(sent)
        with anyio.fail_after(20), pytest.raises(anyio.EndOfStream):
            await stranger.receive()


async def test_no_server_beyond_loopback_without_a_token(world: World, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="AGENTD_TOKEN"):
        async with a_site(world, settings_for(tmp_path, bind="0.0.0.0")):
            pass


async def test_a_port_in_use_is_one_clear_line(site: Site, world: World, tmp_path: Path) -> None:
    settings = settings_for(tmp_path, port=site.port)
    with pytest.raises(SettingsError, match=f"AGENTD_PORT={site.port}: 127.0.0.1:{site.port} is in use"):
        async with a_site(world, settings):
            pass


async def test_an_address_that_is_not_ours_is_one_clear_line(world: World, tmp_path: Path) -> None:
    settings = settings_for(tmp_path, bind="203.0.113.7", token=TOKEN)
    with pytest.raises(SettingsError, match=r"AGENTD_BIND='203\.0\.113\.7'"):
        async with a_site(world, settings):
            pass


def test_the_token_is_made_once_and_is_private(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "state", bind="0.0.0.0")
    token = ensure_token(settings)
    assert len(token) == 64
    assert ensure_token(settings) == token == stored_token(settings.db)
    assert S_IMODE(token_path(settings.db).stat().st_mode) == 0o600
    assert [each.name for each in token_path(settings.db).parent.iterdir()] == ["controller.db.token"]


def test_no_token_is_made_on_loopback_or_where_one_is_set(tmp_path: Path) -> None:
    assert ensure_token(settings_for(tmp_path)) == ""
    assert ensure_token(settings_for(tmp_path, bind="0.0.0.0", token="mine")) == "mine"
    assert list(tmp_path.iterdir()) == []


def test_an_empty_token_file_is_refused_and_not_overwritten(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, bind="0.0.0.0")
    token_path(settings.db).touch(mode=0o600)
    token_path(settings.db).write_text("\n")
    with pytest.raises(SettingsError, match="is empty"):
        ensure_token(settings)
    assert token_path(settings.db).read_text() == "\n"


def test_a_token_file_that_others_may_have_written_is_refused(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, bind="0.0.0.0")
    token_path(settings.db).touch(mode=0o600)
    token_path(settings.db).write_text("known\n")
    token_path(settings.db).chmod(0o602)
    with pytest.raises(SettingsError, match="is open to others"):
        ensure_token(settings)


def test_a_token_file_that_is_a_link_is_refused(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, bind="0.0.0.0")
    token_path(settings.db).symlink_to(tmp_path / "theirs")
    with pytest.raises(SettingsError, match="cannot be used"):
        ensure_token(settings)
    assert not (tmp_path / "theirs").exists()
