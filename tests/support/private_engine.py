"""A Docker Engine of the tests' own: in a network namespace of its own, to be filled, stopped and killed at will.

Needs root, dockerd and a static busybox. Also of use to scripts: `with PrivateEngine() as engine: engine.cli("ps")`.
It never touches another engine: every process it ends is one that it started, found by its own folder.
"""

import contextlib
import ctypes
import functools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Self

BUSYBOX_IMAGE = "busybox:test"
READY_TIMEOUT_S = 60.0
"""Without live-restore, a start after a kill takes up to 10 s per container that ignores SIGTERM."""

_TOOLS = ("dockerd", "docker", "unshare", "ip", "busybox")


def missing() -> str:
    """What this machine lacks for a private engine; empty when nothing."""
    if os.geteuid() != 0:
        return "not root"
    return ", ".join(f"{tool} is missing" for tool in _TOOLS if shutil.which(tool) is None)


class PrivateEngine:
    """One dockerd. `start` is fast (0.3 s); `close` ends it and deletes all that it had."""

    def __init__(self, *, live_restore: bool = False) -> None:
        # A unix socket's path holds 107 characters at most, so the folder is short and directly under /tmp.
        self.folder = Path(tempfile.mkdtemp(prefix="eng", dir="/tmp"))
        self.socket = self.folder / "d.sock"
        self.live_restore = live_restore
        self.url = f"unix://{self.socket}"
        self._process: subprocess.Popen[bytes] | None = None
        self._log = self.folder / "dockerd.log"
        self._client_config = self.folder / "client"
        self._client_config.mkdir()

    def __enter__(self) -> Self:
        self.start()
        self.import_busybox()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The dockerd's process id."""
        assert self._process is not None, "the engine is not running"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    # --- the daemon ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it and wait until it answers. After a kill its stale pid files are removed first."""
        assert not self.running, "the engine is running already"
        for stale in (self.folder / "docker.pid", self.folder / "exec/containerd/containerd.pid"):
            stale.unlink(missing_ok=True)
        config = self.folder / "daemon.json"
        config.write_text(json.dumps(self._daemon_config()))
        daemon = (
            f"ip link set lo up; exec dockerd -H {self.url} --config-file {config}"
            f" --data-root {self.folder}/data --exec-root {self.folder}/exec -p {self.folder}/docker.pid"
        )
        with self._log.open("ab") as log:
            # Its own session, so that a Ctrl-C in the terminal does not reach it before us.
            self._process = subprocess.Popen(
                ["unshare", "--net", "sh", "-c", daemon],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.wait_ready()

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Wait until it answers."""
        deadline = time.monotonic() + timeout_s
        while not self._answers():
            if not self.running or time.monotonic() > deadline:
                raise RuntimeError(f"the private engine did not come up:\n{self.log_tail()}")
            time.sleep(0.02)

    def stop(self, timeout_s: float = 60.0) -> None:
        """Stop it in order, as systemd would."""
        if self._process is None:
            return
        if self.running:
            self._process.terminate()
        self._process.wait(timeout_s)
        self._process = None

    def kill(self) -> None:
        """SIGKILL, as a crash. Its containerd is ended too, as it would be by the service's control group."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None
        for pid in _processes_with(str(self.folder / "exec/containerd"), program="containerd"):
            _end(pid)

    def power_off(self) -> None:
        """As when the host loses its power: the daemon, every container's processes and all of `/run`, at one blow.

        Ended one after the other, the last would still clean up, and leave a half of it: what never starts again.
        """
        shims = _processes_with(str(self.folder))
        doomed = {*shims, *_descendants(shims)}
        for pid in doomed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        for pid in doomed:
            _end(pid)
        assert self._process is not None
        self._process.wait()
        self._process = None
        self._unmount()
        shutil.rmtree(self.folder / "exec")

    def restart(self, *, kill: bool = False) -> None:
        """Stop (or kill) and start again."""
        if kill:
            self.kill()
        else:
            self.stop()
        self.start()

    def close(self) -> None:
        """End it, with everything in it, and delete its folder."""
        with contextlib.suppress(subprocess.SubprocessError, AssertionError, OSError):
            if self.running:
                self.remove_all()
                self.stop(timeout_s=20)
        if self._process is not None:
            self.kill()
        # Shims outlive their daemon by design; each names our folder on its command line.
        for pid in _processes_with(str(self.folder)):
            _end(pid)
        self._unmount()
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def network(self) -> Iterator[None]:
        """This thread, and every process and thread it starts meanwhile, is on the engine's host's network."""
        with open("/proc/thread-self/ns/net", "rb") as own:
            with open(f"/proc/{self.pid}/ns/net", "rb") as other:
                _enter_network(other.fileno())
            try:
                yield
            finally:
                _enter_network(own.fileno())

    # --- what is in it ---------------------------------------------------------------------------------------

    def cli(self, *arguments: str, check: bool = True, timeout_s: float = 60.0) -> str:
        """Run one docker command against it; gives its standard output without the last line end."""
        done = subprocess.run(
            ["docker", "--config", str(self._client_config), "-H", self.url, *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env={key: value for key, value in os.environ.items() if not key.startswith("DOCKER_")},
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"docker {' '.join(arguments)[:300]}: {done.stderr.strip()}")
        return done.stdout.rstrip("\n")

    def run(self, *arguments: str, image: str = BUSYBOX_IMAGE) -> str:
        """`docker run -d OPTIONS`; what comes after a `--` is the command. Gives the container's id."""
        cut = arguments.index("--") if "--" in arguments else len(arguments)
        options, command = arguments[:cut], arguments[cut + 1 :]
        return self.cli("run", "-d", *options, image, *command)

    def import_busybox(self, name: str = BUSYBOX_IMAGE) -> None:
        """An image with the machine's own static busybox and its links; nothing is pulled."""
        if self.cli("images", "-q", name):
            return
        shape = ("--change", 'CMD ["/bin/sh"]', "--change", "ENV PATH=/bin")
        subprocess.run(
            ["docker", "--config", str(self._client_config), "-H", self.url, "import", *shape, "-", name],
            check=True,
            input=_busybox_tar(),
            capture_output=True,
            timeout=60,
        )

    def remove_all(self) -> None:
        """Remove every container, and every network and volume of a user's."""
        containers = self.cli("ps", "-aq", "--no-trunc").split()
        if containers:
            self.cli("rm", "-f", "-v", *containers, check=False)
        networks = self.cli("network", "ls", "-q", "--filter", "type=custom").split()
        if networks:
            self.cli("network", "rm", *networks, check=False)
        volumes = self.cli("volume", "ls", "-q").split()
        if volumes:
            self.cli("volume", "rm", "-f", *volumes, check=False)

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of the daemon's own log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:]) if self._log.exists() else ""

    # --- inside ----------------------------------------------------------------------------------------------

    def _daemon_config(self) -> dict[str, object]:
        config: dict[str, object] = {"live-restore": self.live_restore, "shutdown-timeout": 5}
        if _dockerd_major() < 23:
            # Older ones read their id from a key in /etc/docker: two on one machine would be the same engine.
            config["deprecated-key-path"] = str(self.folder / "key.json")
        return config

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            try:
                client.connect(str(self.socket))
                client.sendall(b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n")
                return b" 200 " in client.recv(256)
            except OSError:
                return False

    def _unmount(self) -> None:
        mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for path in sorted((path for path in mounted if path.startswith(f"{self.folder}/")), reverse=True):
            subprocess.run(["umount", "-l", path], check=False, capture_output=True)


def _enter_network(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.setns(namespace, 0) == 0, os.strerror(ctypes.get_errno())


@functools.cache
def _dockerd_major() -> int:
    told = subprocess.run(["dockerd", "--version"], check=True, capture_output=True, text=True).stdout
    found = re.search(r"version (\d+)\.", told)
    return int(found[1]) if found else 0


def _processes_with(text: str, *, program: str = "") -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if any(text in word for word in words[1:]) and (not program or Path(words[0]).name == program):
            found.append(int(folder.name))
    return [pid for pid in found if pid != os.getpid()]


def _descendants(ancestors: list[int]) -> list[int]:
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(folder.name))
    found, left = [], list(ancestors)
    while left:
        young = children.get(left.pop(), [])
        found += young
        left += young
    return found


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}/exe").exists() and time.monotonic() < deadline:
        time.sleep(0.01)


def _busybox_tar() -> bytes:
    busybox = shutil.which("busybox")
    assert busybox is not None
    names = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split()
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(busybox, arcname="bin/busybox")
        for name in names:
            if name != "busybox":
                link = tarfile.TarInfo(f"bin/{name}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(link)
        for folder, mode in (("tmp", 0o1777), ("etc", 0o755), ("root", 0o700)):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
        for path, text in (("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n"), ("etc/group", b"root:x:0:\n")):
            entry = tarfile.TarInfo(path)
            entry.size = len(text)
            tar.addfile(entry, BytesIO(text))
    return buffer.getvalue()
