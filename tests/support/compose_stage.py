"""A private engine on which compose.yaml runs just as a user runs it: own network, own socket, nothing shared.

The engine sits in a network namespace without a way out. Only the image build needs one, to pip's index; it goes
through a small CONNECT proxy that listens inside the namespace and dials from outside it.
"""

import ctypes
import ipaddress
import json
import os
import select
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from tests.support.private_engine import PrivateEngine, missing

ROOT: Final = Path(__file__).resolve().parents[2]
BASE_IMAGE: Final = Path(os.environ.get("AGENTD_TEST_BASE_IMAGE", "/var/tmp/lab/python-3.13-slim.tar"))
_START_TIMEOUT_S: Final = 60.0
_COMMAND_TIMEOUT_S: Final = 110.0


def what_is_missing() -> str:
    """Why compose.yaml cannot be tried on this machine; empty where it can."""
    if lacking := missing():
        return lacking
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode:
        return "docker compose is not installed"
    if not BASE_IMAGE.exists():
        return f"no base image: AGENTD_TEST_BASE_IMAGE names no file ({BASE_IMAGE})"
    return ""


class ComposeStage:
    """compose.yaml on one private engine, with the environment a user may have set."""

    def __init__(self, *, engine: PrivateEngine) -> None:
        self.engine = engine
        self.socket = engine.socket
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(engine.folder),
            "DOCKER_HOST": engine.url,
            "DOCKER_SOCKET": str(engine.socket),
        }

    def docker(self, *arguments: str, check: bool = True, environment: Mapping[str, str] = MappingProxyType({})) -> str:
        """Standard output of one docker command; a failure shows what it printed."""
        done = subprocess.run(
            ["docker", *arguments],
            cwd=ROOT,
            env={**self._environment, **environment},
            capture_output=True,
            text=True,
            timeout=_COMMAND_TIMEOUT_S,
            check=False,
        )
        assert not check or done.returncode == 0, f"docker {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def compose(
        self, *arguments: str, check: bool = True, environment: Mapping[str, str] = MappingProxyType({})
    ) -> str:
        """One docker compose command in the root of the project."""
        return self.docker("compose", "--profile", "demo", *arguments, check=check, environment=environment)

    def agentdctl(self, *arguments: str, check: bool = True) -> str:
        """The command line inside the running controller's container."""
        return self.compose("exec", "-T", "controller", "agentdctl", *arguments, check=check)

    def items(self, *arguments: str) -> list[dict[str, Any]]:
        """What `agentdctl … --format json` prints, one object a line."""
        return [json.loads(line) for line in self.agentdctl(*arguments, "--format", "json").splitlines()]

    def inspect(self, name: str) -> dict[str, Any]:
        """The engine's own word on a container."""
        found: list[dict[str, Any]] = json.loads(self.docker("inspect", name))
        return found[0]

    def container(self, service: str) -> dict[str, Any]:
        """The engine's own word on the container of a service."""
        return self.inspect(self.compose("ps", "--all", "--quiet", service).strip())

    def ask_on_the_host(self, path: str, *, token: str = "") -> int:
        """The HTTP status of the published port, asked on the loopback of the engine's host."""
        ask = (
            "import sys, urllib.error, urllib.request as u\n"
            "r = u.Request(f'http://127.0.0.1:7006{sys.argv[1]}', headers={'Authorization': f'Bearer {sys.argv[2]}'})\n"
            "try: print(u.urlopen(r, timeout=5).status)\n"
            "except urllib.error.HTTPError as e: print(e.code)"
        )
        inside = ["nsenter", f"--net=/proc/{self.engine.pid}/ns/net", sys.executable, "-c", ask, path, token]
        return int(subprocess.run(inside, capture_output=True, text=True, check=True, timeout=30).stdout)

    def clear(self) -> None:
        """Nothing of the project left: containers, volume and networks gone."""
        self.engine.remove_all()
        self.compose("down", "--volumes", "--remove-orphans")


def until(ready: Callable[[], bool], *, what: str, timeout_s: float = _START_TIMEOUT_S) -> None:
    """Look until it is so. The containers are other processes: there is nothing to await but what they show."""
    pause, ends_at = threading.Event(), time.monotonic() + timeout_s
    while not ready():
        assert time.monotonic() < ends_at, f"after {timeout_s:g} s still not so: {what}"
        pause.wait(0.25)


@contextmanager
def compose_stage() -> Iterator[ComposeStage]:
    """Start an engine, give it the base image, build the controller's image; remove all of it at the end."""
    with ExitStack() as stack:
        engine = PrivateEngine()
        stack.callback(engine.close)
        engine.start()
        stage = ComposeStage(engine=engine)
        engine.cli(
            "import", "--change", 'CMD ["python3"]', "--change", "ENV LANG=C.UTF-8",
            "--change", "ENV PATH=/usr/local/bin:/usr/bin:/bin", str(BASE_IMAGE), "python:3.13-slim",
        )  # fmt: skip
        bridge = json.loads(engine.cli("network", "inspect", "bridge"))[0]["IPAM"]["Config"][0]["Subnet"]
        host = ipaddress.ip_network(bridge)[1]
        with _proxy(engine.pid) as port:
            stage.compose("build", "--build-arg", f"HTTPS_PROXY=http://{host}:{port}")
        yield stage


class _Tunnel(socketserver.StreamRequestHandler):
    """One CONNECT: dial, say so, then carry bytes both ways until either end closes."""

    def handle(self) -> None:
        host, _, port = self.rfile.readline().split()[1].decode().rpartition(":")
        while self.rfile.readline().strip():
            pass
        with socket.create_connection((host.strip("[]"), int(port)), timeout=30) as far:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            near = self.connection
            while True:
                for source in select.select([near, far], [], [], 60)[0] or [None]:
                    chunk = source.recv(65536) if source else b""
                    if not chunk:
                        return
                    (far if source is near else near).sendall(chunk)


class _Proxy(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False


@contextmanager
def _proxy(engine_pid: int) -> Iterator[int]:
    made: list[_Proxy] = []

    # setns moves one thread only. The listening socket stays in the engine's namespace, all later ones out here.
    def listen() -> None:
        with closing(open(f"/proc/{engine_pid}/ns/net", "rb")) as namespace:
            assert ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), 0) == 0, os.strerror(ctypes.get_errno())
        made.append(_Proxy(("0.0.0.0", 0), _Tunnel))

    opener = threading.Thread(target=listen)
    opener.start()
    opener.join()
    with made[0] as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            serving.join()
