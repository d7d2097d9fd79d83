"""A file that cannot be used is refused in one line, and left as it is."""

# ruff: noqa: ASYNC220, ASYNC221, ASYNC240  nothing else waits for this loop while a test looks at its files

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from controller.errors import LedgerBusy, LedgerError
from controller.interfaces import Batch
from controller.store.ledger import open_ledger, open_readonly
from controller.store.lock import held
from controller.store.schema import VERSION
from tests.store.records import START, ManualClock, SeededRng, session

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system: root only")


async def refused(path: Path) -> str:
    """What opening says; it must be one line that names the file."""
    with pytest.raises(LedgerError) as raised:
        async with open_ledger(path, clock=ManualClock(), rng=SeededRng()):
            pass
    words = str(raised.value)
    assert str(path) in words
    assert "\n" not in words
    return words


async def made(path: Path) -> None:
    """A ledger with something in it."""
    async with open_ledger(path, clock=ManualClock(), rng=SeededRng()) as ledger:
        await ledger.commit(Batch(sessions=[session()]))


async def test_a_new_ledger_is_private(path: Path) -> None:
    async with open_ledger(path, clock=ManualClock(), rng=SeededRng()) as ledger:
        await ledger.commit(Batch(sessions=[session()]))
        modes = {file.name: oct(file.stat().st_mode & 0o777) for file in path.parent.iterdir()}
    assert oct(path.parent.stat().st_mode & 0o777) == "0o700"
    assert set(modes) == {path.name + end for end in ("", "-wal", "-shm", ".lock")}
    assert set(modes.values()) == {"0o600"}


async def test_an_orderly_end_leaves_one_file_and_its_lock(path: Path) -> None:
    await made(path)
    assert {file.name for file in path.parent.iterdir()} == {path.name, f"{path.name}.lock"}


async def test_a_path_with_odd_signs_is_that_path(tmp_path: Path) -> None:
    odd = tmp_path / "a?mode=memory&b#c%41 ä" / "x.db"
    await made(odd)
    async with open_readonly(odd) as reader:
        assert await reader.sessions() == [session()]


async def test_a_link_to_a_ledger_is_no_way_round_its_lock(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(path)
    async with open_ledger(path, clock=ManualClock(), rng=SeededRng()):
        with pytest.raises(LedgerBusy):
            async with open_ledger(link, clock=ManualClock(), rng=SeededRng()):
                pass


async def test_a_lock_that_is_a_link_is_refused_and_what_it_leads_to_is_left(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("precious")
    path.parent.mkdir(exist_ok=True)
    Path(f"{path}.lock").symlink_to(other)
    assert "cannot be locked" in await refused(path)
    assert other.read_text() == "precious"


async def test_a_folder_is_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="no such file"):
        async with open_readonly(tmp_path):
            pass


async def test_a_second_controller_is_told_who_holds_the_ledger(path: Path) -> None:
    async with open_ledger(path, clock=ManualClock(), rng=SeededRng()):
        with pytest.raises(LedgerBusy) as raised:
            async with open_ledger(path, clock=ManualClock(), rng=SeededRng()):
                pass
    assert str(raised.value) == (
        f"ledger {path} is held by another controller: "
        f"host {os.uname().nodename}, pid {os.getpid()}, since 2026-05-28T20:26:40.000000000Z"
    )
    await made(path)


async def test_the_lock_of_a_dead_holder_is_free(path: Path) -> None:
    await made(path)
    holder = f"import fcntl, os, signal; f = open({f'{path}.lock'!r}); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", holder + "; signal.pause()"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert "is held by another controller" in await refused(path)
        process.kill()
    await made(path)


async def test_what_a_holder_wrote_cannot_forge_a_line(path: Path) -> None:
    await made(path)
    with held(path, START):
        Path(f"{path}.lock").write_bytes(b"me\nERROR all is lost\x1b[2J\xff")
        assert (await refused(path)).endswith("another controller: me?ERROR all is lost?[2J\ufffd")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: b"\xa5" * len(data), "file is not a database (SQLITE_NOTADB)"),
        (lambda data: data[:100] + bytes(len(data) - 100), "malformed"),
        (lambda data: data[:5000], "malformed"),
        (lambda data: data[:4096] + b"\xa5" * (len(data) - 4096), "damaged"),
        (lambda data: b"not a ledger at all", "file is not a database (SQLITE_NOTADB)"),
    ],
    ids=["overwritten", "zeroed after its header", "cut", "garbage after its first page", "text"],
)
async def test_a_damaged_file_is_refused_and_not_touched(
    path: Path, damage: Callable[[bytes], bytes], words: str
) -> None:
    await made(path)
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    assert words in (said := await refused(path))
    assert "left as it" in said
    assert path.read_bytes() == damaged


async def test_a_newer_file_is_refused_and_not_touched(path: Path) -> None:
    await made(path)
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    before = path.read_bytes()
    assert f"newer program (version {VERSION + 1}, this one knows up to {VERSION})" in await refused(path)
    with pytest.raises(LedgerError, match="newer program"):
        async with open_readonly(path):
            pass
    assert path.read_bytes() == before


async def test_another_programs_database_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "grafana.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE dashboards (id INTEGER)")
    connection.close()
    before = path.read_bytes()
    assert "no ledger of this program" in await refused(path)
    assert path.read_bytes() == before


async def test_a_folder_in_the_files_place_is_refused(tmp_path: Path) -> None:
    assert "Is a directory" in await refused(tmp_path)


async def test_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    assert "folder cannot be made" in await refused(tmp_path / "state" / "deeper" / "controller.db")


@pytest.fixture
def read_only_folder(path: Path) -> Iterator[Path]:
    path.parent.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", path.parent], check=True)
    yield path.parent
    subprocess.run(["umount", "--lazy", path.parent], check=True)


@root_only
async def test_a_read_only_disk_is_refused_for_writing_and_good_for_reading(path: Path, read_only_folder: Path) -> None:
    await made(path)
    subprocess.run(["mount", "-o", "remount,ro", read_only_folder], check=True)
    assert "Read-only file system" in await refused(path)
    async with open_readonly(path) as reader:
        assert await reader.sessions() == [session()]


async def test_reading_a_missing_or_empty_file_is_refused_in_one_line(path: Path) -> None:
    with pytest.raises(LedgerError, match="no such file"):
        async with open_readonly(path):
            pass
    assert not path.parent.exists()
    path.parent.mkdir()
    path.touch()
    with pytest.raises(LedgerError, match="no such file, or an empty one"):
        async with open_readonly(path):
            pass


async def test_an_empty_file_becomes_a_ledger(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    await made(path)
