"""Any arguments at all: an exit code of the contract, one clear line when it is not 0, and no traceback.

Whatever the grammar knows is among the words, so that a command or an option that is new is tried as well. `run` is
left out, for it would be the controller itself.
"""

import io
import json
import re
import socket
from argparse import Action, ArgumentParser, _SubParsersAction
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, assume, given, note, settings
from hypothesis import strategies as st

from controller.cli.failure import ExitCode
from controller.cli.parser import make_parser
from tests.api.world import hosted
from tests.cli.conftest import Called, run
from tests.support.anew import anew

LINES_MAX: Final = 20
"""The usage of `create` is the longest that is ever said about arguments."""
LINE_MAX_CHARS: Final = 2_100
RAW: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\ud800-\udfff]")
ENDLESS: Final = ("-w", "-f", "--w", "--fo")
"""How `--watch` and `--follow` begin: they end only where no controller answers."""


def _grammar() -> dict[str, ArgumentParser]:
    [commands] = (each for each in make_parser()._actions if isinstance(each, _SubParsersAction))
    return {name: parser for name, parser in commands.choices.items() if name != "run"}


GRAMMAR: Final = _grammar()

# What a process can be given: no NUL, and a byte that is no UTF-8 as the lone surrogate that Python reads it as.
_chars = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
_any_text = st.text(_chars | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF), max_size=40)
_hosts = [
    "127.0.0.1:9",
    "[::1]:9",
    "[::1",
    "a..b",
    "\udcff",
    "x\x1b[2J",
    "me:pw@h",
    "h:99999",
    "h:x",
    "xn--a",
    "a" * 300,
]
_urls = st.builds(
    "{}{}{}".format,
    st.sampled_from(["http://", "https://", "ftp://", ""]),
    st.sampled_from(_hosts),
    st.just("") | _any_text,
)
_words = st.one_of(
    _any_text,
    st.sampled_from(["", " ", "a b", "line\nline", "\x1b[31mred\x1b[0m", "\r\x9b2J", "\u202eevil", "a" * 70_000]),
    st.sampled_from(["-1", "0", "1", "1e400", "nan", "inf", "9" * 400, "0." + "9" * 400, "٣", "²", "1_0", " 5 "]),
    st.sampled_from(["5m", "90s", "15m", "2h", "1d", "512m", "2g", "1.5GiB", "m", "9" * 400 + "t"]),
    st.sampled_from(
        ["K=V", "=V", "K=", "phase=failed", "phase=", "/a:/b:ro", "/a:/b:no", "a:b:c:d", "\udcff=\x1b", "%s"]
    ),
    st.sampled_from(["alpha", "beta", "nobody", ".", "..", "none.db", "file/below", "none?mode=rwc", "spec.yaml"]),
)


def _values(action: Action) -> st.SearchStrategy[str]:
    if action.dest == "url":
        return _urls
    return st.sampled_from(sorted(action.choices)) | _words if action.choices else _words


@st.composite
def _calls(draw: st.DrawFn) -> list[str]:
    """A command as it is meant, with anything for its names and values."""
    name = draw(st.sampled_from(sorted(GRAMMAR)))
    said = [name]
    for action in GRAMMAR[name]._actions:
        if not action.option_strings:
            said += draw(st.lists(_words, min_size=1, max_size=3 if action.nargs == "+" else 1))
        elif action.required or draw(st.integers(0, 7)) == 0:
            said.append(draw(st.sampled_from(action.option_strings)))
            said += [] if action.nargs == 0 else [draw(_values(action))]
    rest = draw(st.lists(_words, max_size=2))
    return [*said, "--", *rest] if rest else said


_options = sorted({option for parser in GRAMMAR.values() for option in parser._option_string_actions})
_heaps = st.lists(st.one_of(st.sampled_from([*GRAMMAR, *_options, "--"]), _words), max_size=6)
_arguments = _calls() | _heaps


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of its own as home and as the present one; and nobody is asked for a host's address."""
    folder = tmp_path_factory.mktemp("any")
    (folder / "file").write_text("no folder")
    (folder / "spec.yaml").write_text("image: demo\nttl: 2h\n")

    def no_address(host: object, *_: object, **__: object) -> list[object]:
        # Encoded as the real one does it, which is where it raises what nobody expects.
        str(host).encode("idna")
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        patched.setattr(socket, "getaddrinfo", no_address)
        yield folder


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with hosted(tmp_path_factory.mktemp("site")) as found:
        yield found


def call(arguments: Sequence[str], home: Path, url: str) -> Called:
    """One call with the streams that a program has: what cannot be written as UTF-8 raises, but not on stderr."""
    note(f"agentdctl {arguments!r}")
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
    with redirect_stdout(out), redirect_stderr(err):
        code = run(tuple(arguments), _environment(home, url))
    return Called(code=code, out=_read(out), err=_read(err))


def _read(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()


def _environment(home: Path, url: str) -> dict[str, str]:
    return {
        "HOME": str(home),
        "AGENTD_URL": url,
        "AGENTD_DB": str(home / "none.db"),
        "AGENTD_PORT": "9",
        "DOCKER_HOST": "unix:///nowhere/docker.sock",
    }


def check(called: Called) -> None:
    """What holds of every call."""
    assert called.code in set(ExitCode)
    assert not RAW.search(called.err)
    assert not RAW.search(called.out)
    assert "Traceback" not in called.err
    *usage, last = called.err.splitlines() or [""]
    assert len(usage) < LINES_MAX
    assert len(last) <= LINE_MAX_CHARS
    if called.code == 0:
        return
    is_doctor = called.out.startswith(("ok  ", "FAIL  ", '{"name": "socket"'))
    assert last.startswith("agentdctl") or is_doctor
    assert called.code == ExitCode.USAGE or not usage or all(line.startswith("agentdctl: ") for line in usage)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(arguments=_arguments)
@anew
def test_any_arguments_end_with_a_code_and_one_line_while_no_controller_answers(
    stage: Path, arguments: list[str]
) -> None:
    called = call(arguments, stage, "http://127.0.0.1:9")
    check(called)
    # Nothing was done, so nothing may look as if it was.
    if called.code == 0:
        assert called.out.startswith(("usage: agentdctl", "agentdctl ", "VARIABLE", '{"variable"'))


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(arguments=_arguments)
@anew
def test_any_arguments_end_with_a_code_and_one_line_at_a_controller(
    stage: Path, url: str, arguments: list[str]
) -> None:
    assume(not any(each.startswith(ENDLESS) for each in arguments))
    called = call(arguments, stage, url)
    check(called)
    if called.code == 0 and "json" in arguments and "-h" not in arguments and "--help" not in arguments:
        assert all(isinstance(json.loads(line), dict) for line in called.out.splitlines())
