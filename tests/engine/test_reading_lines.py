"""The event stream's bytes become lines, and one bad line costs one line."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.engine.lines import TOO_LONG, LineReader


def read(chunks: list[bytes], *, max_bytes: int = 1024 * 1024) -> tuple[list[object], bytes]:
    reader = LineReader(max_bytes=max_bytes)
    return [item for chunk in chunks for item in reader.feed(chunk)], reader.finish()


@given(st.lists(st.binary(min_size=1, max_size=20).map(lambda line: line.replace(b"\n", b"x")), max_size=8), st.data())
def test_lines_are_the_same_however_they_are_cut_into_chunks(lines: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(line + b"\n" for line in lines)
    chunks = []
    while whole:
        size = data.draw(st.integers(1, len(whole)))
        chunks.append(whole[:size])
        whole = whole[size:]
    items, rest = read(chunks)
    assert items == [line.strip() for line in lines if line.strip()]
    assert rest == b""


def test_blank_lines_and_carriage_returns_are_left_out() -> None:
    assert read([b"\n\r\n  \n{}\r\n"]) == ([b"{}"], b"")


def test_an_over_long_line_is_skipped_to_its_end_and_told_once() -> None:
    items, rest = read([b"a\n" + b"x" * 60, b"y" * 60, b"z" * 60 + b"\nb\n"], max_bytes=100)
    assert items == [b"a", TOO_LONG, b"b"]
    assert rest == b""


def test_a_line_of_exactly_the_limit_is_read() -> None:
    assert read([b"x" * 100 + b"\n"], max_bytes=100)[0] == [b"x" * 100]
    assert read([b"x" * 101 + b"\n"], max_bytes=100)[0] == [TOO_LONG]


def test_an_over_long_last_line_is_told_once() -> None:
    assert read([b"x" * 200], max_bytes=100) == ([TOO_LONG], b"")


@pytest.mark.parametrize("size", [1000, 65_536])
def test_a_label_of_200_kib_is_an_ordinary_line(size: int) -> None:
    line = json.dumps({"Actor": {"Attributes": {"big": "x" * 200 * 1024}}}).encode()
    whole = line + b"\n"
    assert read([whole[start : start + size] for start in range(0, len(whole), size)]) == ([line], b"")


def test_what_comes_without_a_line_end_is_given_at_the_end() -> None:
    assert read([b"a\nbc", b"d"]) == ([b"a"], b"bcd")
