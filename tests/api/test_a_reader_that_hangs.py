"""Whoever reads the log may hang, go away or have a full disk: the lines suffer for it, and nobody else."""

import os
import re
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import anyio
import pytest

from controller import line_writer
from controller.line_writer import LineWriter

ROOM_BYTES = 1000
LINE_BYTES = 100


def numbered(number: int) -> str:
    return f"{number:0{LINE_BYTES - 1}}\n"


def lost(count: int) -> str:
    return f"lost {count}\n"


def fill(stream: TextIO) -> int:
    """Write to a pipe until it takes no more; gives how much that was."""
    os.set_blocking(stream.fileno(), False)
    count = 0
    try:
        while True:
            count += os.write(stream.fileno(), b"." * 4096)
    except BlockingIOError:
        os.set_blocking(stream.fileno(), True)
        return count


def read_all(reader: int, into: bytearray) -> threading.Thread:
    def read() -> None:
        while chunk := os.read(reader, 65_536):
            into.extend(chunk)

    thread = threading.Thread(target=read)
    thread.start()
    return thread


@contextmanager
def a_pipe() -> Iterator[tuple[int, TextIO]]:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", buffering=0), os.fdopen(writer, "w") as stream:
        yield reader, stream


def test_lines_keep_their_order_and_those_that_found_no_room_are_counted_in_their_place() -> None:
    taken = bytearray()
    with a_pipe() as (reader, stream):
        filled = fill(stream)
        with LineWriter(stream, lost=lost, waiting_max_bytes=ROOM_BYTES) as writer:
            for number in range(50):
                writer.write(numbered(number))
            assert writer.is_behind()
            thread = read_all(reader, taken)
            anyio.run(writer.catch_up)
            assert not writer.is_behind()
            for number in range(50, 55):
                writer.write(numbered(number))
        stream.close()
        thread.join()
    told = taken[filled:].decode().splitlines()
    expected = 0
    for line in told:
        if counted := re.fullmatch("lost ([0-9]+)", line):
            expected += int(counted[1])
        else:
            assert int(line) == expected
            expected += 1
    assert expected == 55
    assert ROOM_BYTES // LINE_BYTES <= len(told) - 6 <= ROOM_BYTES // LINE_BYTES + 1


def test_an_end_waits_for_the_last_lines_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_writer, "CATCH_UP_S", 0.2)
    taken = bytearray()
    with a_pipe() as (reader, stream):
        fill(stream)
        began = time.monotonic()
        with LineWriter(stream, lost=lost) as writer:
            writer.write("late\n")
        assert 0.2 <= time.monotonic() - began < 2
        writer.write("too late\n")
        thread = read_all(reader, taken)
        monkeypatch.undo()
        anyio.run(writer.catch_up)
        stream.close()
        thread.join()
    assert taken.endswith(b".late\n")


def test_an_end_leaves_nothing_unwritten_where_the_reader_reads(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w", encoding="ascii") as stream, LineWriter(stream, lost=lost) as writer:
        for number in range(1000):
            writer.write(numbered(number))
        writer.write("Größe\n")
    assert (tmp_path / "log").read_text() == "".join(map(numbered, range(1000))) + "Gr\\xf6\\xdfe\n"


def test_a_reader_that_has_gone_costs_its_lines() -> None:
    reader, end = os.pipe()
    os.close(reader)
    with os.fdopen(end, "w") as stream, LineWriter(stream, lost=lost) as writer:
        for number in range(10):
            writer.write(numbered(number))


def test_a_pipe_that_somebody_else_has_made_non_blocking_loses_nothing() -> None:
    taken = bytearray()
    with a_pipe() as (reader, stream):
        filled = fill(stream)
        os.set_blocking(stream.fileno(), False)
        with LineWriter(stream, lost=lost) as writer:
            writer.write(numbered(1))
            thread = read_all(reader, taken)
        stream.close()
        thread.join()
    assert taken[filled:].decode() == numbered(1)


def test_after_a_full_disk_a_line_begins_on_a_line_of_its_own(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with (tmp_path / "log").open("w") as stream, LineWriter(stream, lost=lost) as writer:
        resource.setrlimit(resource.RLIMIT_FSIZE, (LINE_BYTES + LINE_BYTES // 2, before[1]))
        try:
            for number in range(3):
                writer.write(numbered(number))
            anyio.run(writer.catch_up)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        writer.write(numbered(3))
    told = (tmp_path / "log").read_text().splitlines()
    assert told == [numbered(0).strip(), numbered(1)[: LINE_BYTES // 2], "lost 2", numbered(3).strip()]
