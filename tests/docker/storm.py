"""A flood of events at the full speed of the socket, from a stand-in for an engine: is every state right afterwards?

    python -m tests.docker.storm --events 100000 [--json FILE]

The stand-in holds watched containers whose starts, ends and renames it sends as fast as they are read; the controller
is the real one, as a process. Nothing but the speed is unusual: no event is lost on the way, so none may be missing in
the journal. Prints what was reached; ends with 1 when a state is wrong or memory grows beyond its bound.
"""

import argparse
import contextlib
import json
import random
import socket
import socketserver
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from controller.model.instant import Instant, to_rfc3339
from tests.support.controller_process import ControllerProcess, until
from tests.support.ledger_file import LedgerFile

RECORDED: Final = Path(__file__).parents[1] / "engine" / "recorded"
CONTAINERS_COUNT: Final = 50
MOVES_EVERY: Final = 20
"""One event in so many is a start or an end; the others are renames, which move nothing."""
RSS_GROWTH_MAX_MIB: Final = 40.0
"""The ledger's keys of ten minutes and the journal of a storm are kept for a while."""
_BATCH: Final = 200


@dataclass
class StandIn:
    """One container as the stand-in holds it."""

    id: str
    name: str
    runs: bool
    started_at: int
    finished_at: int = 0
    code: int = 0
    starts_count: int = 1
    ends_count: int = 0

    def event(self, action: str, at: int, **attributes: str) -> bytes:
        actor = {
            "ID": self.id,
            "Attributes": {"name": self.name, "image": "busybox", "agentd.watch": "true", **attributes},
        }
        return json.dumps({"Type": "container", "Action": action, "Actor": actor, "timeNano": at}).encode() + b"\n"

    def inspect(self) -> dict[str, Any]:
        state = {
            "Status": "running" if self.runs else "exited",
            "Running": self.runs,
            "ExitCode": self.code,
            "Error": "",
            "OOMKilled": False,
            "StartedAt": to_rfc3339(Instant(self.started_at)),
            "FinishedAt": to_rfc3339(Instant(self.finished_at)) if self.finished_at else "0001-01-01T00:00:00Z",
        }
        labels = {"agentd.watch": "true"}
        return {
            "Id": self.id,
            "Name": f"/{self.name}",
            "Created": to_rfc3339(Instant(self.started_at - 10**9)),
            "RestartCount": 0,
            "State": state,
            "Config": {"Image": "busybox", "Labels": labels, "Tty": False},
            "HostConfig": {"RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "AutoRemove": False, "Memory": 0},
        }

    def listed(self) -> dict[str, Any]:
        return {
            "Id": self.id,
            "Names": [f"/{self.name}"],
            "Image": "busybox",
            "Labels": {"agentd.watch": "true"},
            "State": "running" if self.runs else "exited",
            "Status": "Up 1 second" if self.runs else f"Exited ({self.code}) 1 second ago",
            "Created": self.started_at // 10**9,
        }


class Storm(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """The stand-in. `blow` sends the events into the stream that is open."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _Answers)
        self.about: dict[str, Any] = json.loads((RECORDED / "docker-20.10-about.json").read_text())
        now = time.time_ns()
        self.containers = {
            (each := f"{number:064x}"): StandIn(id=each, name=f"c{number}", runs=True, started_at=now - 10**9)
            for number in range(1, CONTAINERS_COUNT + 1)
        }
        self.lock = threading.Lock()
        self.streams: list[socket.socket] = []

    def blow(self, count: int) -> float:
        """Seconds until the last event was taken from us."""
        dice, began = random.Random(1), time.monotonic()
        left = count
        while left > 0:
            with self.lock:
                size = min(_BATCH, left)
                data = b"".join(self._next(dice) for _ in range(size))
                chunk = b"%x\r\n%s\r\n" % (len(data), data)
                for stream in list(self.streams):
                    with contextlib.suppress(OSError):
                        stream.sendall(chunk)
            left -= size
        return time.monotonic() - began

    def _next(self, dice: random.Random) -> bytes:
        one = dice.choice(list(self.containers.values()))
        at = time.time_ns()
        if dice.randrange(MOVES_EVERY):
            old, one.name = one.name, f"c{dice.randrange(10**9)}"
            return one.event("rename", at, oldName=f"/{old}")
        if one.runs:
            one.runs, one.finished_at, one.code = False, at, dice.choice((0, 1, 3))
            one.ends_count += 1
            return one.event("die", at, exitCode=str(one.code))
        one.runs, one.started_at, one.finished_at, one.code = True, at, 0, 0
        one.starts_count += 1
        return one.event("start", at)


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Storm

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def address_string(self) -> str:
        return "controller"

    def do_GET(self) -> None:
        storm, path = self.server, "/" + urlsplit(self.path).path.removeprefix("/v1.41").strip("/")
        if path == "/events":
            self._stream()
            return
        with storm.lock:
            body = self._body(path)
        self._answer(200 if body is not None else 404, body if body is not None else {"message": "No such container"})

    def _body(self, path: str) -> object | None:
        storm = self.server
        if path in ("/version", "/info"):
            return {**storm.about[path[1:]], "SystemTime": to_rfc3339(Instant(time.time_ns()))}
        if path == "/networks":
            return []
        if path == "/containers/json":
            watched = "agentd.watch" in self.path
            return [one.listed() for one in storm.containers.values()] if watched else []
        if path.startswith("/containers/") and path.endswith("/json"):
            one = storm.containers.get(path.split("/")[2])
            return one.inspect() if one is not None else None
        return None

    def _answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        with self.server.lock:
            self.server.streams.append(self.connection)
        # The stream lives until the other side goes; whatever it sends means that it has gone.
        with contextlib.suppress(OSError):
            self.connection.recv(1)
        self.close_connection = True


def rss_mib(pid: int) -> float:
    """Resident memory of a process."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) / 1024


def measure(count: int) -> tuple[dict[str, object], list[str]]:
    """Figures, and what was wrong."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="st") as text:
        folder = Path(text)
        storm = Storm(folder / "s")
        threading.Thread(target=storm.serve_forever, daemon=True).start()
        with storm, ControllerProcess(folder=folder / "c", engine_url=f"unix://{folder}/s") as controller:
            until(lambda: len(controller.sessions()) == CONTAINERS_COUNT, what="all are known", timeout_s=30)
            before = rss_mib(controller.pid)
            sent_s = storm.blow(count)
            highest = [rss_mib(controller.pid)]
            began = time.monotonic()

            def at_rest() -> bool:
                highest.append(rss_mib(controller.pid))
                return not _wrong(controller, storm)

            with contextlib.suppress(AssertionError):
                until(at_rest, what="every state is right", timeout_s=180)
            wrong = _wrong(controller, storm)
            settled_s = time.monotonic() - began
            after = rss_mib(controller.pid)
            wrong += _counts(controller, storm)
            ready = controller.is_ready()
            gaps_count = len(LedgerFile(controller.db).rows("gap"))
            storm.shutdown()
    growth = max(highest) - before
    figures: dict[str, object] = {
        "events": count,
        "sent_s": round(sent_s, 2),
        "events_per_s": round(count / sent_s),
        "right_after_s": round(settled_s, 2),
        "wrong_states": len(wrong),
        "rss_before_mib": round(before, 1),
        "rss_growth_mib": round(growth, 1),
        "rss_after_mib": round(after, 1),
        "ready": ready,
        "gap_rows": gaps_count,
    }
    if growth > RSS_GROWTH_MAX_MIB:
        wrong.append(f"memory grew by {growth:.1f} MiB")
    return figures, wrong


def _wrong(controller: ControllerProcess, storm: Storm) -> list[str]:
    found = []
    told = {str(one["container_id"]): one for one in controller.sessions().values()}
    for one in storm.containers.values():
        phase = "running" if one.runs else ("failed" if one.code else "stopped")
        if told[one.id]["phase"] != phase or told[one.id]["container_name"] != one.name:
            found.append(f"{one.name} is {phase}, told as {told[one.id]['phase']} ({told[one.id]['container_name']})")
    return found


def _counts(controller: ControllerProcess, storm: Storm) -> list[str]:
    """Each start and each end is one attempt, neither lost nor invented; or a gap admits it."""
    gaps = LedgerFile(controller.db).rows("gap")
    told = {str(one["container_id"]): one["attempt"] for one in controller.sessions().values()}
    return [
        f"{one.name} was started {one.starts_count} times, told {told[one.id]} ({len(gaps)} gap rows)"
        for one in storm.containers.values()
        if told[one.id] != one.starts_count and not gaps
    ]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.docker.storm")
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    figures, wrong = measure(asked.events)
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(figures))
    for one in wrong[:20]:
        print(one)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
