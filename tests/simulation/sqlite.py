"""aiosqlite in virtual time: real SQLite, real SQL, a real file; latency and failures as wanted.

aiosqlite hands each call to a thread of its own through a queue. Here the queue runs the call inside the loop at a
later virtual time, in the same order. SQLite's own busy wait would sleep in real time, so it is switched off.
"""

import asyncio
import random
import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiosqlite
from aiosqlite import core as aiosqlite_core

from tests.simulation.loop import SimulatedLoop

Call = tuple["asyncio.Future[Any] | None", Callable[[], Any]]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What SQLite says when a call fails."""

    text: str
    name: str
    is_done: bool = False
    """Of a commit only: it is in the file, and making it durable failed. All others fail before they do anything."""

    def error(self) -> sqlite3.OperationalError:
        """As SQLite raises it."""
        error = sqlite3.OperationalError(self.text)
        error.sqlite_errorname = self.name
        return error


IO_ERROR: Final = Failure(text="disk I/O error", name="SQLITE_IOERR_WRITE")
FULL: Final = Failure(text="database or disk is full", name="SQLITE_FULL")
FAILURES: Final = (
    IO_ERROR,
    FULL,
    Failure(text="database is locked", name="SQLITE_BUSY"),
    Failure(text="disk I/O error", name="SQLITE_IOERR_FSYNC", is_done=True),
)


@dataclass(kw_only=True)
class Disk:
    """How the disk under the ledger behaves. One for all lives of a world."""

    rng: random.Random
    latency_s: float = 0.0005
    """Mean time of one call."""
    stall_s: float = 0.0
    stall_probability: float = 0.0
    fault_probability: float = 0.0
    full: bool = False
    fail_call: int | None = None
    """The number of the one call that fails: for the complete runs."""
    fail_with: Failure = IO_ERROR
    calls: int = 0
    commits: int = 0
    writes: int = 0
    """Calls that may have changed the file, whatever came of them."""
    failures: Counter[str] = field(default_factory=Counter)
    """By SQLite's name of each."""
    connections: list[Any] = field(default_factory=list)
    """Those that the present life has asked for, open or not."""
    left_open: int = 0
    """Those that the latest life had not closed when it ended, however it ended."""
    before_commit: Callable[[], None] = field(default=lambda: None)
    after_commit: Callable[[], None] = field(default=lambda: None)

    def open_count(self) -> int:
        """Connections that are open now: each is a file descriptor or two."""
        return sum(one._connection is not None for one in self.connections)

    def wait(self) -> float:
        """Seconds that the next call takes."""
        stalled = self.stall_probability and self.rng.random() < self.stall_probability
        return self.rng.expovariate(1 / self.latency_s) + (self.rng.uniform(0, self.stall_s) if stalled else 0.0)

    def fault(self, statement: str) -> Failure | None:
        """What goes wrong with this call, if anything. Closing and rolling back may fail too."""
        self.calls += 1
        failure = None
        if self.calls == self.fail_call:
            failure = self.fail_with
        elif self.full and _commits(statement):
            failure = FULL
        elif self.fault_probability and self.rng.random() < self.fault_probability:
            failure = self.rng.choice(FAILURES)
        if failure is not None:
            self.failures[failure.name] += 1
        return failure


class _QueueInTheLoop:
    """Stands where aiosqlite has its queue and its thread; first in, first out, like the thread."""

    def __init__(self, loop: SimulatedLoop, disk: Disk) -> None:
        self._loop = loop
        self._disk = disk
        self._free_at = 0.0

    def put_nowait(self, call: Call) -> None:
        if self._loop.dead:
            return
        self._free_at = max(self._loop.time(), self._free_at) + self._disk.wait()
        self._loop.call_at(self._free_at, self._run, call)

    def _run(self, call: Call) -> None:
        future, function = call
        statement = _statement(function)
        committing = _commits(statement)
        try:
            if committing:
                self._disk.before_commit()
                if self._loop.crashing:
                    return
            failure = self._disk.fault(statement) if future is not None and statement else None
            if failure is not None and not (failure.is_done and committing):
                raise failure.error()
            self._disk.writes += committing or not statement
            result = function()
            if committing:
                self._disk.commits += 1
                self._disk.after_commit()
            if failure is not None:
                raise failure.error()
        except BaseException as error:  # noqa: BLE001  as aiosqlite's own thread does
            if future is not None:
                aiosqlite_core.set_exception(future, error)
        else:
            if future is not None:
                aiosqlite_core.set_result(future, result)


class _NoThread:
    def start(self) -> None:
        """There is none to start."""


def connector(disk: Disk) -> Callable[..., aiosqlite.Connection]:
    """`aiosqlite.connect` for a simulated world: give it to the ledger in place of the real one."""

    def connect(database: str | Path, **options: Any) -> aiosqlite.Connection:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        connection: Any = aiosqlite.connect(database, **{**options, "timeout": 0})
        connection._tx, connection._thread = _QueueInTheLoop(loop, disk), _NoThread()

        disk.connections.append(connection)

        def close() -> None:
            # The open transaction is lost, as it is when a process dies.
            if connection._connection is not None:
                disk.left_open += 1
                connection._connection.close()
                connection._connection = None

        loop.at_death.append(close)
        opened: aiosqlite.Connection = connection
        return opened

    return connect


def _statement(function: Callable[[], Any]) -> str:
    """The SQL of a call, as far as it is one; "" for opening and closing."""
    called = getattr(function, "func", None)
    if called is None:
        return ""
    arguments = getattr(function, "args", ())
    name = str(getattr(called, "__name__", ""))
    return f"{name} {arguments[0]}".lower() if arguments else ""


def _commits(statement: str) -> bool:
    """A whole transaction is one call that begins with BEGIN (`controller/store/connection.py`)."""
    return "begin" in statement or statement.endswith("commit")
