"""The ledger's file read from outside, whether a controller runs or not, and what must hold of every journal."""

import json
import sqlite3
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import Any

Body = dict[str, Any]

_LIVE = ("running", "paused", "stopping")
_ENDED = ("stopped", "failed")


class LedgerFile:
    """Reads; never writes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def rows(self, kind: str = "") -> list[Body]:
        """The journal in order: each row's body with its `seq`; of one kind, when one is given."""
        found = [
            {**json.loads(body), "seq": seq} for seq, body in self._read("SELECT seq, body FROM journal ORDER BY seq")
        ]
        return [row for row in found if not kind or row["kind"] == kind]

    def transitions(self, session: str = "") -> list[Body]:
        """Rows that moved a phase."""
        moved = [row for row in self.rows("transition") if row["from_phase"] != row["to_phase"]]
        return [row for row in moved if not session or row["session"] == session]

    def actions(self, kind: str = "") -> list[Body]:
        """Every action that was ever decided, with its `state`."""
        found = [{**json.loads(body), "state": state} for body, state in self._read("SELECT body, state FROM actions")]
        return [action for action in found if not kind or action["kind"] == kind]

    def sessions(self) -> list[Body]:
        """Every session, removed ones too."""
        return [json.loads(body) for (body,) in self._read("SELECT body FROM sessions")]

    def evidence(self, session: str) -> list[Body]:
        """What was kept of the attempts of sessions of that name."""
        query = (
            "SELECT e.body FROM evidence e JOIN sessions s ON s.id = e.session_id WHERE s.name = ? ORDER BY e.attempt"
        )
        return [json.loads(body) for (body,) in self._read(query, session)]

    def controller_id(self) -> str:
        """The id that its containers carry."""
        return str(self._read("SELECT value FROM meta WHERE key = 'controller_id'")[0][0])

    def check(self) -> None:
        """The file is sound, and its journal tells one story of each session: each step once, each end once."""
        assert self._read("PRAGMA quick_check") == [("ok",)]
        by_session: dict[str, list[Body]] = defaultdict(list)
        for row in self.rows():
            if row["session_id"] is not None:
                by_session[row["session_id"]].append(row)
        strange = [row for row in self.rows() if row["reason"] in ("defect", "unexpected")]
        assert not strange, strange
        for rows in by_session.values():
            _check_story(rows)

    def _read(self, query: str, *values: str) -> list[Any]:
        with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=10)) as connection:
            return connection.execute(query, values).fetchall()


def _check_story(rows: list[Body]) -> None:
    stands: str | None = None
    told: dict[tuple[object, ...], Body] = {}
    for row in rows:
        assert row["from_phase"] == stands, f"{stands} before, and then {row}"
        stands = row["to_phase"]
        if row["kind"] != "transition" or row["from_phase"] == row["to_phase"]:
            continue
        steps: list[tuple[object, ...]] = []
        if row["at"] is not None:
            steps.append((row["attempt"], row["from_phase"], row["to_phase"], row["at"]))
        if row["to_phase"] in _ENDED and row["from_phase"] in _LIVE:
            steps.append((row["attempt"], "ended"))
        if row["to_phase"] == "running" and row["from_phase"] not in _LIVE:
            steps.append((row["attempt"], "began"))
        for step in steps:
            assert step not in told, f"told twice:\n{told[step]}\n{row}"
            told[step] = row
