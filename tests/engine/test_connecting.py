"""Connecting, and the event stream between its request and its end, with an engine that only answers."""

import json
from base64 import b64encode
from collections.abc import Awaitable, Callable
from pathlib import Path
from traceback import format_exception

import anyio
import anyio.lowlevel
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from controller.engine.connection import Address
from controller.engine.docker import DockerBackend
from controller.engine.sketch import Owner
from controller.errors import EngineError, EngineUnavailable, SettingsError
from controller.model.instant import Instant, after
from controller.settings import load
from tests.engine.answering import answering, connected
from tests.engine.test_translating import ABOUT
from tests.support.backends import SHORT, backend_at
from tests.support.fault_proxy import Delay, FaultProxy, Status

PODMAN = {"ApiVersion": "1.41", "Version": "5.4.2", "Components": [{"Name": "Podman Engine"}]}


# --- connect ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{}", b'{"ApiVersion":"1.41"'])
async def test_an_engine_that_does_not_introduce_itself_is_unavailable(folder: Path, body: bytes) -> None:
    proxy = FaultProxy(listen=folder / "p", upstream=folder / "none", rule=lambda _: Status(200, body))
    async with proxy, backend_at(proxy.url, limits=SHORT) as backend:
        with pytest.raises(EngineUnavailable):
            await backend.connect()


async def test_connect_without_an_engine_is_unavailable_and_may_be_repeated(folder: Path) -> None:
    async with backend_at(f"unix://{folder}/p", limits=SHORT) as backend:
        for _ in range(2):
            with pytest.raises(EngineUnavailable) as caught:
                await backend.connect()
            assert not caught.value.request_sent
        proxy = FaultProxy(listen=folder / "p", upstream=folder / "none", rule=answering(lambda _: Status(200, b"[]")))
        async with proxy:
            assert (await backend.connect()).name == "docker"
            assert list(await backend.list_external()) == []


async def test_the_api_version_is_negotiated_at_each_connect(folder: Path) -> None:
    async with connected(folder, lambda _: Status(200, b"[]")) as (backend, proxy):
        proxy.rule = answering(lambda _: Status(200, b"[]"), version={**ABOUT["version"], "ApiVersion": "1.24"})
        assert (await backend.connect()).api_version == "1.24"


async def _list_them(backend: DockerBackend, caught: list[EngineError]) -> None:
    try:
        await backend.list_external()
    except EngineError as error:
        caught.append(error)


async def test_a_replaced_connection_leaves_no_call_hanging(folder: Path) -> None:
    async with connected(folder, lambda _: Delay(60)) as (backend, _), anyio.create_task_group() as group:
        caught: list[EngineError] = []
        group.start_soon(_list_them, backend, caught)
        await anyio.wait_all_tasks_blocked()
        await backend.connect()
    assert [type(error) for error in caught] == [EngineUnavailable]


@pytest.mark.parametrize("turns", range(8))
async def test_a_connection_that_breaks_while_it_is_replaced_is_no_defect(folder: Path, turns: int) -> None:
    # aiohttp repeats a question whose connection broke, and may find its client closed by then: when exactly is luck.
    async with connected(folder, lambda _: Delay(60)) as (backend, proxy), anyio.create_task_group() as group:
        caught: list[EngineError] = []
        for _ in range(4):
            group.start_soon(_list_them, backend, caught)
        while proxy.asked(lambda request: request.is_list) < 4:
            await anyio.lowlevel.checkpoint()
        proxy.kill_all()
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        await backend.connect()
        proxy.kill_all()
    assert [type(error) for error in caught] == [EngineUnavailable] * 4


def test_tls_files_that_cannot_be_used_are_a_setting_to_correct(tmp_path: Path) -> None:
    address = Address(url="tcp://127.0.0.1:2376", tls_verify=True, cert_path=str(tmp_path))
    with pytest.raises(SettingsError, match="DOCKER_CERT_PATH"):
        DockerBackend(address=address, owner=Owner(prefix="agentd", controller_id=None, stop_grace_s=1))


async def test_no_variable_of_docker_leads_elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{folder}/elsewhere")
    monkeypatch.setenv("DOCKER_CONTEXT", "elsewhere")
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    async with connected(folder, lambda _: Status(200, b"[]")) as (backend, proxy):
        await backend.list_external()
        assert proxy.asked(lambda request: request.is_list) == 1


# --- a password in the address ------------------------------------------------------------------------------------


async def test_no_error_names_the_password_that_the_address_holds(unused_tcp_port: int) -> None:
    for url in (f"tcp://agent:s3cretpw@127.0.0.1:{unused_tcp_port}", "http://agent:s3cretpw@127.0.0.1:port"):
        async with backend_at(url, limits=SHORT) as backend:
            with pytest.raises(EngineUnavailable) as caught:
                await backend.connect()
            assert "127.0.0.1" in str(caught.value)
            assert "s3cretpw" not in "".join(format_exception(caught.value))


@pytest.mark.parametrize("status", [302, 401, 500])
async def test_the_password_goes_with_every_request_and_into_no_error(status: int) -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.headers["Authorization"])
        if request.path.endswith(("/version", "/info")):
            return web.json_response(ABOUT[request.path.rpartition("/")[2]])
        # In a circle, which aiohttp ends with an error that has the address.
        return web.Response(status=status, headers={"Location": request.path_qs})

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with TestServer(app) as server, backend_at(f"tcp://me:s3%40cretpw@127.0.0.1:{server.port}") as backend:
        await backend.connect()
        asks: list[Callable[[], Awaitable[object]]] = [
            backend.list_external,
            lambda: backend.inspect("x"),
            lambda: first_line(backend),
        ]
        for ask in asks:
            with pytest.raises(EngineUnavailable) as caught:
                await ask()
            assert "cretpw" not in "".join(format_exception(caught.value))
    assert set(asked) == {f"Basic {b64encode(b'me:s3@cretpw').decode()}"}


async def first_line(backend: DockerBackend) -> object:
    async with backend.events(since=Instant(1), until=Instant(2)) as events:
        return await anext(events)


@pytest.mark.parametrize("value", ["ssh://me:s3cretpw@host", "me:s3cretpw@host:2375"])
def test_an_address_that_is_refused_is_named_without_its_password(value: str) -> None:
    with pytest.raises(SettingsError, match=r"DOCKER_HOST=.*host") as caught:
        load({"DOCKER_HOST": value})
    assert "s3cretpw" not in str(caught.value)


# --- events ----------------------------------------------------------------------------------------------------


async def test_a_stream_without_a_head_is_unavailable(folder: Path) -> None:
    async with connected(folder, lambda _: Delay(60)) as (backend, _):
        with anyio.fail_after(3), pytest.raises(EngineUnavailable):
            async with backend.events(since=Instant(1), until=Instant(2)):
                pytest.fail("it must not be entered")


async def test_podmans_stream_is_entered_before_its_head_comes(folder: Path) -> None:
    async with connected(folder, lambda _: Delay(60), version=PODMAN) as (backend, proxy):
        async with backend.events(since=Instant(1), until=Instant(2)) as events:
            with anyio.fail_after(3), pytest.raises(EngineUnavailable):
                await anext(events)
        assert proxy.asked(lambda request: request.is_events) == 1


async def test_an_end_before_its_time_is_a_break(folder: Path) -> None:
    async with connected(folder, lambda _: Status(200, b"")) as (backend, _):
        now = (await backend.connect()).system_time
        assert now is not None
        async with backend.events(since=now, until=after(now, 60)) as events:
            with pytest.raises(EngineUnavailable, match="before its time"):
                await anext(events)


async def test_an_end_at_its_time_is_an_end(folder: Path) -> None:
    async with connected(folder, lambda _: Status(200, b"")) as (backend, _):
        now = (await backend.connect()).system_time
        assert now is not None
        async with backend.events(since=after(now, -60), until=now) as events:
            assert [item async for item in events] == []


async def test_times_are_asked_for_in_seconds_and_nine_digits(folder: Path) -> None:
    async with connected(folder, lambda _: Status(200, b"")) as (backend, proxy):
        async with backend.events(since=Instant(1_795_402_554_000_000_001), until=Instant(1_795_402_555_100_000_000)):
            pass
        asked = next(request for request in proxy.requests if request.is_events).parameters
    assert asked["since"] == ["1795402554.000000001"]
    assert asked["until"] == ["1795402555.100000000"]
    filters = json.loads(asked["filters"][0])
    assert filters["type"] == ["container"]
    assert "label" not in filters
    assert {"die", "died", "destroy", "remove", "health_status"} < set(filters["event"])
