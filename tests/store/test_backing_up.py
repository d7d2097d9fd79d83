"""A copy is consistent whatever is being written, and never overwrites anything."""

from pathlib import Path

import anyio
import pytest

from controller.errors import LedgerError
from controller.store.committer import SqliteLedger
from controller.store.ledger import open_ledger, open_readonly
from tests.store.records import ManualClock, SeededRng
from tests.store.writer import batch, committed


async def test_copies_made_while_commits_go_on_are_whole(ledger: SqliteLedger, path: Path, tmp_path: Path) -> None:
    copies = [tmp_path / f"copy-{number}.db" for number in range(5)]
    held: list[int] = []

    async def copy_all() -> None:
        for copy in copies:
            await ledger.backup(str(copy))
            held.append(committed(copy))
        tasks.cancel_scope.cancel()

    done = 0
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(copy_all)
        while not tasks.cancel_scope.cancel_called:
            await ledger.commit(batch(done + 1))
            done += 1
    assert held == sorted(held)
    assert len(held) == 5
    assert committed(path) == done >= held[-1]


async def test_a_copy_is_a_ledger_that_can_take_over(ledger: SqliteLedger, tmp_path: Path) -> None:
    await ledger.commit(batch(1))
    copy = tmp_path / "copy.db"
    await ledger.backup(str(copy))
    assert oct(copy.stat().st_mode & 0o777) == "0o600"
    async with open_ledger(copy, clock=ManualClock(), rng=SeededRng()) as other:
        assert await other.meta() == await ledger.meta()
        await other.commit(batch(2))
    assert committed(copy) == 2


async def test_a_copy_is_made_without_a_controller_too(path: Path, tmp_path: Path) -> None:
    async with open_ledger(path, clock=ManualClock(), rng=SeededRng()) as ledger:
        await ledger.commit(batch(1))
    async with open_readonly(path) as reader:
        await reader.backup(str(tmp_path / "copy.db"))
    assert committed(tmp_path / "copy.db") == 1


async def test_a_path_that_exists_is_refused_and_kept(ledger: SqliteLedger, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("precious")
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "elsewhere")
    for there in (taken, dangling):
        with pytest.raises(LedgerError, match="File exists; nothing was written"):
            await ledger.backup(str(there))
    assert taken.read_text() == "precious"
    assert not (tmp_path / "elsewhere").exists()


async def test_a_folder_that_is_not_there_is_named(ledger: SqliteLedger, tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="No such file or directory"):
        await ledger.backup(str(tmp_path / "nowhere" / "copy.db"))
