"""Plain HTTP to an engine's socket: for what a command line cannot say, or says too slowly a thousand times."""

import http.client
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.support.private_engine import BUSYBOX_IMAGE

_PARALLEL = 4


class EngineClient:
    """One connection, kept open."""

    def __init__(self, path: Path) -> None:
        self.connection = http.client.HTTPConnection("engine", timeout=120)
        self.connection.sock = socket.socket(socket.AF_UNIX)
        self.connection.sock.connect(str(path))

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """One request that must succeed; its JSON, or None."""
        data = None if body is None else json.dumps(body)
        self.connection.request(method, path, data, {"Content-Type": "application/json"} if data else {})
        answer = self.connection.getresponse()
        raw = answer.read()
        assert answer.status < 400, f"{method} {path}: {answer.status} {raw[:300]!r}"
        return json.loads(raw) if raw else None

    def create(self, name: str, *command: str, labels: dict[str, str], start: bool = False) -> str:
        """One container without a network; gives its id."""
        body = {
            "Image": BUSYBOX_IMAGE,
            "Cmd": command or ("/bin/sleep", "100000"),
            "Labels": labels,
            "HostConfig": {"NetworkMode": "none"},
        }
        container = str(self.ask("POST", f"/containers/create?name={name}", body)["Id"])
        if start:
            self.ask("POST", f"/containers/{container}/start")
        return container

    def close(self) -> None:
        self.connection.close()


def create_many(path: Path, count: int, *, labels: dict[str, str], running_count: int = 0) -> None:
    """So many containers `many-0` and on, a few at a time; the first so many run."""

    def share(first: int) -> None:
        with closing(EngineClient(path)) as client:
            for number in range(first, count, _PARALLEL):
                client.create(f"many-{number}", labels=labels, start=number < running_count)

    with ThreadPoolExecutor(_PARALLEL) as threads:
        list(threads.map(share, range(_PARALLEL)))
