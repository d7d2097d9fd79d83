"""The real controller as a process of its own, beside a real engine: start, kill, stop, ask, and read its log.

Waiting is for something that can be seen (a log line, an answer), under a limit; nothing sleeps to wait for luck.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")
Json = dict[str, object]

READY_TIMEOUT_S = 30.0
_POLL_S = 0.02


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until(condition: Callable[[], T], *, what: str, timeout_s: float = 20.0) -> T:
    """Ask again until the answer is true-ish; fails with `what` after the limit."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(_POLL_S)


class ControllerProcess:
    """One controller. `start` again after `kill` or `stop` is its next life on the same ledger."""

    def __init__(self, *, folder: Path, engine_url: str, under: tuple[str, ...] = (), **settings: str) -> None:
        """Settings are AGENTD_* variables by their lower-case rest: `orphan_grace_s="0"`. `under`: a command before."""
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self._under = under
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.db = folder / "controller.db"
        self.log = folder / "controller.log"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "DOCKER_HOST": engine_url,
            "AGENTD_DB": str(self.db),
            "AGENTD_PORT": str(self.port),
            "AGENTD_URL": self.url,
            "AGENTD_LOG_FORMAT": "json",
            **{f"AGENTD_{name.upper()}": value for name, value in settings.items()},
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.alive:
            self.kill()

    # --- its life ---

    def start(self, *, wait_ready: bool = True, stdout: int | None = None) -> Self:
        """Begin a life, on the same ledger as the one before; its log goes to a file of ours, or to `stdout`."""
        assert not self.alive, "it runs already"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._under, sys.executable, "-m", "controller", "run"],
                stdin=subprocess.DEVNULL,
                stdout=log if stdout is None else stdout,
                stderr=subprocess.STDOUT,
                env=self.environment,
                cwd=Path(__file__).parents[2],
                start_new_session=True,
            )
        if wait_ready:
            until(self._is_ready_or_dead, what=f"ready\n{self.log_tail()}", timeout_s=READY_TIMEOUT_S)
            assert self.alive, f"it ended with {self._process.returncode}:\n{self.log_tail()}"
        return self

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self, *, timeout_s: float = 60.0, signal_number: int = signal.SIGTERM) -> int:
        """Ask it to stop; gives its exit code."""
        assert self._process is not None
        self._process.send_signal(signal_number)
        return self._process.wait(timeout_s)

    def wait(self, timeout_s: float = 30.0) -> int:
        """Its exit code, once it has ended by itself."""
        assert self._process is not None
        return self._process.wait(timeout_s)

    # --- asking it ---

    def request(self, method: str, path: str, body: object = None, *, timeout_s: float = 90.0) -> tuple[int, Json]:
        """One HTTP request: status and JSON body, refusals too."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        if token := self.environment.get("AGENTD_TOKEN"):
            headers["Authorization"] = f"Bearer {token}"
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as answer:
                return answer.status, json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read() or b"{}")

    def get(self, path: str) -> Json:
        """The JSON body of a GET that must succeed."""
        status, body = self.request("GET", path)
        assert status == 200, f"GET {path}: {status} {body}"
        return body

    def session(self, name: str) -> Json:
        """One session as JSON."""
        return self.get(f"/v1/sessions/{name}")

    def sessions(self, *, all_of_them: bool = True) -> dict[str, Json]:
        """All sessions by name; of several removed ones with one name the last."""
        found: dict[str, Json] = {}
        path = f"/v1/sessions?limit=1000{'&all=true' if all_of_them else ''}"
        body = self.get(path)
        items = body["items"]
        assert isinstance(items, list)
        for item in items:
            found[str(item["name"])] = item
        return found

    def create(self, name: str, *command: str, wait: bool = True, **spec: object) -> Json:
        """Create and start a session of busybox; must be accepted."""
        body = {"name": name, "spec": {"image": "busybox:test", "command": list(command), **spec}}
        status, answer = self.request("POST", f"/v1/sessions?wait={'true' if wait else 'false'}", body)
        assert status in (200, 201, 202), f"{status} {answer}"
        return answer

    def reconcile(self, *, dry_run: bool = False) -> list[Json]:
        """One sweep now; gives its plan."""
        status, body = self.request("POST", f"/v1/reconcile?dry_run={'true' if dry_run else 'false'}")
        assert status == 200, f"{status} {body}"
        lines = body["lines"]
        assert isinstance(lines, list)
        return lines

    def timeline(self, name: str) -> list[Json]:
        """The journal rows of one session."""
        items = self.get(f"/v1/sessions/{name}/timeline?limit=1000")["items"]
        assert isinstance(items, list)
        return items

    def is_ready(self) -> bool:
        """What /readyz says; false when nobody answers."""
        with contextlib.suppress(OSError, ValueError):
            return self.request("GET", "/readyz", timeout_s=5)[0] == 200
        return False

    def wait_for(self, name: str, *, timeout_s: float = 30.0, **wanted: object) -> Json:
        """The session, once all these fields have these values."""
        last: list[Json] = [{}]

        def holds() -> bool:
            status, last[0] = self.request("GET", f"/v1/sessions/{name}")
            return status == 200 and all(last[0].get(key) == value for key, value in wanted.items())

        try:
            until(holds, what=f"{name} {wanted}", timeout_s=timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\nlast seen: {last[0]}\n{self.log_tail()}") from None
        return last[0]

    def ctl(self, *arguments: str, timeout_s: float = 90.0) -> subprocess.CompletedProcess[str]:
        """Run one `agentdctl` command against it."""
        return subprocess.run(
            [sys.executable, "-m", "controller", *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=self.environment,
            cwd=Path(__file__).parents[2],
        )

    # --- its log ---

    def lines(self) -> Iterator[Json]:
        """Every JSON line of its log so far; a line that is not JSON fails the test."""
        text = self.log.read_text(encoding="utf-8") if self.log.exists() else ""
        for line in text.splitlines():
            yield json.loads(line)

    def log_tail(self, count: int = 25) -> str:
        """The last lines, for a failure's message."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-count:])

    def _is_ready_or_dead(self) -> bool:
        return not self.alive or self.is_ready()
