"""Tables and lines for people. Every cell goes through `clean`: nothing from outside breaks a row or a terminal."""

import json
import unicodedata
from collections.abc import Sequence
from typing import Final

from controller.api.shapes import ExitView, PlanLineView, RowView, SessionView
from controller.cli.wall import ago, ahead
from controller.log import clean

CELL_MAX_CHARS: Final = 64
TEXT_MAX_CHARS: Final = 300
_EMPTY: Final[Sequence[object]] = (None, "", [], {})
_COLOURS: Final = {"running": "32", "failed": "31", "backoff": "33", "stopping": "33", "starting": "36"}


def table(titles: Sequence[str], rows: Sequence[Sequence[str]], *, limit: int = CELL_MAX_CHARS) -> list[str]:
    """Lines of a table whose columns are as wide as what they hold, and no cell longer than `limit`."""
    cleaned = [[clean(cell, limit) for cell in row] for row in rows]
    widths = [max(_width(cell) for cell in column) for column in zip(titles, *cleaned, strict=True)]
    return [_line(row, widths) for row in (titles, *cleaned)]


def sessions_table(sessions: Sequence[SessionView], *, in_colour: bool) -> list[str]:
    """What `ps` shows."""
    rows = [
        (
            each.name,
            each.phase if each.removed_at is None else f"{each.phase} (removed)",
            each.health,
            str(each.attempt),
            each.reason,
            ago(each.since),
            ahead(each.next_attempt_at),
        )
        for each in sessions
    ]
    lines = table(("NAME", "PHASE", "HEALTH", "ATTEMPT", "REASON", "SINCE", "NEXT"), rows)
    if not in_colour:
        return lines
    return [lines[0], *(_coloured(line, each) for line, each in zip(lines[1:], sessions, strict=True))]


def rows_table(rows: Sequence[RowView]) -> list[str]:
    """Journal rows, one line each; the last column is as long as it needs to be."""
    return [row_line(row) for row in rows]


def row_line(row: RowView) -> str:
    """One journal row."""
    parts = (
        f"{row.seq:>6}",
        (row.at or row.observed_at)[:23].replace("T", " "),
        f"{clean(row.session or '-', CELL_MAX_CHARS):<20}",
        f"#{row.attempt}",
        f"{_change(row):<20}",
        f"{row.reason:<20}",
        f"{row.source:<8}",
        f"{clean(row.actor, CELL_MAX_CHARS):<10}",
        clean(row.message, TEXT_MAX_CHARS),
    )
    return "  ".join(parts).rstrip()


def plan_table(lines: Sequence[PlanLineView]) -> list[str]:
    """What a sweep found and does, with reasons."""
    rows = [(each.finding, each.action, each.container[:12], each.name, each.session or "-") for each in lines]
    aligned = table(("FINDING", "ACTION", "CONTAINER", "NAME", "SESSION"), rows)
    width = max(_width(line) for line in aligned)
    reasons = ["REASON", *(clean(each.reason, TEXT_MAX_CHARS) for each in lines)]
    return [f"{_padded(line, width)}  {reason}".rstrip() for line, reason in zip(aligned, reasons, strict=True)]


def facts_of(session: SessionView) -> list[str]:
    """What `show` shows: one fact a line, the empty ones left out."""
    told = session.model_dump(mode="json", exclude={"exit", "spec", "labels"})
    lines = [_fact(key, _text(value)) for key, value in told.items() if value not in _EMPTY]
    if session.exit is not None:
        lines += [_fact(f"exit.{key}", text) for key, text in exit_facts(session.exit)]
    if session.spec is not None:
        spec = session.spec.model_dump(mode="json")
        lines += [_fact(f"spec.{key}", _text(value)) for key, value in spec.items() if value not in _EMPTY]
    return lines + [_fact("label", f"{key}={value}") for key, value in sorted(session.labels.items())]


def exit_facts(end: ExitView) -> list[tuple[str, str]]:
    """How an attempt ended, fact by fact."""
    code = "unknown" if end.exit_code is None else str(end.exit_code)
    facts = [("code", code), ("verdict", f"{end.verdict} ({end.confidence})")]
    if end.signal is not None:
        facts.append(("signal", str(end.signal)))
    if end.error:
        facts.append(("error", end.error))
    return facts + [("evidence", each) for each in end.evidence]


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _fact(key: str, value: str) -> str:
    return f"{clean(key, CELL_MAX_CHARS):<20} {clean(value, TEXT_MAX_CHARS)}"


def _change(row: RowView) -> str:
    if row.event != "transition" or row.to_phase is None:
        return clean(row.action or row.event, CELL_MAX_CHARS)
    if row.from_phase in (None, row.to_phase):
        return str(row.to_phase)
    return f"{row.from_phase} -> {row.to_phase}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "   ".join(_padded(cell, width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _width(text: str) -> int:
    # East Asian wide characters take two columns; marks that combine take none.
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def _coloured(line: str, session: SessionView) -> str:
    colour = _COLOURS.get(session.phase)
    if colour is None:
        return line
    before, phase, after = line.partition(f" {session.phase}")
    return f"{before}\x1b[{colour}m{phase}\x1b[0m{after}"
