"""The checks of `tests/support/blocking.py` find what they are there for."""

import threading
from pathlib import Path

import pytest
from blockbuster import BlockingError

from controller import settings
from tests.support.blocking import Belongings


async def test_a_call_of_the_program_that_blocks_the_loop_is_caught() -> None:
    with pytest.raises(BlockingError):
        settings._default_socket()


def test_a_thread_and_a_file_that_are_left_are_named(tmp_path: Path) -> None:
    before, ended = Belongings.now(), threading.Event()
    thread = threading.Thread(target=ended.wait, name="forgotten")
    thread.start()
    with (tmp_path / "left.txt").open("w"):
        found = Belongings.now().more_than(before)
    ended.set()
    thread.join()
    assert "thread forgotten" in found
    assert f"file {tmp_path / 'left.txt'}" in found
    assert Belongings.now().more_than(before) == []
