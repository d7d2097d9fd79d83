"""Frames become lines; lines become harmless."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.engine.cleaning import brief, one_line
from controller.engine.frames import LogLines
from controller.engine.masking import masked


def frame(stream: int, payload: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(payload).to_bytes(4, "big") + payload


def read(whole: bytes, *, size: int = 65_536, line_max_bytes: int = 16_384) -> list[bytes]:
    reader = LogLines(line_max_bytes=line_max_bytes)
    lines = [line for start in range(0, len(whole), size) for line in reader.feed(whole[start : start + size])]
    return lines + reader.finish()


@given(st.integers(1, 40))
def test_frames_are_read_however_they_are_cut(size: int) -> None:
    whole = frame(1, b"one\ntwo\n") + frame(2, b"oops\n") + frame(1, b"") + frame(1, "drei\u20ac\n".encode())
    assert read(whole, size=size) == [b"one", b"two", b"oops", "drei\u20ac".encode()]


def test_half_a_line_of_one_stream_is_not_glued_to_the_other() -> None:
    assert read(frame(1, b"hello ") + frame(2, b"error\n") + frame(1, b"world\n")) == [b"error", b"hello world"]


@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_terminals_raw_output_is_read_as_it_is(size: int) -> None:
    assert read(b"plain\r\ntext", size=size) == [b"plain\r", b"text"]


def test_short_raw_output_is_not_lost() -> None:
    assert read(b"ab") == [b"ab"]


def test_a_long_line_is_cut_and_the_next_is_whole() -> None:
    reader = LogLines(line_max_bytes=10)
    assert reader.feed(frame(1, b"x" * 50 + b"\nnext\n")) == [b"x" * 10, b"next"]
    assert reader.cut


@given(st.lists(st.binary(max_size=30), max_size=5))
def test_junk_never_raises(chunks: list[bytes]) -> None:
    reader = LogLines()
    for chunk in chunks:
        reader.feed(chunk)
    reader.finish()


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("a\tb", "a\tb"),
        ("bell\x07 back\x08 null\x00 c1\x9b31m", "bell back null c131m"),
        ("forged\nline\r", "forgedline"),
        ("right\u202eleft \u2028", "rightleft "),
        ("half \ud800", "half "),
        ("Grüße 漢字", "Grüße 漢字"),
    ],
)
def test_no_terminal_code_or_line_end_survives(raw: str, shown: str) -> None:
    assert one_line(raw) == shown


def test_an_engines_message_is_one_bounded_line() -> None:
    assert brief("bad\nthing\x1b[2J\r\n") == "bad thing"
    assert len(brief("x" * 10_000)) == 500


@pytest.mark.parametrize(
    "secret",
    [
        "sk-ant-REDACTED",
        "ghp_abcdefghijklmnopqrst1234",
        "github_pat_11ABCDEFG0abcdefghijkl",
        "AKIAIOSFODNN7EXAMPLE",
        "AIzaSyA-1234567890abcdefghijklmnop",
        "xoxb-1234567890-abcdef",
        "hf_abcdefghijABCDEFGHIJabcdefghijABCD",
        "gsk_abcdefghijABCDEFGHIJabcdefghijABCD",
        "xai-abcdefghijABCDEFGHIJabcdefghijABCD",
        "sk_live_abcdefghijABCDEFGHIJ",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N",
    ],
)
def test_keys_are_known_by_their_shape(secret: str) -> None:
    assert masked(f"using {secret} now") == "using *** now"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("Authorization: Bearer abc.def-123456", "Authorization: Bearer ***"),
        ("password=hunter2 next", "password=*** next"),
        ('{"password": "hunter 2", "a": 1}', '{"password": ***, "a": 1}'),
        ("DB_PASSWD: x", "DB_PASSWD: ***"),
        ("OPENAI_API_KEY=abcdefgh12345678", "OPENAI_API_KEY=***"),
        ('"client_secret": "abcdefgh12345678"', '"client_secret": ***'),
        ("access_token=abcdefgh12345678&x=1", "access_token=***&x=1"),
        ("postgres://me:s3cret@host/db", "postgres://me:***@host/db"),
    ],
)
def test_what_stands_after_a_telling_word_is_masked(line: str, shown: str) -> None:
    assert masked(line) == shown


@pytest.mark.parametrize("line", ["max_tokens: 4096", "key: a", "tokens used", "the risk-averse", "12:30:45 done"])
def test_ordinary_lines_stay(line: str) -> None:
    assert masked(line) == line


@pytest.mark.parametrize(
    "piece", ["a", "eyJ", "-eyJ", "sk-", "://", "key=", "password", " ", '"', "bearer ", "\x1b[", "\x1b]"]
)
def test_a_hostile_line_costs_little_time(piece: str) -> None:
    line = piece * (16_384 // len(piece))
    started = time.process_time()
    masked(one_line(line))
    # A tail has 80 of them, and nothing else runs meanwhile.
    assert time.process_time() - started < 0.05
