"""What can befall a daemon short of its own death: a dead containerd, a frozen process, a socket that is gone."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.support.controller_process import until
from tests.support.private_engine import BUSYBOX_IMAGE, PrivateEngine
from tests.support.stream_oracle import inspect_all

_FRESH_S: Final = 2.0
"""What is younger may belong to a start that is under way."""


@contextlib.contextmanager
def frozen(engine: PrivateEngine) -> Iterator[None]:
    """The daemon is stopped by SIGSTOP: it accepts connections and answers nothing."""
    pid = engine.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def without_socket(engine: PrivateEngine) -> Iterator[None]:
    """The socket's file is away; open connections live on."""
    away = engine.socket.with_suffix(".away")
    engine.socket.rename(away)
    try:
        yield
    finally:
        away.rename(engine.socket)


def kill_containerd(engine: PrivateEngine) -> None:
    """SIGKILL to the daemon's own containerd, which it starts again by itself; returns when it hears of ends again.

    What ends before that stays `running` for ever, or is found to be over without an event (engine-facts.md).
    """
    was = _containerd(engine)
    assert str(engine.folder).encode() in Path(f"/proc/{was}/cmdline").read_bytes()
    os.kill(was, signal.SIGKILL)
    until(lambda: _containerd(engine) not in (0, was), what="the daemon has a containerd again", timeout_s=30)
    until(lambda: _hears_ends(engine), what="the daemon hears of ends again", timeout_s=60)


def _containerd(engine: PrivateEngine) -> int:
    with contextlib.suppress(OSError, ValueError):
        return int((engine.folder / "exec/containerd/containerd.pid").read_text())
    return 0


def _hears_ends(engine: PrivateEngine) -> bool:
    """Whether the daemon starts a container and learns that it has ended, tried with one that nobody watches."""
    with contextlib.suppress(subprocess.TimeoutExpired, RuntimeError):
        probe = engine.cli("create", BUSYBOX_IMAGE, "true", timeout_s=10)
        engine.cli("start", probe, timeout_s=10)
        return engine.cli("wait", probe, timeout_s=2) == "0"
    return False


def end_ghosts(engine: PrivateEngine) -> int:
    """End what runs of containers that the engine believes to be over; gives how many there were.

    A daemon that is killed in the middle of a start may forget the process that it had just made, and then refuses
    every further start (`already exists`) until somebody ends it: no API can.
    """
    suspects = _shims_of_the_dead(engine)
    # What the controller is just starting has a process before it is said to run.
    time.sleep(1.0)
    ghosts = suspects & _shims_of_the_dead(engine)
    for shim in ghosts:
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{shim}/task/{shim}/children").read_text().split()
            for pid in (*map(int, children), shim):
                os.kill(pid, signal.SIGKILL)
    return len(ghosts) + _clear_tasks(engine)


def _clear_tasks(engine: PrivateEngine) -> int:
    """Folders that a killed containerd left: until a reboot empties them no start passes (`already exists`)."""
    folders = [
        engine.folder / "exec/containerd/daemon/io.containerd.runtime.v2.task/moby",
        engine.folder / "exec/runtime-runc/moby",
    ]
    over = {each for each, told in inspect_all(engine).items() if not told["State"]["Running"]}
    places = [folder / each for folder in folders for each in over]
    left = [place for place in places if place.is_dir() and _age_s(place) > _FRESH_S]
    for place in left:
        shutil.rmtree(place, ignore_errors=True)
    return len(left)


def _shims_of_the_dead(engine: PrivateEngine) -> set[int]:
    over = {each for each, told in inspect_all(engine).items() if not told["State"]["Running"]}
    found: set[int] = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if "containerd-shim" in words[0] and over.intersection(words):
                found.add(int(folder.name))
    return found


def _age_s(path: Path) -> float:
    return (time.time_ns() - path.stat().st_mtime_ns) / 1e9
