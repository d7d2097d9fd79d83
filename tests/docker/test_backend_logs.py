"""What containers of a real engine printed: bounded, harmless, without secrets, and no connection left behind."""

from pathlib import Path

import anyio
import pytest

from controller.errors import ContainerGone
from controller.model.container import LogTail
from controller.model.ids import ContainerId
from controller.model.instant import after, from_rfc3339
from tests.support.backends import backend_at
from tests.support.private_engine import PrivateEngine

pytestmark = pytest.mark.docker


def finished(engine: PrivateEngine, script: str, *options: str) -> ContainerId:
    container = engine.run(*options, "--", "sh", "-c", script)
    engine.cli("wait", container)
    return ContainerId(container)


async def tail_of(
    engine: PrivateEngine, container: ContainerId, *, lines: int = 50, max_bytes: int = 65_536
) -> LogTail:
    async with backend_at(engine.url) as backend:
        await backend.connect()
        return await backend.tail(container, lines=lines, max_bytes=max_bytes, since=None, until=None)


@pytest.mark.parametrize("options", [(), ("-t",)])
async def test_both_streams_are_told_with_and_without_a_terminal(
    engine: PrivateEngine, options: tuple[str, ...]
) -> None:
    container = finished(engine, "echo out; sleep 0.1; echo err >&2; sleep 0.1; printf unfinished", *options)
    assert (await tail_of(engine, container)).lines == ("out", "err", "unfinished")


async def test_terminal_codes_and_secrets_do_not_come_through(engine: PrivateEngine) -> None:
    script = r"printf '\033[31mred\033[0m \007bell\n'; printf 'API_KEY=sk-abcdefghijklmnop\n'; printf '\377\376 bad\n'"
    assert (await tail_of(engine, finished(engine, script))).lines == ("red bell", "API_KEY=***", "\ufffd\ufffd bad")


async def test_a_tail_is_the_last_lines_within_its_bounds(engine: PrivateEngine) -> None:
    container = finished(engine, "for n in $(seq 1 100); do echo line $n; done")
    assert await tail_of(engine, container, lines=2) == LogTail(lines=("line 99", "line 100"), truncated=False)
    assert await tail_of(engine, container, max_bytes=15) == LogTail(lines=("line 99", "line 100"), truncated=True)


async def test_a_very_long_line_is_cut(engine: PrivateEngine) -> None:
    container = finished(engine, "head -c 100000 /dev/zero | tr '\\0' x; echo; echo last")
    tail = await tail_of(engine, container)
    assert [len(line) for line in tail.lines] == [16_384, 4]
    assert tail.truncated


async def test_a_tail_keeps_to_one_run(engine: PrivateEngine) -> None:
    # A busy engine may stamp a line after the end of what printed it.
    container = finished(engine, "echo a run; sleep 0.5")
    first_end = from_rfc3339(engine.cli("inspect", "-f", "{{.State.FinishedAt}}", container))
    assert first_end is not None
    engine.cli("start", container)
    engine.cli("wait", container)
    async with backend_at(engine.url) as backend:
        await backend.connect()
        both = await backend.tail(container, lines=9, max_bytes=999, since=None, until=None)
        second = await backend.tail(container, lines=9, max_bytes=999, since=after(first_end, 0.001), until=None)
        first = await backend.tail(container, lines=9, max_bytes=999, since=None, until=first_end)
    assert (len(both.lines), len(first.lines), len(second.lines)) == (2, 1, 1)


async def test_what_is_absent_says_why(engine: PrivateEngine) -> None:
    silent = finished(engine, "echo unheard", "--log-driver", "none")
    assert (await tail_of(engine, silent)).absent == "log driver"
    assert (await tail_of(engine, ContainerId("f" * 64))).absent == "container gone"


async def test_a_followed_log_goes_on_until_the_container_ends(engine: PrivateEngine, tmp_path: Path) -> None:
    container = engine.run(
        "-v", f"{tmp_path}:/go", "--", "sh", "-c", "echo one; until [ -e /go/on ]; do sleep 0.05; done; echo two"
    )
    async with backend_at(engine.url) as backend:
        await backend.connect()
        async with backend.follow(ContainerId(container), lines=10) as lines:
            with anyio.fail_after(10):
                assert await anext(lines) == "one"
                (tmp_path / "on").touch()
                assert [line async for line in lines] == ["two"]


async def test_following_leaves_no_connection_behind(engine: PrivateEngine) -> None:
    container = ContainerId(engine.run("--", "sh", "-c", "echo one; sleep 1000"))
    async with backend_at(engine.url) as backend:
        await backend.connect()
        with anyio.fail_after(30):
            for _ in range(70):  # more than there are connections
                async with backend.follow(container, lines=1) as lines:
                    assert await anext(lines) == "one"
            assert (await backend.inspect(container)).facts.id == container


async def test_following_what_is_gone_says_so(engine: PrivateEngine) -> None:
    async with backend_at(engine.url) as backend:
        await backend.connect()
        with pytest.raises(ContainerGone):
            async with backend.follow(ContainerId("f" * 64), lines=1):
                pytest.fail("it must not be entered")
