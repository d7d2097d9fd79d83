"""The loop that everything in this folder stands on."""

import asyncio
import os
import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import aiosqlite
import anyio
import anyio.lowlevel
import pytest

from tests.simulation.loop import SimulatedLoop, Stalled, live
from tests.simulation.sqlite import Disk, connector
from tests.simulation.timeline import Timeline


def new_loop(seed: str = "1", timeline: Timeline | None = None) -> SimulatedLoop:
    return SimulatedLoop(timeline or Timeline(), seed=seed)


def test_an_hour_passes_at_once() -> None:
    timeline, said = Timeline(), []

    async def main() -> None:
        with anyio.move_on_after(3600):
            await anyio.sleep_forever()
        said.append(anyio.current_time())

    assert not live(new_loop(timeline=timeline), main)
    assert said == [3600.0]
    assert timeline.now == 3600.0


def test_the_world_goes_on_between_two_steps_of_a_task() -> None:
    timeline, said = Timeline(), []
    timeline.at(1.0, lambda: said.append("world"))

    async def main() -> None:
        await anyio.sleep(0.5)
        said.append("early")
        await anyio.sleep(1)
        said.append("late")

    live(new_loop(timeline=timeline), main)
    assert said == ["early", "world", "late"]


def test_nothing_to_wait_for_is_called_a_deadlock() -> None:
    with pytest.raises(Stalled, match="deadlock"):
        live(new_loop(), _wait_for_nothing)


async def _wait_for_nothing() -> None:
    await anyio.Event().wait()


def _order(seed: str) -> tuple[list[int], int]:
    said: list[int] = []

    async def worker(number: int) -> None:
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
            said.append(number)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            for number in range(5):
                tasks.start_soon(worker, number)

    loop = new_loop(seed)
    live(loop, main)
    return said, loop.digest


def test_the_seed_decides_the_order_of_tasks_and_nothing_else_does() -> None:
    assert _order("1") == _order("1")
    assert len({tuple(_order(str(seed))[0]) for seed in range(20)}) > 10


_PROGRAM = """
import anyio
from tests.simulation.loop import SimulatedLoop, live
from tests.simulation.timeline import Timeline
said = []
async def sleeper(number):
    try:
        await anyio.sleep_forever()
    finally:
        said.append(number)
async def main():
    async with anyio.create_task_group() as tasks:
        for number in range(9):
            tasks.start_soon(sleeper, number)
        await anyio.sleep(1)
        tasks.cancel_scope.cancel()
loop = SimulatedLoop(Timeline(), seed="7")
live(loop, main)
print(loop.digest, said)
"""


def test_two_processes_with_other_hash_seeds_agree() -> None:
    said = {
        subprocess.run(
            [sys.executable, "-c", _PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(said) == 1


def test_a_kill_comes_between_two_steps_and_is_seen_by_no_task() -> None:
    seen: list[str] = []

    async def main() -> None:
        try:
            while True:
                await anyio.sleep(1)
                seen.append("step")
        except BaseException as error:
            if not isinstance(error, GeneratorExit):
                seen.append(repr(error))
            raise

    loop = new_loop()
    loop.crash_at = 10
    assert live(loop, main)
    assert set(seen) == {"step"}


def test_threads_are_not_needed_for_an_executor() -> None:
    async def main() -> None:
        assert await asyncio.get_running_loop().run_in_executor(None, lambda: 3) == 3

    assert not live(new_loop(), main)


# --- SQLite ----------------------------------------------------------------------------------------------------


def disk() -> Disk:
    return Disk(rng=random.Random(1))


def rows(path: Path) -> list[int]:
    connection = sqlite3.connect(path)
    try:
        return [number for (number,) in connection.execute("SELECT n FROM t ORDER BY n")]
    finally:
        connection.close()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE t (n INTEGER)")
    connection.close()
    return path


def test_a_slow_disk_costs_virtual_time_only(database: Path) -> None:
    slow = disk()
    slow.latency_s = 100.0

    async def main() -> None:
        async with connector(slow)(database, isolation_level=None) as connection:
            await connection.execute("INSERT INTO t VALUES (1)")

    timeline = Timeline()
    live(new_loop(timeline=timeline), main)
    assert timeline.now > 10
    assert rows(database) == [1]


def test_what_was_not_committed_when_the_process_died_is_gone(database: Path) -> None:
    loop = new_loop()

    async def main() -> None:
        async with connector(disk())(database, isolation_level=None) as connection:
            await connection.execute("INSERT INTO t VALUES (1)")
            await connection.execute("BEGIN")
            await connection.execute("INSERT INTO t VALUES (2)")
            loop.crash()
            await connection.execute("COMMIT")

    assert live(loop, main)
    assert rows(database) == [1]


def test_a_failing_disk_raises_what_sqlite_raises(database: Path) -> None:
    broken = disk()
    broken.fault_probability = 1.0

    async def main() -> None:
        async with connector(broken)(database, isolation_level=None) as connection:
            with pytest.raises(aiosqlite.OperationalError):
                await connection.execute("INSERT INTO t VALUES (1)")

    live(new_loop(), main)
    assert rows(database) == []
