"""One engine on which causes happen, and several controllers that learn of them in different ways.

Every controller watches the same external containers, so that each cause happens once and is told as many times as
there are ways to miss it. A container waits at a fifo of its own and goes on when it is released: nothing sleeps.
"""

import contextlib
import errno
import http.client
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.support.controller_process import ControllerProcess, until
from tests.support.private_engine import BUSYBOX_IMAGE, PrivateEngine

RING_EVENTS: Final = 256
"""What an engine remembers of its events, of every kind together."""
WATCHED: Final = ("--label", "agentd.watch=true", "--network", "none")
"""No network: it starts faster, and no event of a network takes room in the engine's memory."""
_PARALLEL: Final = 4


class Stage:
    """The engine's side: containers, their releases, and what the engine says of them."""

    def __init__(self, engine: PrivateEngine) -> None:
        self.engine = engine
        self.gates = engine.folder / "gates"
        self.gates.mkdir(exist_ok=True)

    def docker(self, *arguments: str, check: bool = True) -> str:
        """One docker command against it."""
        return self.engine.cli(*arguments, check=check)

    def gate(self, name: str) -> Path:
        """The fifo at which a container of that name waits; inside it is /gates/NAME."""
        path = self.gates / name
        if not path.exists():
            os.mkfifo(path)
        return path

    def watch(self, name: str, script: str, *options: str, command: tuple[str, ...] = (), check: bool = True) -> None:
        """Run a container that asks to be watched."""
        self.gate(name)
        words = command or ("/bin/sh", "-c", script)
        self.docker("run", "-d", "--name", name, *self._options(name), *options, BUSYBOX_IMAGE, *words, check=check)

    def create(self, name: str, *options: str, command: tuple[str, ...]) -> None:
        """The same, only created."""
        self.docker("create", "--name", name, *self._options(name), *options, BUSYBOX_IMAGE, *command)

    def release(self, *names: str) -> None:
        """Let them go on, once each waits."""
        for name in names:
            self._write(self.gate(name))

    def await_state(self, name: str, wanted: str) -> None:
        """Until the engine says so: its RestartCount, a blank, and its word for the state."""
        template = "{{.RestartCount}} {{.State.Status}}"
        until(
            lambda: self.docker("inspect", "--format", template, name) == wanted,
            what=f"the engine says {wanted} of {name}",
        )

    def in_parallel(self, deeds: list[Callable[[], object]]) -> None:
        """Do all of them, a few at a time; the first failure is raised."""
        with ThreadPoolExecutor(_PARALLEL) as threads:
            for done in [threads.submit(deed) for deed in deeds]:
                done.result()

    def forget_events(self) -> None:
        """Push everything before out of the engine's memory of events."""
        holder = self.docker("create", "--name", "ring", BUSYBOX_IMAGE, "/bin/true")
        client = http.client.HTTPConnection("engine")
        client.sock = socket.socket(socket.AF_UNIX)
        client.sock.connect(str(self.engine.socket))
        with contextlib.closing(client):
            for number in range(RING_EVENTS + 4):
                client.request("POST", f"/containers/{holder}/rename?name=ring{number}")
                assert client.getresponse().read() == b""
        self.docker("rm", holder)

    def _options(self, name: str) -> tuple[str, ...]:
        return (*WATCHED, "-v", f"{self.gates}:/gates", "-e", f"GATE={name}")

    def _write(self, gate: Path) -> None:
        def opened() -> int:
            try:
                return os.open(gate, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                return 0

        writer = until(opened, what=f"somebody waits at {gate.name}")
        try:
            os.write(writer, b"go\n")
        finally:
            os.close(writer)


def shows(controller: ControllerProcess, names: list[str], phase: str) -> None:
    """Wait until that controller says that all of them are in that phase."""

    def missing() -> list[str]:
        found = controller.sessions()
        return [name for name in names if name not in found or found[name]["phase"] != phase]

    last: list[list[str]] = [names]

    def none_missing() -> bool:
        last[0] = missing()
        return not last[0]

    try:
        until(none_missing, what=f"all are {phase}", timeout_s=40)
    except AssertionError as error:
        raise AssertionError(f"{error}: {last[0]}\n{controller.log_tail()}") from None
