"""Catches what a test would not notice by itself: a call that blocks the loop, and a task, thread or file left behind.

Only calls from the program's own code count. SQLite lives on aiosqlite's thread, and what runs in a thread is free to
wait. The ledger's lock and the reading of settings come before the loops run, and are named below.
"""

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from blockbuster import blockbuster_ctx

MAY_BLOCK: Final = (
    # Once a life, before or after everything else: the lock, the token's file, the ledger's files.
    ("controller/settings.py", ("load",)),
    # A traceback reads the source; that is for defects only.
    ("linecache.py", ("checkcache", "updatecache")),
    ("structlog/dev.py", ("__call__",)),
    ("store/lock.py", ("held",)),
    ("api/token_file.py", ("ensure_token", "stored_token")),
    (
        "store/files.py",
        ("absolute", "size_bytes", "discard", "create_private", "prepare_folder", "prepare_file", "make_durable"),
    ),
)
"""Functions, by the end of their file's path, that may touch a disk on the loop."""
_GRACE_S: Final = 2.0
"""A thread that was told to end may still be on its way."""


@contextmanager
def nothing_blocks() -> Iterator[None]:
    """A call under `controller/` that blocks the running loop raises BlockingError."""
    with blockbuster_ctx("controller") as buster:
        for function in buster.functions.values():
            for path, names in MAY_BLOCK:
                function.can_block_in(path, list(names))
        yield


@dataclass(frozen=True)
class Belongings:
    """Threads and open files of this process."""

    threads: frozenset[threading.Thread]
    files: dict[str, str]

    @classmethod
    def now(cls) -> Self:
        """What it has just now."""
        files: dict[str, str] = {}
        for entry in Path("/proc/self/fd").iterdir():
            try:
                files[entry.name] = os.readlink(entry)
            except OSError:
                continue  # It was the directory's own.
        return cls(threads=frozenset(threading.enumerate()), files=files)

    def more_than(self, before: Self) -> list[str]:
        """What was not there before, by name."""
        threads = [f"thread {one.name}" for one in self.threads - before.threads]
        grown = len(self.files) - len(before.files)
        return threads + (
            [f"file {self.files[each]}" for each in self.files.keys() - before.files.keys()] * (grown > 0)
        )


def left_behind(before: Belongings) -> list[str]:
    """What is there now and was not before, once the grace is over."""
    deadline = time.monotonic() + _GRACE_S
    while (left := Belongings.now().more_than(before)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def other_tasks() -> set[asyncio.Task[object]]:
    """Every task of the running loop but the present one."""
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}
