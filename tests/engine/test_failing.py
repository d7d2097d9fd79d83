"""Whatever goes wrong between us and an engine leaves as one of our own errors, and `could not ask` is never `gone`.

No engine is needed: the proxy answers in its place.
"""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from controller.engine.docker import DockerBackend
from controller.errors import (
    ContainerGone,
    EngineConflict,
    EngineError,
    EngineRefused,
    EngineUnavailable,
)
from controller.model.container import LogTail
from controller.model.ids import ContainerId
from controller.model.instant import Instant
from controller.model.sketch import SessionHealth
from tests.engine.answering import connected
from tests.engine.test_translating import INSPECTS
from tests.support.backends import backend_at, plan_for
from tests.support.fault_proxy import Delay, Fault, Refuse, Status

X = ContainerId("f" * 64)
GONE = b'{"message":"No such container: ffff"}'
LOOKING = pytest.mark.parametrize("call", ["list_ours", "list_external", "inspect"])


Call = Callable[[DockerBackend], Awaitable[object]]


async def first_event(backend: DockerBackend) -> object:
    async with backend.events(since=Instant(1), until=Instant(2)) as events:
        return [item async for item in events]


async def first_followed(backend: DockerBackend) -> object:
    async with backend.follow(X, lines=1) as lines:
        return [line async for line in lines]


CALLS: dict[str, Call] = {
    "events": first_event,
    "list_ours": lambda backend: backend.list_ours("agentd"),
    "list_external": lambda backend: backend.list_external(),
    "inspect": lambda backend: backend.inspect(X),
    "create": lambda backend: backend.create(plan_for("one")),
    "start": lambda backend: backend.start(X),
    "stop": lambda backend: backend.stop(X, grace_s=0),
    "remove": lambda backend: backend.remove(X),
    "follow": first_followed,
    "exit info": lambda backend: backend.session_exit_info("one"),
    "shutdown": lambda backend: backend.shutdown_all_sessions(),
}
NO_ANSWER: dict[str, Fault] = {
    "hangs up": Refuse(),
    "500": Status(500),
    "503 in html": Status(503, b"<html>", "text/html"),
    "500 not utf-8": Status(500, b"\xff\xfe\xfd"),
    "500 without a message": Status(500, b"{}"),
    "500 null": Status(500, b"null"),
    "time-out": Delay(60),
    "an absence that is not the engine's": Status(404, b'{"message":"page not found"}'),
    "version too new": Status(400, b'{"message":"client version 1.99 is too new"}'),
}
REFUSED_HERE = {("create", "an absence that is not the engine's"), ("start", "an absence that is not the engine's")}
"""Of a create, a 404 can only be about an image or network; of a start, about a network."""


@pytest.mark.parametrize("fault", NO_ANSWER)
@pytest.mark.parametrize("call", CALLS)
async def test_no_answer_is_unavailable(folder: Path, call: str, fault: str) -> None:
    async with connected(folder, lambda _: NO_ANSWER[fault]) as (backend, _):
        with anyio.fail_after(3), pytest.raises(EngineError) as caught:
            await CALLS[call](backend)
    if (call, fault) in REFUSED_HERE:
        assert type(caught.value) is EngineRefused
    else:
        assert isinstance(caught.value, EngineUnavailable)
        assert caught.value.request_sent


async def test_a_start_that_misses_another_container_does_not_make_ours_gone(folder: Path) -> None:
    words = "joining network namespace of container: No such container: abc"
    fault = Status(404, f'{{"message":"{words}"}}'.encode())
    async with connected(folder, lambda _: fault) as (backend, _):
        with pytest.raises(EngineRefused, match=words):
            await backend.start(X)


@pytest.mark.parametrize("call", CALLS)
async def test_without_a_socket_the_request_was_certainly_not_sent(folder: Path, call: str) -> None:
    async with connected(folder, lambda _: None) as (backend, proxy):
        await proxy.stop_listening()
        with pytest.raises(EngineUnavailable) as caught:
            await CALLS[call](backend)
    assert not caught.value.request_sent


@pytest.mark.parametrize("call", CALLS)
async def test_before_the_first_connect_nothing_is_sent(folder: Path, call: str) -> None:
    async with backend_at(f"unix://{folder}/none") as backend:
        with pytest.raises(EngineUnavailable) as caught:
            await CALLS[call](backend)
    assert not caught.value.request_sent


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"{}",
        b'""',
        b"0",
        b"[{}]",
        b"[null]",
        b'[{"Id":"x"}]',
        b'[{"Id":"x","State":"exited"',
        b"\xff",
        b"[",
    ],
)
@pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
@LOOKING
async def test_an_answer_of_another_shape_is_no_answer(folder: Path, call: str, body: bytes, content_type: str) -> None:
    async with connected(folder, lambda _: Status(200, body, content_type)) as (backend, _):
        with pytest.raises(EngineUnavailable):
            await CALLS[call](backend)


async def test_an_empty_list_is_an_empty_list(folder: Path) -> None:
    async with connected(folder, lambda _: Status(200, b"[]")) as (backend, _):
        assert list(await backend.list_ours("agentd")) == []


@pytest.mark.parametrize("call", ["inspect", "start", "stop", "remove", "follow"])
async def test_the_engines_own_404_is_an_absence(folder: Path, call: str) -> None:
    async with connected(folder, lambda _: Status(404, GONE)) as (backend, _):
        with pytest.raises(ContainerGone):
            await CALLS[call](backend)


@pytest.mark.parametrize("call", ["create", "start", "stop", "remove"])
async def test_a_conflict_carries_the_engines_words(folder: Path, call: str) -> None:
    body = b'{"message":"The name \\"/agentd-one\\" is already in use\\u001b[31m\\nby container abc"}'
    async with connected(folder, lambda _: Status(409, body)) as (backend, _):
        with pytest.raises(EngineConflict, match='The name "/agentd-one" is already in use by container abc'):
            await CALLS[call](backend)


@pytest.mark.parametrize("call", ["create", "start", "stop", "remove"])
async def test_another_refusal_is_final(folder: Path, call: str) -> None:
    async with connected(folder, lambda _: Status(400, b'{"message":"bad parameter"}')) as (backend, _):
        with pytest.raises(EngineRefused, match="bad parameter"):
            await CALLS[call](backend)


@pytest.mark.parametrize("call", ["start", "stop"])
async def test_already_so_is_success(folder: Path, call: str) -> None:
    async with connected(folder, lambda _: Status(304, b"")) as (backend, _):
        await CALLS[call](backend)


async def test_a_removal_in_progress_is_success(folder: Path) -> None:
    body = b'{"message":"removal of container ffff is already in progress"}'
    async with connected(folder, lambda _: Status(409, body)) as (backend, _):
        await backend.remove(X)


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (
            "driver failed programming external connectivity: Bind for 0.0.0.0:80 failed: port is already allocated",
            EngineRefused,
        ),
        ('OCI runtime create failed: exec: "nope": executable file not found in $PATH', EngineRefused),
        ("crun: executable file `nope` not found", EngineRefused),
        ("error while creating mount source path '/x': mkdir /x: read-only file system", EngineRefused),
        ("failed to create shim task: context deadline exceeded", EngineUnavailable),
        ("something odd", EngineUnavailable),
    ],
)
async def test_a_500_at_start_is_final_when_its_words_say_so(
    folder: Path, message: str, kind: type[EngineError]
) -> None:
    async with connected(folder, lambda _: Status(500, json.dumps({"message": message}).encode())) as (backend, _):
        with pytest.raises(kind):
            await backend.start(X)


async def test_a_missing_image_says_what_to_do(folder: Path) -> None:
    async with connected(folder, lambda _: Status(404, b'{"message":"No such image: busybox:test"}')) as (backend, _):
        with pytest.raises(EngineRefused, match=r"no such image: busybox:test \(docker pull busybox:test first\)"):
            await backend.create(plan_for("one"))


@pytest.mark.parametrize(
    ("call", "message", "kind"),
    [
        ("remove", "cannot be removed without force: container state improper", EngineConflict),
        ("create", 'the container name "agentd-one" is already in use by 7306', EngineConflict),
        ("create", 'lookup init binary: exec: "catatonit": executable file not found in $PATH', EngineRefused),
    ],
)
async def test_podmans_500_is_judged_by_its_words(
    folder: Path, call: str, message: str, kind: type[EngineError]
) -> None:
    async with connected(folder, lambda _: Status(500, json.dumps({"message": message}).encode())) as (backend, _):
        with pytest.raises(kind):
            await CALLS[call](backend)


async def test_messages_are_bounded(folder: Path) -> None:
    async with connected(folder, lambda _: Status(409, json.dumps({"message": "x" * 100_000}).encode())) as (
        backend,
        _,
    ):
        with pytest.raises(EngineConflict) as caught:
            await backend.stop(X, grace_s=0)
    assert len(str(caught.value)) <= 500


@pytest.mark.parametrize("name", ["", "../info", "a/b", "a b", "a?x=1", "-x", "x" * 300, "ä"])
async def test_what_can_name_no_container_is_never_sent(folder: Path, name: str) -> None:
    async with connected(folder, lambda _: None) as (backend, proxy):
        before = len(proxy.requests)
        with pytest.raises(ContainerGone):
            await backend.inspect(name)
        assert len(proxy.requests) == before


# --- logs and the sketch ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "absent"),
    [
        (Status(404, GONE), "container gone"),
        (Status(501, b'{"message":"configured logging driver does not support reading"}'), "log driver"),
        (Status(500), "could not ask"),
        (Delay(60), "could not ask"),
        (Refuse(), "could not ask"),
    ],
)
async def test_a_tail_never_raises_and_says_what_was_in_the_way(folder: Path, fault: Fault, absent: str) -> None:
    async with connected(folder, lambda _: fault) as (backend, _):
        tail = await backend.tail(X, lines=5, max_bytes=1000, since=None, until=None)
    assert tail == LogTail(lines=(), truncated=False, absent=absent)


async def test_health_of_a_session_that_could_not_be_asked_about_is_unknown(folder: Path) -> None:
    async with connected(folder, lambda _: Status(500)) as (backend, _):
        assert await backend.session_health("one") is SessionHealth.UNKNOWN


@pytest.mark.parametrize(
    ("name", "health"),
    [
        ("agentd-well", SessionHealth.HEALTHY),
        ("agentd-ill", SessionHealth.UNHEALTHY),
        ("agentd-looping", SessionHealth.HEALTHY),
        ("agentd-three", SessionHealth.UNKNOWN),
        ("agentd-plain", SessionHealth.UNKNOWN),
    ],
)
async def test_session_health_is_the_sketchs(folder: Path, name: str, health: SessionHealth) -> None:
    body = json.dumps(INSPECTS[name]).encode()
    async with connected(folder, lambda request: Status(200, body) if request.is_inspect else None) as (backend, proxy):
        assert await backend.session_health(name.removeprefix("agentd-")) is health
        assert proxy.requests[-1].path == f"/containers/{name}/json"
