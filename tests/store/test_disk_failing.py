"""A disk that is full or broken costs the commit it hits, whole; nothing that was acknowledged."""

# ruff: noqa: ASYNC221  nothing else waits for this loop while a test changes its disk

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.errors import LedgerError
from controller.store.committer import SqliteLedger
from controller.store.ledger import open_ledger
from tests.store.records import ManualClock, SeededRng
from tests.store.writer import batch, committed

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")


@pytest.fixture
def small_disk(path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("mounts a file system: root only")
    path.parent.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1200k", "tmpfs", path.parent], check=True)
    yield path.parent
    subprocess.run(["umount", "--lazy", path.parent], check=True)


async def fill(ledger: SqliteLedger) -> tuple[int, str]:
    """Commit until the ledger refuses: how many it took, and what it said."""
    for number in range(10_000):
        try:
            await ledger.commit(batch(number + 1))
        except LedgerError as error:
            return number, str(error)
    raise AssertionError("the disk never filled")


async def test_a_full_disk_refuses_in_one_line_and_commits_go_on_once_there_is_room(
    path: Path, small_disk: Path
) -> None:
    async with open_ledger(path, clock=ManualClock(), rng=SeededRng()) as ledger:
        number, said = await fill(ledger)
        assert "make room on its disk" in said
        assert "\n" not in said
        assert number > 3
        assert (await ledger.meta()).published == number
        for _ in range(3):
            with pytest.raises(LedgerError):
                await ledger.commit(batch(number + 1))
        subprocess.run(["mount", "-o", "remount,size=16m", small_disk], check=True)
        rows = await ledger.commit(batch(number + 1))
        assert [row.seq for row in rows] == [2 * number + 1, 2 * number + 2]
    assert committed(path) == number + 1


async def test_a_start_on_a_full_disk_is_refused_in_one_line(path: Path, small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(bytes(1200 * 1024 - 8192))
    with pytest.raises(LedgerError) as refused:
        async with open_ledger(path, clock=ManualClock(), rng=SeededRng()):
            pass
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
    (small_disk / "ballast").unlink()
    async with open_ledger(path, clock=ManualClock(), rng=SeededRng()) as ledger:
        await ledger.commit(batch(1))
    assert committed(path) == 1


def write_under(path: Path, *inject: str) -> tuple[int, str]:
    """Run the writer while system calls fail; how many commits it acknowledged, and what it said at its end."""
    path.parent.mkdir(exist_ok=True)
    calls = ",".join({rule.partition(":")[0] for rule in inject})
    rules = [part for rule in inject for part in ("-e", f"inject={rule}")]
    ended = subprocess.run(
        [
            *("strace", "-f", "-qqq", "-o", "/dev/null", "-e", f"trace={calls}", *rules),
            *(sys.executable, "-m", "tests.store.writer", str(path), "60"),
        ],
        capture_output=True,
        check=False,
        text=True,
    )
    assert "Traceback" not in ended.stderr
    return ended.stdout.count("ACK "), ended.stderr


@needs_strace
@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("fdatasync:error=EIO:when=12", "SQLITE_IOERR_FSYNC"),
        ("pwrite64:error=EIO:when=400..460", "SQLITE_IOERR_WRITE"),
        ("pwrite64:error=ENOSPC:when=400..500", "make room on its disk"),
    ],
)
def test_a_failing_call_ends_the_writer_in_one_line(path: Path, rule: str, words: str) -> None:
    acknowledged, said = write_under(path, rule)
    assert said.startswith("REFUSED ledger ")
    assert said.count("\n") == 1
    assert words in said
    assert acknowledged <= committed(path) <= acknowledged + 1
    assert write_under(path, "unlink:error=ENOENT:when=9999")[1] == ""
    assert committed(path) == 60


@pytest.mark.parametrize("limit_bytes", [150_000, 400_000])
def test_a_limit_on_file_size_ends_the_writer_in_one_line(path: Path, limit_bytes: int) -> None:
    path.parent.mkdir()
    program = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit_bytes}, {limit_bytes})); "
        "from tests.store.writer import main; sys.exit(main())"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(path), "200"], capture_output=True, check=False, text=True
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("REFUSED ledger ")
    assert ended.stderr.count("\n") == 1
    assert committed(path) == ended.stdout.count("ACK ")
