"""A controller killed at any moment loses no commit that it was told of, and the next one carries on."""

import multiprocessing
import shutil
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

import anyio
import pytest

from tests.store.writer import committed, write

LIVES = 60
forkserver = multiprocessing.get_context("forkserver")
forkserver.set_forkserver_preload(["__main__", "tests.store.writer"])


def live_until_killed(path: Path, acks: Connection) -> None:
    anyio.run(write, path, 1_000_000, acks.send)


def live_and_die(path: Path, acks_wanted: int) -> int:
    """One life, killed once it has acknowledged that many commits; the last that it acknowledged."""
    receiving, sending = forkserver.Pipe(duplex=False)
    process = forkserver.Process(target=live_until_killed, args=(path, sending))
    process.start()
    sending.close()
    last = 0
    for _ in range(acks_wanted):
        last = receiving.recv()
    process.kill()
    process.join()
    try:
        while True:
            last = receiving.recv()
    except (EOFError, OSError):
        return last
    finally:
        receiving.close()
        process.close()


def test_sixty_kills_lose_nothing(path: Path) -> None:
    rng = Random(1)
    before = 0
    for _ in range(LIVES):
        acknowledged = live_and_die(path, rng.randint(1, 12))
        there = committed(path)
        assert before < acknowledged <= there <= acknowledged + 1
        before = there


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize(
    ("call", "occurrence"),
    [("fdatasync", 2), ("fdatasync", 9), ("fdatasync", 30), ("pwrite64", 200), ("pwrite64", 777)],
)
def test_a_kill_within_a_write_or_sync_loses_nothing(path: Path, call: str, occurrence: int) -> None:
    path.parent.mkdir()
    inject = f"inject={call}:signal=SIGKILL:when={occurrence}"
    ended = subprocess.run(
        [
            *("strace", "-f", "-qqq", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject),
            *(sys.executable, "-m", "tests.store.writer", str(path), "60"),
        ],
        capture_output=True,
        check=False,
    )
    acknowledged = ended.stdout.count(b"ACK ")
    assert ended.returncode != 0
    assert acknowledged < 60
    assert acknowledged <= committed(path) <= acknowledged + 1
    live_and_die(path, 3)
    assert committed(path) >= acknowledged + 3
