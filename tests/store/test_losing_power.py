"""A power loss at any write loses no acknowledged commit, halves none, and damages nothing."""

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.store.power_loss import Operation, Sync, record, torture

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")

COMMITS = 20
IMAGES = 2_000


@pytest.fixture(scope="module")
def live() -> Iterator[Path]:
    """In memory where there is such a folder: the images are many, and no sync of theirs matters."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder) / "live"


@pytest.fixture(scope="module")
def operations(live: Path) -> list[Operation]:
    return record(live, commits=COMMITS)


def test_no_image_of_the_disk_breaks_a_promise(operations: list[Operation], live: Path) -> None:
    told = torture(operations, live, images=IMAGES)
    assert told["images"] >= IMAGES
    assert told["reopened"] >= IMAGES // 100


def test_without_its_syncs_the_same_ledger_would_be_caught(operations: list[Operation], live: Path) -> None:
    unsynced = [
        operation for operation in operations if not (isinstance(operation, Sync) and operation.file != str(live))
    ]
    with pytest.raises((AssertionError, sqlite3.DatabaseError)):
        torture(unsynced, live, images=IMAGES)
