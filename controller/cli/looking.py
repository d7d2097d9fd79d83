"""The read-only commands: ps, show, why, timeline, events, logs. Each also works on a ledger file with `--db`."""

import json
import sys
from typing import Final

import anyio
from pydantic import BaseModel

from controller.cli.failure import ExitCode
from controller.cli.invocation import Invocation
from controller.cli.reading import Reading, reading
from controller.cli.tables import facts_of, row_line, sessions_table
from controller.log import clean

LOG_LINE_MAX_CHARS: Final = 16_384
FOLLOW_S: Final = 1.0
_CLEAR: Final = "\x1b[2J\x1b[H"


async def ps(call: Invocation) -> int:
    """Sessions as a table."""
    async with reading(call) as source:
        shown: list[str] = []
        while True:
            lines = await _sessions(call, source)
            if lines != shown:
                _show_again(call, lines, first=not shown)
                shown = lines
            if not call.arguments.watch:
                return ExitCode.DONE
            await anyio.sleep(FOLLOW_S)


async def show(call: Invocation) -> int:
    """Everything about one session."""
    async with reading(call) as source:
        session = await source.session(call.arguments.name)
    for line in [as_json(session)] if call.as_json else facts_of(session):
        call.say(line)
    return ExitCode.DONE


async def why(call: Invocation) -> int:
    """One sentence, its proof, and what happens next."""
    async with reading(call) as source:
        found = await source.why(call.arguments.name)
    if call.as_json:
        call.say(as_json(found))
        return ExitCode.DONE
    facts = [f"  {fact}" for fact in found.facts]
    for line in (found.sentence, *([""] if facts else []), *facts, "", found.outlook):
        call.say(clean(line, LOG_LINE_MAX_CHARS))
    return ExitCode.DONE


async def timeline(call: Invocation) -> int:
    """Every journal row of one session."""
    async with reading(call) as source:
        await _print_rows(call, source, after=0, name=call.arguments.name)
    return ExitCode.DONE


async def events(call: Invocation) -> int:
    """The journal, and with `--follow` as it grows."""
    async with reading(call) as source:
        after = await _print_rows(call, source, after=call.arguments.after, name=None)
        while call.arguments.follow:
            await anyio.sleep(FOLLOW_S)
            after = await _print_rows(call, source, after=after, name=None)
    return ExitCode.DONE


async def logs(call: Invocation) -> int:
    """What a session printed, made harmless for a terminal."""
    wanted = call.arguments
    async with reading(call) as source:
        lines = source.logs(wanted.name, tail=wanted.tail, follow=wanted.follow, attempt=wanted.attempt)
        async for line in lines:
            shown = clean(line.removesuffix("\r").expandtabs(), LOG_LINE_MAX_CHARS)
            call.say(json.dumps({"line": line}) if call.as_json else shown)
    return ExitCode.DONE


def as_json(view: BaseModel) -> str:
    """One object on one line, with everything but ASCII escaped."""
    return json.dumps(view.model_dump(mode="json", by_alias=True)).replace("\x7f", "\\u007f")


async def _sessions(call: Invocation, source: Reading) -> list[str]:
    found = await source.sessions(include_removed=call.arguments.all, phase=call.arguments.filter)
    if call.as_json:
        return [as_json(each) for each in found]
    return sessions_table(found, in_colour=call.in_colour)


def _show_again(call: Invocation, lines: list[str], *, first: bool) -> None:
    if call.arguments.watch and not call.as_json and sys.stdout.isatty():
        sys.stdout.write(_CLEAR)
    elif not first and not call.as_json:
        call.say("")
    for line in lines:
        call.say(line)


async def _print_rows(call: Invocation, source: Reading, *, after: int, name: str | None) -> int:
    """Print every row after `after`; returns the last one's seq."""
    while True:
        page = await source.rows(after=after, name=name)
        for row in page.items:
            call.say(as_json(row) if call.as_json else row_line(row))
            after = row.seq
        if page.next is None:
            return after
        after = page.next
