"""What really happened in an engine, learnt without any of the program's code: a raw reader of the event stream.

It runs in a thread of its own and connects again after every break. Where the engine cannot prove that nothing was
missed (the last event is not repeated), the stretch is kept as a `Blind`, and nothing is judged by it. The test
says what it does itself with `deed`, and when the engine goes down with `engine_down`; `judgement.py` compares all
of that with the ledger.
"""

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

from tests.support.controller_process import until
from tests.support.private_engine import BUSYBOX_IMAGE, PrivateEngine

KEPT: Final = ("create", "start", "die", "kill", "stop", "destroy", "pause", "unpause")
"""The actions that are judged. Renames and execs are many, and move nothing."""
DEED_LASTS_S: Final = 15.0
"""What the test did may show in the stream this long after: a stop with its grace, a restart policy of the engine."""
_READ_TIMEOUT_S: Final = 0.5
_AGAIN_S: Final = 0.05


@dataclass(frozen=True, kw_only=True)
class Happening:
    """One event as the engine sent it."""

    container: str
    action: str
    at: int
    """Nanoseconds, by the engine's clock, which is this machine's."""
    attributes: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.attributes.get("name", "")


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """From one instant to another, both in nanoseconds."""

    begin: int
    end: int

    def meets(self, begin: int, end: int) -> bool:
        return self.begin <= end and begin <= self.end


class StreamOracle:
    """Listens from entry to exit."""

    def __init__(self, engine: PrivateEngine) -> None:
        self._engine = engine
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="oracle", daemon=True)
        self._happened: dict[tuple[str, str, int], Happening] = {}
        self._last_at = time.time_ns()
        self._heard_at = time.time_ns()
        self._must_repeat = False
        self._marks = 0
        self.seen_count = 0
        """Lines read, those that are not judged among them."""
        self.blind: list[Stretch] = []
        """When it could not listen, and cannot prove that nothing happened."""
        self.deeds: dict[str, list[Stretch]] = {}
        """What the test itself did, by container id or name."""
        self.engine_deeds: list[Stretch] = []
        """When the engine itself was going down or coming up: it kills and starts for reasons of its own."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(10)

    @property
    def happened(self) -> list[Happening]:
        """All so far, by the engine's time."""
        return sorted(list(self._happened.values()), key=lambda one: one.at)

    @contextlib.contextmanager
    def deed(self, *containers: str) -> Iterator[None]:
        """The test does something to these, known by id or name."""
        begin = time.time_ns()
        try:
            yield
        finally:
            done = Stretch(begin=begin, end=time.time_ns() + int(DEED_LASTS_S * 1e9))
            for container in containers:
                self.deeds.setdefault(container, []).append(done)

    @contextlib.contextmanager
    def engine_down(self) -> Iterator[None]:
        """The test takes the engine down within, and it is up again at the end."""
        begin = time.time_ns()
        try:
            yield
        finally:
            self.engine_deeds.append(Stretch(begin=begin, end=time.time_ns() + int(2e9)))

    def catch_up(self) -> None:
        """Return once everything that has happened until now was heard."""
        heard = threading.Event()

        def mark() -> bool:
            self._marks += 1
            name = f"oracle-{self._marks}"
            self._engine.cli("create", "--name", name, "--network", "none", BUSYBOX_IMAGE)
            self._engine.cli("rm", name)
            with contextlib.suppress(AssertionError):
                until(lambda: self._has_heard(name), what="the mark", timeout_s=5)
                heard.set()
            return heard.is_set()

        until(mark, what="the oracle hears", timeout_s=60)

    def _has_heard(self, name: str) -> bool:
        return any(one.name == name and one.action == "destroy" for one in list(self._happened.values()))

    # --- the thread ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(OSError):
                self._read()
            self._must_repeat = True
            self._ended.wait(_AGAIN_S)

    def _read(self) -> None:
        filters = quote(json.dumps({"type": ["container"]}))
        since = f"{self._last_at // 10**9}.{self._last_at % 10**9:09d}"
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(_READ_TIMEOUT_S)
            client.connect(str(self._engine.socket))
            # HTTP/1.0: the engine answers with plain lines.
            client.sendall(f"GET /events?since={since}&filters={filters} HTTP/1.0\r\nHost: engine\r\n\r\n".encode())
            buffer, has_head = b"", False
            while not self._ended.is_set():
                try:
                    data = client.recv(1 << 20)
                except TimeoutError:
                    continue
                if not data:
                    return
                buffer += data
                if not has_head:
                    head, cut, buffer = buffer.partition(b"\r\n\r\n")
                    if not cut:
                        buffer = head
                        continue
                    if b" 200 " not in head.split(b"\r\n")[0]:
                        return
                    has_head = True
                *lines, buffer = buffer.split(b"\n")
                for line in lines:
                    self._take(line)
                self._heard_at = time.time_ns()

    def _take(self, line: bytes) -> None:
        told: dict[str, Any] = json.loads(line)
        self.seen_count += 1
        at = int(told["timeNano"])
        if self._must_repeat:
            self._must_repeat = False
            if at != self._last_at:
                self.blind.append(Stretch(begin=min(self._heard_at, self._last_at), end=time.time_ns()))
        self._last_at = max(self._last_at, at)
        action, actor = str(told["Action"]), told["Actor"]
        if action in KEPT:
            one = Happening(container=str(actor["ID"]), action=action, at=at, attributes=actor.get("Attributes") or {})
            self._happened.setdefault((one.container, one.action, one.at), one)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("engine", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(str(self._path))


def wire(engine: PrivateEngine) -> http.client.HTTPConnection:
    """A kept connection to the engine, for what must be quick or many."""
    return _UnixConnection(engine.socket)


def ask(connection: http.client.HTTPConnection, method: str, path: str) -> Any:
    """One request; the JSON of the answer, None when there is none."""
    connection.request(method, path)
    answer = connection.getresponse()
    body = answer.read()
    return json.loads(body) if body else None


def inspect_all(engine: PrivateEngine) -> dict[str, Any]:
    """Every container of the engine as it stands, by id."""
    with contextlib.closing(wire(engine)) as connection:
        ids = [one["Id"] for one in ask(connection, "GET", "/containers/json?all=1")]
        found = {each: ask(connection, "GET", f"/containers/{each}/json") for each in ids}
    return {each: told for each, told in found.items() if "State" in told}
