"""Log lines: one record is one line, whatever stands in it."""

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from controller.log import clean, configure

HOSTILE = "\x1b[31mred\x1b[0m\r\n2026 error forged <script> \u202eevil\u2028next\x85c1\x7f\ud800\x00"
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def _lines(output: str, *, level: str = "info", out: io.StringIO | None = None) -> io.StringIO:
    out = out or io.StringIO()
    configure(output, level, stream=out)
    return out


def test_a_json_line_is_plain_ascii_and_gives_back_what_was_said() -> None:
    out = _lines("json")
    structlog.get_logger().info("transition", session=HOSTILE, attempt=2)
    text = out.getvalue()
    assert text.isascii()
    assert text.count("\n") == 1
    assert not CONTROL.search(text.rstrip("\n"))
    record = json.loads(text)
    assert (record["event"], record["level"], record["session"], record["attempt"]) == (
        "transition",
        "info",
        HOSTILE,
        2,
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", record["ts"])


@pytest.mark.parametrize("key", ["session", "message", "reason", "to", "container", "exception"])
def test_a_console_line_stays_one_line_without_terminal_codes(key: str) -> None:
    out = _lines("console")
    structlog.get_logger().warning("transition", **{key: HOSTILE})
    text = out.getvalue()
    assert text.count("\n") == 1
    assert not CONTROL.search(text.rstrip("\n"))
    assert "\\x1b[31mred" in text


def test_a_console_line_tells_the_change() -> None:
    out = _lines("console")
    told = {"from": "running", "to": "failed", "reason": "error_exit", "message": "exit 3", "exit": None}
    structlog.get_logger().info("transition", session="alpha", **told)
    assert out.getvalue()[13:] == "info    transition  alpha  running -> failed  error_exit  exit 3\n"


@pytest.mark.parametrize(
    ("output", "out", "is_json"),
    [("auto", Terminal(), False), ("auto", io.StringIO(), True), ("json", Terminal(), True)],
)
def test_a_terminal_gets_readable_lines_unless_told_otherwise(output: str, out: io.StringIO, *, is_json: bool) -> None:
    _lines(output, out=out)
    structlog.get_logger().info("listening")
    assert out.getvalue().startswith("{") is is_json


def test_the_level_is_a_threshold() -> None:
    out = _lines("json", level="warning")
    structlog.get_logger().info("quiet")
    assert out.getvalue() == ""


def test_a_librarys_log_takes_the_same_road_and_is_bounded() -> None:
    out = _lines("json")
    logging.getLogger("aiohttp.server").error("%s", HOSTILE * 1_000)
    logging.getLogger("aiohttp.server").info("chatter")
    [line] = out.getvalue().splitlines()
    record = json.loads(line)
    assert (record["event"], record["library"], record["level"]) == ("library", "aiohttp.server", "error")
    assert len(record["message"]) == 1_000


def test_a_librarys_error_is_named() -> None:
    out = _lines("json")
    try:
        raise ValueError("bad\nthing")
    except ValueError:
        logging.getLogger("asyncio").exception("it broke")
    assert json.loads(out.getvalue())["error"] == "ValueError: bad\nthing"


def test_a_huge_value_is_cut() -> None:
    out = _lines("json")
    structlog.get_logger().info("transition", message="x" * 1_000_000)
    assert len(out.getvalue()) < 9_000


def test_a_reader_that_has_gone_ends_nothing() -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    _lines("json", out=Closed())
    structlog.get_logger().info("transition")


@given(st.text(max_size=200), st.integers(min_value=1, max_value=100))
def test_clean_text_is_short_and_harmless(text: str, limit: int) -> None:
    shown = clean(text, limit)
    assert len(shown) <= limit
    assert not CONTROL.search(shown)


def test_clean_text_keeps_what_people_write() -> None:
    assert clean("Größe 日本 → ok", 80) == "Größe 日本 → ok"
