"""A power loss at any write loses no acknowledged commit, halves none, and damages nothing."""

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.store.power_loss import Loss, Operation, Story, Sync, Write, committing, keeping_up, record, torture

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")

COMMITS = 24
IMAGES = {"committing": 1_500, "upkeep": 300}
STORIES = {"committing": lambda: committing(COMMITS), "upkeep": keeping_up}


@pytest.fixture(scope="module", params=STORIES)
def told(request: pytest.FixtureRequest) -> Iterator[tuple[Story, list[Operation], Path, int]]:
    """In memory where there is such a folder: the images are many, and no sync of theirs matters."""
    memory = Path("/dev/shm")
    story = STORIES[request.param]()
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        live = Path(folder) / "live"
        yield story, record(live, story), live, IMAGES[request.param]


def test_no_image_of_the_disk_breaks_a_promise(told: tuple[Story, list[Operation], Path, int]) -> None:
    story, operations, live, images = told
    counted = torture(operations, live, story, images=images)
    assert counted["images"] >= images
    assert counted["reopened"] >= images // 100
    assert all(counted[loss.name] >= images // 8 for loss in Loss)
    assert counted[Loss.NONE.name] >= sum(not isinstance(operation, Write) for operation in operations)


def test_without_its_syncs_the_same_ledger_would_be_caught(told: tuple[Story, list[Operation], Path, int]) -> None:
    story, operations, live, images = told
    unsynced = [
        operation for operation in operations if not (isinstance(operation, Sync) and operation.file != str(live))
    ]
    with pytest.raises((AssertionError, sqlite3.DatabaseError)):
        torture(unsynced, live, story, images=images)
