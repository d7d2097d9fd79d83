"""Agents' connections: who is let in, what is reported, and that a dead or replaced connection does no harm."""

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, WSCloseCode, WSMsgType, WSServerHandshakeError

from controller.api import routes_agents
from controller.api.registry import REPLACED
from controller.core.specs import session_token
from controller.model.ids import SessionId
from tests.api.world import HandClock, Site, World, a_session, a_site, settings_for

ALPHA = SessionId("id-of-alpha")


@pytest.fixture
async def token(world: World) -> str:
    await world.run(a_session("alpha", now=world.clock.now()))
    return session_token((await world.ledger.meta()).key, ALPHA)


@pytest.fixture
async def socket(site: Site, token: str) -> AsyncIterator[ClientWebSocketResponse]:
    async with site.client.ws_connect(f"/ws/alpha?token={token}") as connected:
        yield connected


async def _told(world: World, count: int) -> list[tuple[SessionId, bool]]:
    with anyio.fail_after(10):
        while len(world.connections) < count:
            await world.connection_told.wait()
    return world.connections


async def test_a_connection_and_its_end_are_reported(site: Site, world: World, token: str) -> None:
    async with site.client.ws_connect("/ws/alpha", headers={"Authorization": f"Bearer {token}"}) as socket:
        assert await _told(world, 1) == [(ALPHA, True)]
        await socket.close()
    assert await _told(world, 2) == [(ALPHA, True), (ALPHA, False)]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/ws/alpha", 401),
        ("/ws/alpha?token=wrong", 403),
        ("/ws/nobody?token=wrong", 404),
    ],
)
async def test_a_stranger_is_refused_before_the_upgrade(
    site: Site, world: World, token: str, path: str, status: int
) -> None:
    with pytest.raises(WSServerHandshakeError) as refused:
        await site.client.ws_connect(path)
    assert refused.value.status == status
    assert world.connections == []
    assert token


async def test_another_sessions_token_does_not_open_this_one(site: Site, world: World, token: str) -> None:
    await world.run(a_session("beta", now=world.clock.now()))
    with pytest.raises(WSServerHandshakeError) as refused:
        await site.client.ws_connect(f"/ws/beta?token={token}")
    assert refused.value.status == 403


async def test_the_controllers_own_token_is_not_a_sessions(world: World, token: str, tmp_path: Path) -> None:
    async with a_site(world, settings_for(tmp_path, token="bearer")) as site:
        with pytest.raises(WSServerHandshakeError) as refused:
            await site.client.ws_connect("/ws/alpha", headers={"Authorization": "Bearer bearer"})
        assert refused.value.status == 403
        async with site.client.ws_connect(f"/ws/alpha?token={token}"):
            assert await _told(world, 1) == [(ALPHA, True)]


async def test_a_removed_sessions_token_opens_nothing(site: Site, world: World, token: str) -> None:
    async with site.client.delete("/v1/sessions/alpha"):
        pass
    with pytest.raises(WSServerHandshakeError) as refused:
        await site.client.ws_connect(f"/ws/alpha?token={token}")
    assert refused.value.status == 404


async def test_without_an_upgrade_the_client_is_told_to(site: Site, token: str) -> None:
    async with site.client.get(f"/ws/alpha?token={token}") as answer:
        assert answer.status == 426


async def test_a_reconnect_replaces_the_old_connection_and_is_no_change(site: Site, world: World, token: str) -> None:
    path = f"/ws/alpha?token={token}"
    async with site.client.ws_connect(path) as old:
        await _told(world, 1)
        async with site.client.ws_connect(path) as new:
            with anyio.fail_after(10):
                message = await old.receive()
            assert (message.type, old.close_code) == (WSMsgType.CLOSE, REPLACED)
            await new.send_str("still here")
            async with site.client.get("/healthz") as answer:
                assert (await answer.json())["connected_sessions"] == 1
            assert world.connections == [(ALPHA, True)]
            await new.close()
    assert await _told(world, 2) == [(ALPHA, True), (ALPHA, False)]


async def test_a_message_beyond_the_limit_ends_the_connection(world: World, socket: ClientWebSocketResponse) -> None:
    await socket.send_bytes(b"x" * 200_000)
    with anyio.fail_after(10):
        await socket.receive()
    assert socket.close_code == 1009
    assert await _told(world, 2) == [(ALPHA, True), (ALPHA, False)]


async def test_a_connection_that_answers_no_ping_is_noticed(
    world: World, tmp_path: Path, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes_agents, "PING_S", 0.2)
    async with a_site(world, settings_for(tmp_path)) as site:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        key = base64.b64encode(b"0123456789abcdef").decode()
        writer.write(
            f"GET /ws/alpha?token={token} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        with anyio.fail_after(10):
            assert b" 101 " in await reader.readline()
            assert await _told(world, 2) == [(ALPHA, True), (ALPHA, False)]
        writer.close()


async def test_the_end_of_the_server_says_nothing_about_the_agents(world: World, tmp_path: Path, token: str) -> None:
    with anyio.fail_after(10):
        async with ClientSession() as outside:
            async with a_site(world, settings_for(tmp_path)) as site:
                socket = await outside.ws_connect(f"{site.url}/ws/alpha?token={token}")
                await _told(world, 1)
                events = await outside.get(f"{site.url}/v1/events")
                await events.content.readline()
            message = await socket.receive()
            assert (message.type, message.data) == (WSMsgType.CLOSE, WSCloseCode.GOING_AWAY)
            await events.read()
            await socket.close()
    assert world.connections == [(ALPHA, True)]


async def test_an_agent_that_comes_and_goes_in_a_loop_does_not_fill_the_journal(
    still_site: Site, still_world: World, hand_clock: HandClock
) -> None:
    await still_world.run(a_session("alpha", now=hand_clock.now()))
    token = session_token((await still_world.ledger.meta()).key, ALPHA)
    with anyio.fail_after(30):
        for _ in range(20):
            async with still_site.client.ws_connect(f"/ws/alpha?token={token}") as socket:
                await socket.close()
        # It stays away: that is told, only later.
        while still_world.connections[-1] != (ALPHA, False):
            hand_clock.pass_s(1)
            await anyio.lowlevel.checkpoint()
    assert len(still_world.connections) <= 4


async def test_many_agents_come_and_go_at_once_and_the_last_word_is_true(site: Site, world: World, token: str) -> None:
    async def come_and_go() -> None:
        async with site.client.ws_connect(f"/ws/alpha?token={token}") as socket:
            await socket.send_str("hello")

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(come_and_go)
        while not world.connections or world.connections[-1][1]:
            await world.connection_told.wait()
    changes = [connected for _, connected in world.connections]
    assert changes == [True, False] * (len(changes) // 2)
