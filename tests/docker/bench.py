"""A private engine with a controller of its own beside it, for scripts and tests that need the whole program.

The controller runs as a process of its own (`python -m controller run`), so that it can be killed; it is asked over
HTTP as anybody would ask it.
"""

import contextlib
import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from controller.model.exit import Confidence, Verdict
from controller.model.reason import Reason
from tests.support.private_engine import BUSYBOX_IMAGE, PrivateEngine

ROOT: Final = Path(__file__).parents[2]
ENDED: Final = ("stopped", "failed")
RING_EVENTS: Final = 256
SETTLE_S: Final = 3.0
"""An end is told at once and refined by a look within 2 s: what is read after this long stays."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """What the controller says of an end."""

    phase: str
    reason: str
    verdict: Verdict
    confidence: Confidence
    evidence: tuple[str, ...]


class Bench:
    """Engine and controller, started on entry, ended and deleted on exit."""

    def __init__(self) -> None:
        self.engine = PrivateEngine()
        self.port = _free_port()
        self._log = self.engine.folder / "controller.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        self.engine.__enter__()
        try:
            self.start_controller()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_controller(kill=True)
        self.engine.close()

    @property
    def engine_version(self) -> str:
        """As the engine says it."""
        return self.engine.cli("version", "--format", "{{.Server.Version}}")

    # --- the controller --------------------------------------------------------------------------------------

    def start_controller(self) -> None:
        """Start it and wait until it is ready."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "controller", "run"],
                cwd=ROOT,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        _wait(self._is_ready, "the controller is not ready", log=self._log)

    def stop_controller(self, *, kill: bool = False) -> None:
        """With SIGTERM, or as a crash."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
            self._process.wait(60)
            self._process = None

    def agentdctl(self, *arguments: str, check: bool = True) -> str:
        """Run one command of ours against the controller."""
        done = subprocess.run(
            [sys.executable, "-m", "controller", *arguments],
            cwd=ROOT,
            env=self._environment(),
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"agentdctl {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def why(self, name: str) -> tuple[str, str]:
        """The sentence and the outlook."""
        told = self._get(f"/v1/sessions/{name}/why")
        return told["sentence"], told["outlook"]

    def timeline(self, name: str) -> str:
        """Its journal as people see it, and what the engine says of the container: for complaints."""
        engine = self.engine.cli("inspect", "--format", "{{json .State}}", name, check=False)
        return f"{self.agentdctl('timeline', name, check=False)}{engine}"

    def sessions(self) -> dict[str, Any]:
        """All sessions by name, as JSON."""
        found: dict[str, Any] = {}
        after = ""
        while True:
            page = self._get(f"/v1/sessions?all=true&limit=200{after}")
            found.update({each["name"]: each for each in page["items"]})
            if not page["next"]:
                return found
            after = f"&after={urllib.parse.quote(page['next'])}"

    def await_phase(self, names: Iterable[str], phase: str, *, timeout_s: float = 60.0) -> None:
        """Until all of them are in that phase."""
        wanted = set(names)

        def reached() -> bool:
            found = self.sessions()
            return all(name in found and found[name]["phase"] == phase for name in wanted)

        _wait(reached, f"{sorted(wanted)} are not all {phase}", log=self._log, timeout_s=timeout_s)

    def await_ends(self, names: Iterable[str], *, timeout_s: float = 75.0) -> dict[str, Told]:
        """What is said of each once all have ended and were looked at. Those that never end are left out."""
        wanted = set(names)

        def all_ended() -> bool:
            found = self.sessions()
            return all(name in found and found[name]["phase"] in ENDED for name in wanted)

        with contextlib.suppress(TimeoutError):
            _wait(all_ended, "", log=self._log, timeout_s=timeout_s)
        time.sleep(SETTLE_S)
        return {name: _told(each) for name, each in self.sessions().items() if name in wanted and _has_end(each)}

    # --- what is on the bench --------------------------------------------------------------------------------

    def fresh_name(self) -> str:
        """A name that was not used before."""
        return f"case-{next(self._numbers)}"

    def watch(self, name: str, script: str, *options: str, check: bool = True) -> None:
        """Run an external container that asks to be watched."""
        self.watch_command(name, "/bin/sh", *options, arguments=("-c", script), check=check)

    def watch_command(
        self, name: str, command: str, *options: str, arguments: tuple[str, ...] = (), check: bool = True
    ) -> None:
        """The same, with a command of any kind."""
        labels = ("--label", "agentd.watch=true", "--label", f"agentd.session={name}")
        run = ("run", "-d", "--name", name, *labels, *options, BUSYBOX_IMAGE, command, *arguments)
        self.engine.cli(*run, check=check)

    def create(self, name: str, script: str, *options: str, image: str = BUSYBOX_IMAGE, check: bool = True) -> None:
        """A session of ours."""
        self.agentdctl("create", name, "--image", image, *options, "--", "/bin/sh", "-c", script, check=check)

    def kill_on_host(self, name: str) -> None:
        """`kill -9` from outside the engine."""
        os.kill(int(self.engine.cli("inspect", "--format", "{{.State.Pid}}", name)), signal.SIGKILL)

    def fill_ring(self) -> None:
        """Push everything before out of the engine's memory of events."""
        holder = self.engine.cli("create", "--name", "ring", BUSYBOX_IMAGE, "/bin/true")
        for number in range(RING_EVENTS + 4):
            client = http.client.HTTPConnection("engine")
            client.sock = socket.socket(socket.AF_UNIX)
            client.sock.connect(str(self.engine.socket))
            with contextlib.closing(client):
                client.request("POST", f"/containers/{holder}/rename?name=ring{number}")
                assert client.getresponse().status == 204
        self.engine.cli("rm", holder)

    def tidy(self) -> None:
        """Remove every container, so that cases do not crowd each other."""
        self.engine.remove_all()

    # --- inside ----------------------------------------------------------------------------------------------

    def _environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("DOCKER_", "AGENTD_"))}
        return kept | {
            "DOCKER_HOST": self.engine.url,
            "AGENTD_DB": str(self.engine.folder / "controller.db"),
            "AGENTD_PORT": str(self.port),
            "AGENTD_URL": f"http://127.0.0.1:{self.port}",
            "AGENTD_LOG_FORMAT": "json",
            "AGENTD_STOP_GRACE_S": "1",
        }

    def _is_ready(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"the controller is gone:\n{_tail(self._log)}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=20) as answer:
            return json.load(answer)


def _has_end(session: dict[str, Any]) -> bool:
    return session["phase"] in ENDED


def _told(session: dict[str, Any]) -> Told:
    end = session["exit"]
    if end is None:
        refused = session["reason"] == Reason.START_FAILED
        verdict = Verdict.START_FAILED if refused else Verdict.UNKNOWN
        end = {"verdict": verdict, "confidence": Confidence.UNKNOWN, "evidence": [session["message"]]}
    return Told(
        phase=session["phase"],
        reason=session["reason"],
        verdict=Verdict(end["verdict"]),
        confidence=Confidence(end["confidence"]),
        evidence=tuple(end["evidence"]),
    )


def _wait(reached: Callable[[], bool], complaint: str, *, log: Path, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not reached():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{complaint}:\n{_tail(log)}")
        time.sleep(0.1)


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-20:]) if log.exists() else ""


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
