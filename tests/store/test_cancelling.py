"""A caller that is cancelled waits for its commit: it is whole or it is not there, and nobody else's suffers."""

from pathlib import Path
from random import Random

import anyio
import pytest

from controller.interfaces import JournalFilter
from controller.store.committer import SqliteLedger
from controller.store.ledger import open_ledger
from tests.store.records import ManualClock, SeededRng
from tests.store.writer import batch, committed


async def test_no_moment_of_cancellation_halves_a_commit(ledger: SqliteLedger, path: Path) -> None:
    rng = Random(1)
    done = 0
    for _ in range(300):
        with anyio.move_on_after(rng.random() * 0.003):
            await ledger.commit(batch(done + 1))
        # The commit is shielded: however early the cancellation came, it was written.
        done += 1
    assert committed(path) == done
    assert [row.seq for row in await ledger.journal(JournalFilter(limit=1000))] == list(range(1, 2 * done + 1))


async def test_readers_may_be_cancelled_at_any_moment(ledger: SqliteLedger) -> None:
    await ledger.commit(batch(1))
    rng = Random(2)
    for _ in range(200):
        with anyio.move_on_after(rng.random() * 0.001):
            await ledger.journal(JournalFilter())
    assert len(await ledger.journal(JournalFilter())) == 2


async def test_commits_side_by_side_are_all_there_in_one_order(ledger: SqliteLedger, path: Path) -> None:
    numbers: list[int] = []

    async def one(number: int) -> None:
        numbers.extend(row.seq for row in await ledger.commit(batch(number)))

    async with anyio.create_task_group() as tasks:
        for number in range(1, 41):
            tasks.start_soon(one, number)
    assert sorted(numbers) == list(range(1, 81))
    assert committed(path) == 40


@pytest.mark.parametrize("steps", range(0, 40, 3))
async def test_an_opening_that_is_cancelled_leaves_nothing_locked(path: Path, steps: int) -> None:
    async def open_it() -> None:
        async with open_ledger(path, clock=ManualClock(), rng=SeededRng()):
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(open_it)
        for _ in range(steps):
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    async with open_ledger(path, clock=ManualClock(), rng=SeededRng()) as ledger:
        await ledger.commit(batch(1))
    assert committed(path) == 1
