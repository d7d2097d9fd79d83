"""What a controller says of one session, as a cell of a table."""

import json
from dataclasses import dataclass

from tests.support.controller_process import ControllerProcess, Json


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What a controller says. Actor and source are those of the first row that has the final phase and reason."""

    phase: str
    reason: str
    exit_code: int | None = None
    actor: str = "engine"
    source: str = ""
    attempt: int = 1
    removed: bool = False


@dataclass(frozen=True, kw_only=True)
class Told:
    """A cell as it was found."""

    cell: Cell
    text: str
    """The whole story, for a failure's message."""


def told_of(controller: ControllerProcess, name: str, *, row: str = "") -> Told:
    """What it says; `row` names the reason of the row that tells it, where the session's own reason stays."""
    session = controller.sessions()[name]
    rows = transitions(controller, name)
    telling = _telling(session, rows, row)
    cell = Cell(
        phase=str(session["phase"]),
        reason=str(session["reason"]),
        exit_code=_exit_code(session),
        actor=str(telling["actor"]) if telling else "",
        source=str(telling["source"]) if telling else "nobody",
        attempt=int(str(session["attempt"])),
        removed=session["removed_at"] is not None,
    )
    return Told(cell=cell, text=f"{cell}\n{_as_text(session, rows)}")


def transitions(controller: ControllerProcess, name: str) -> list[Json]:
    """The rows of one session that people see."""
    return [row for row in controller.timeline(name) if row["event"] == "transition"]


def _telling(session: Json, rows: list[Json], reason: str) -> Json | None:
    """The first row that says what the session says in the end."""
    if reason:
        return next((row for row in rows if row["reason"] == reason), None)
    said = (session["attempt"], session["phase"], session["reason"])
    return next((row for row in rows if (row["attempt"], row["to"], row["reason"]) == said), None)


def _exit_code(session: Json) -> int | None:
    end = session["exit"]
    code = end["exit_code"] if isinstance(end, dict) else None
    return code if isinstance(code, int) else None


def _as_text(session: Json, rows: list[Json]) -> str:
    kept = ("phase", "reason", "desired", "attempt", "restarts", "removed_at", "exit", "message")
    lines = [json.dumps({key: session[key] for key in kept})]
    for row in rows:
        lines.append(
            f"  #{row['attempt']} {row['from']} -> {row['to']} {row['reason']}"
            f" {row['source']} {row['actor']}: {row['message']}"
        )
    return "\n".join(lines)
