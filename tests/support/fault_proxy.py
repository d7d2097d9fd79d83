"""A proxy before an engine's socket that can break each answer in a way of its own.

A rule looks at each request and names a fault, or None to pass it on. One connection carries one request, so that
"the third list" means the same each time. Use `async with FaultProxy(...)` in the test itself, not in a fixture: it
holds a task group, which must be left by the task that entered it.
"""

import random
import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

import anyio
from anyio.abc import SocketStream, TaskGroup
from anyio.streams.buffered import BufferedByteReceiveStream

_HEAD_MAX_BYTES = 64 * 1024
_CHUNK_BYTES = 65_536
_BROKEN = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, anyio.IncompleteRead, OSError)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the client asked for."""

    method: str
    path: str
    """Without the `/v1.41` and without the query."""
    query: str
    nth: int
    """1 for the first request through this proxy, whatever it asked for."""

    def is_(self, method: str, path: str) -> bool:
        """Whether method and path fit; the path is a pattern for the whole of it."""
        return self.method == method and re.fullmatch(path, self.path) is not None

    @property
    def is_events(self) -> bool:
        return self.is_("GET", "/events")

    @property
    def is_list(self) -> bool:
        return self.is_("GET", "/containers/json")

    @property
    def is_inspect(self) -> bool:
        return self.is_("GET", "/containers/[^/]+/json")

    @property
    def parameters(self) -> dict[str, list[str]]:
        return parse_qs(self.query)


# --- faults ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Refuse:
    """Hang up without a word; the engine never hears of it. (For a refused connection: `stop_listening`.)"""


@dataclass(frozen=True)
class Reset:
    """Hang up after so many bytes of the answer."""

    after_bytes: int = 0


@dataclass(frozen=True)
class HalfOpen:
    """Send so many bytes of the answer, then nothing, for ever."""

    after_bytes: int = 0


@dataclass(frozen=True)
class Drip:
    """Send the answer in small pieces with pauses."""

    piece_bytes: int
    every_s: float


@dataclass(frozen=True)
class Delay:
    """Pass the request on only after so many seconds."""

    seconds: float


class Hold:
    """Pass the request on only once it is released; `held` says how many wait or have waited."""

    def __init__(self) -> None:
        self.held = 0
        self._released = anyio.Event()

    async def release(self) -> None:
        """Let all go on, now and later. Only in the proxy's own loop."""
        self._released.set()

    async def wait(self) -> None:
        self.held += 1
        await self._released.wait()


@dataclass(frozen=True)
class Status:
    """Answer so in the engine's place; it never hears of it."""

    code: int
    body: bytes = b'{"message":"injected"}'
    content_type: str = "application/json"


@dataclass(frozen=True)
class Garble:
    """Flip bytes of the answer's body."""

    rate: float = 0.1
    seed: int = 0


@dataclass(frozen=True)
class Duplicate:
    """Send every line of the answer twice."""


@dataclass(frozen=True)
class LostReply:
    """The engine does it; the client never hears."""


@dataclass(frozen=True)
class ReplaceBody:
    """Another body in place of the engine's: `ReplaceBody(lambda body: b"[]")`."""

    edit: Callable[[bytes], bytes]


@dataclass(frozen=True)
class CutLine:
    """Half of the nth line (1 is the first), then hang up."""

    nth: int = 1


@dataclass(frozen=True)
class HalveLine:
    """Half of the nth line in place of the whole; the stream goes on."""

    nth: int = 1


@dataclass(frozen=True)
class InjectLine:
    """A line that the engine never sent, before its nth; with 0 as soon as the stream is open."""

    line: bytes
    before: int = 0


@dataclass(frozen=True)
class PassLines:
    """Change nothing, but let `inject` write into this stream at any time."""


@dataclass(frozen=True)
class Spoil:
    """Another line in place of each that fits."""

    which: Callable[[bytes], bool]
    into: Callable[[bytes], bytes]
    """Gets the line with its end."""
    hang_up: bool = False
    """Break the connection right behind it."""


LineFault = CutLine | HalveLine | InjectLine | Duplicate | PassLines | Spoil
Fault = Refuse | Reset | HalfOpen | Drip | Delay | Hold | Status | Garble | LostReply | ReplaceBody | LineFault
Rule = Callable[[Request], Fault | None]


def empty_list(_: bytes) -> bytes:
    """For `ReplaceBody`: no containers."""
    return b"[]"


def half_body(body: bytes) -> bytes:
    """For `ReplaceBody`: cut in the middle."""
    return body[: len(body) // 2]


def always(fault: Fault, *, when: Callable[[Request], bool] = lambda _: True) -> Rule:
    """The rule that breaks each request that fits, the same way."""
    return lambda request: fault if when(request) else None


def times(count: int, fault: Fault, *, when: Callable[[Request], bool] = lambda _: True) -> Rule:
    """The rule that breaks the first so many requests that fit."""
    left = count

    def rule(request: Request) -> Fault | None:
        nonlocal left
        if left == 0 or not when(request):
            return None
        left -= 1
        return fault

    return rule


# --- the proxy -------------------------------------------------------------------------------------------------


class FaultProxy:
    """Listens on one unix socket and passes each connection to the other, as its rule says."""

    def __init__(self, *, listen: Path, upstream: Path, rule: Rule | None = None) -> None:
        self.rule: Rule | None = rule
        """May be changed at any time; open connections keep their fault."""
        self.requests: list[Request] = []
        self.strikes: Counter[Fault] = Counter()
        """How often each fault has bent something: one that a rule only chose has not struck yet."""
        self.url = f"unix://{listen}"
        self._listen = listen
        self.upstream = upstream
        """May be changed at any time; open connections stay with the old one, see `kill_all`."""
        self._group: TaskGroup | None = None
        self._listening: anyio.CancelScope | None = None
        self._scopes: set[anyio.CancelScope] = set()
        self._lines: set[_LineWriter] = set()
        self._flow = _Flow()

    async def __aenter__(self) -> Self:
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        await self.listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._group is not None
        self._group.cancel_scope.cancel()
        outcome = await self._group.__aexit__(kind, error, trace)
        self._listen.unlink(missing_ok=True)
        return outcome

    async def listen(self) -> None:
        """Accept connections (again)."""
        assert self._group is not None
        self._listen.unlink(missing_ok=True)
        await self._group.start(self._serve)

    async def stop_listening(self) -> None:
        """As if the daemon had stopped: no socket. Open connections stay; see `kill_all`."""
        self._listen.unlink(missing_ok=True)
        if self._listening is not None:
            self._listening.cancel()

    def freeze(self) -> None:
        """From now on nothing gets through in either direction, and nothing breaks: half open, every connection."""
        self._flow.stop()

    def thaw(self) -> None:
        """Let everything through again, also what has waited."""
        self._flow.go_on()

    def kill_all(self) -> None:
        """Break every open connection at once."""
        for scope in list(self._scopes):
            scope.cancel()

    async def inject(self, line: bytes) -> int:
        """Write a line into every stream that is open under a line fault; gives how many there were."""
        writers = list(self._lines)
        for writer in writers:
            await writer.send(line + b"\n")
        return len(writers)

    def asked(self, when: Callable[[Request], bool]) -> int:
        """How many requests so far fit."""
        return sum(1 for request in self.requests if when(request))

    async def _serve(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        listener = await anyio.create_unix_listener(self._listen)
        with anyio.CancelScope() as self._listening:
            async with listener:
                task_status.started()
                await listener.serve(self._connection, self._group)

    async def _connection(self, client: SocketStream) -> None:
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                with suppress(*_BROKEN):
                    await self._one_request(client)
            finally:
                self._scopes.discard(scope)
                await anyio.aclose_forcefully(client)

    async def _one_request(self, client: SocketStream) -> None:
        incoming = BufferedByteReceiveStream(client)
        head = await incoming.receive_until(b"\r\n\r\n", _HEAD_MAX_BYTES)
        request = self._request(head)
        self.requests.append(request)
        fault = self.rule(request) if self.rule is not None else None
        await self._flow.wait()
        strike = partial(self._strike, fault)
        match fault:
            case Refuse():
                strike()
                return
            case Status():
                await client.send(_answer(fault))
                strike()
                return
            case Delay(seconds=seconds):
                await anyio.sleep(seconds)
                strike()
            case Hold():
                strike()
                await fault.wait()
            case _:
                pass
        edits_body = isinstance(fault, LineFault | ReplaceBody | Garble)
        async with await anyio.connect_unix(self.upstream) as engine, anyio.create_task_group() as group:
            await engine.send(_one_shot(head, plain=edits_body))
            group.start_soon(_pump, incoming, engine)
            # Here, not further out: beyond the group a broken connection would be an exception group.
            with suppress(*_BROKEN):
                if edits_body:
                    await self._edited(engine, client, fault, strike)
                else:
                    await _passed(engine, client, fault, strike, flow=self._flow)
            group.cancel_scope.cancel()

    def _strike(self, fault: Fault | None) -> None:
        assert fault is not None
        self.strikes[fault] += 1

    def _request(self, head: bytes) -> Request:
        method, target = head.split(b" ", 2)[:2]
        parts = urlsplit(target.decode())
        path = re.sub(r"^/v\d+\.\d+(?=/)", "", parts.path)
        return Request(method=method.decode(), path=path, query=parts.query, nth=len(self.requests) + 1)

    async def _edited(
        self, engine: SocketStream, client: SocketStream, fault: Fault | None, strike: Callable[[], None]
    ) -> None:
        body = BufferedByteReceiveStream(engine)
        head = await body.receive_until(b"\r\n\r\n", _HEAD_MAX_BYTES)
        writer = _LineWriter(client)
        await client.send(_rechunked(head))
        if isinstance(fault, LineFault):
            self._lines.add(writer)
            try:
                await _edit_lines(body, writer, fault, strike)
            finally:
                self._lines.discard(writer)
        else:
            whole = await _rest(body)
            edited = fault.edit(whole) if isinstance(fault, ReplaceBody) else _garbled(whole, fault)
            await writer.send(edited)
            if edited != whole:
                strike()
        await client.send(b"0\r\n\r\n")


class _Flow:
    """Whether anything gets through just now."""

    def __init__(self) -> None:
        self._open = anyio.Event()
        self._open.set()

    def stop(self) -> None:
        if self._open.is_set():
            self._open = anyio.Event()

    def go_on(self) -> None:
        self._open.set()

    async def wait(self) -> None:
        await self._open.wait()


class _LineWriter:
    """Writes chunks of a chunked answer, one at a time."""

    def __init__(self, client: SocketStream) -> None:
        self._client = client
        self._lock = anyio.Lock()

    async def send(self, data: bytes) -> None:
        if data:
            async with self._lock:
                await self._client.send(b"%x\r\n%s\r\n" % (len(data), data))


async def _edit_lines(
    body: BufferedByteReceiveStream, writer: _LineWriter, fault: LineFault, strike: Callable[[], None]
) -> None:
    number = 0
    if isinstance(fault, InjectLine) and fault.before == 0:
        await writer.send(fault.line + b"\n")
        strike()
    while (line := await _line(body)) is not None:
        number += 1
        whole = line
        match fault:
            case CutLine(nth=nth) if nth == number:
                await writer.send(line[: len(line) // 2])
                strike()
                raise anyio.BrokenResourceError
            case HalveLine(nth=nth) if nth == number:
                line = line[: len(line) // 2] + b"\n"
            case InjectLine(line=extra, before=before) if before == number:
                line = extra + b"\n" + line
            case Duplicate():
                line = line + line
            case Spoil(which=which, into=into, hang_up=hang_up) if which(line):
                await writer.send(into(line))
                strike()
                if hang_up:
                    raise anyio.BrokenResourceError
                continue
            case _:
                pass
        await writer.send(line)
        if line != whole:
            strike()


async def _line(body: BufferedByteReceiveStream) -> bytes | None:
    try:
        return await body.receive_until(b"\n", 8 * 1024 * 1024) + b"\n"
    except (anyio.IncompleteRead, anyio.EndOfStream):
        return None


async def _rest(body: BufferedByteReceiveStream) -> bytes:
    whole = bytearray()
    with suppress(anyio.EndOfStream):
        while True:
            whole += await body.receive(_CHUNK_BYTES)
    return bytes(whole)


async def _passed(
    engine: SocketStream, client: SocketStream, fault: Fault | None, strike: Callable[[], None], *, flow: "_Flow"
) -> None:
    sent = 0
    with suppress(anyio.EndOfStream):
        while True:
            data = await engine.receive(_CHUNK_BYTES)
            await flow.wait()
            match fault:
                case LostReply():
                    if not sent:
                        strike()
                case Reset(after_bytes=limit) | HalfOpen(after_bytes=limit) if sent + len(data) >= limit:
                    await client.send(data[: limit - sent])
                    strike()
                    if isinstance(fault, HalfOpen):
                        await anyio.sleep_forever()
                    return
                case Drip(piece_bytes=size, every_s=pause):
                    for start in range(0, len(data), size):
                        await client.send(data[start : start + size])
                        await anyio.sleep(pause)
                    strike()
                case _:
                    await client.send(data)
            sent += len(data)


async def _pump(incoming: BufferedByteReceiveStream, engine: SocketStream) -> None:
    with suppress(*_BROKEN):
        while True:
            await engine.send(await incoming.receive(_CHUNK_BYTES))


def _one_shot(head: bytes, *, plain: bool) -> bytes:
    # One request a connection. HTTP/1.0 makes the engine send a plain body, which can then be edited.
    lines = [line for line in head.split(b"\r\n") if line]
    if not any(line.lower().startswith(b"upgrade:") for line in lines):
        lines = [line for line in lines if not line.lower().startswith(b"connection:")] + [b"Connection: close"]
    if plain:
        lines[0] = lines[0].replace(b"HTTP/1.1", b"HTTP/1.0")
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _rechunked(head: bytes) -> bytes:
    dropped = (b"content-length:", b"transfer-encoding:", b"connection:")
    lines = [line for line in head.split(b"\r\n") if line and not line.lower().startswith(dropped)]
    lines[0] = lines[0].replace(b"HTTP/1.0", b"HTTP/1.1")
    return b"\r\n".join([*lines, b"Transfer-Encoding: chunked", b"Connection: close"]) + b"\r\n\r\n"


def _answer(fault: Status) -> bytes:
    head = f"HTTP/1.1 {fault.code} Injected\r\nContent-Type: {fault.content_type}\r\n"
    return f"{head}Content-Length: {len(fault.body)}\r\nConnection: close\r\n\r\n".encode() + fault.body


def _garbled(body: bytes, fault: Fault | None) -> bytes:
    assert isinstance(fault, Garble)
    dice = random.Random(fault.seed)
    return bytes(byte ^ dice.randrange(1, 256) if dice.random() < fault.rate else byte for byte in body)
