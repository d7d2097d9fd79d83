"""What can befall a daemon short of its own death: a dead containerd, a frozen process, a socket that is gone."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from tests.support.private_engine import PrivateEngine


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


def kill_containerd(engine: PrivateEngine) -> int:
    """SIGKILL to the daemon's own containerd, which the daemon starts again by itself. Gives the pid that was."""
    pid = int((engine.folder / "exec/containerd/containerd.pid").read_text())
    assert str(engine.folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    os.kill(pid, signal.SIGKILL)
    return pid
