"""Holds a ledger against what an oracle heard and what the engine shows: nothing lost, invented, harmed or doubled.

A start or an end that the oracle heard must be in the journal as a transition, or a gap row must admit that it may be
missing. What the journal tells must have happened. What happened to a container must have been asked for: by an
action that was committed before it, or by the test itself, or by an engine that went down.
"""

import json
import sqlite3
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.support.ledger_file import Body, LedgerFile
from tests.support.stream_oracle import Happening, StreamOracle, Stretch

SLACK_NS: Final = 20_000_000
"""Two readings of one clock, taken by two programs; the ledger's idea of the engine's clock is as good as a connect."""
GAP_SLACK_NS: Final = 6_000_000_000
"""A gap's ends are what was known: the last line before it, the sweep after it."""
_INVENTED: Final = 255
"""What a daemon says that has lost sight of a container, in a `die` too. No program of these tests ends with it."""
_ENDED: Final = ("stopped", "failed", "backoff")
_PHASES: Final[Mapping[str, tuple[str, ...]]] = {
    "created": ("pending", "failed", "stopped", "backoff"),
    "running": ("running",),
    "paused": ("paused",),
    "restarting": ("backoff",),
    "exited": ("stopped", "failed", "backoff"),
}


@dataclass(kw_only=True)
class Judgement:
    """What was found. The first five say what must not be; the counts say how much was compared."""

    lost: list[str] = field(default_factory=list)
    invented: list[str] = field(default_factory=list)
    harmed: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """Exit codes that are not the engine's; sessions that do not stand as their container does."""
    starts_count: int = 0
    ends_count: int = 0
    covered_count: int = 0
    """Heard by the oracle, not in the journal, and within a gap that the journal admits; and ends that the engine
    itself did not know."""
    unheard_count: int = 0
    """In the journal, and the oracle could not listen then."""

    @property
    def faults(self) -> list[str]:
        kinds = ("lost", "invented", "harmed", "doubled", "wrong")
        return [f"{kind}: {one}" for kind in kinds for one in getattr(self, kind)]

    def figures(self) -> dict[str, int]:
        """All as numbers."""
        return {name: value if isinstance(value, int) else len(value) for name, value in vars(self).items()}

    def assert_clean(self) -> None:
        assert not self.faults, "\n".join(self.faults[:30])


@dataclass(kw_only=True)
class _Run:
    """One run of a container as the oracle heard it."""

    container: str
    after: int
    """When the run before it was heard to start: its StartedAt lies between that and `heard_at`."""
    heard_at: int
    ended: Happening | None = None


@dataclass(frozen=True, kw_only=True)
class _Attempt:
    session_id: str
    number: int
    container: str
    started_at: int
    ended_at: int | None
    body: Body

    @property
    def label(self) -> str:
        return f"{self.session_id[:12]} attempt {self.number} in {self.container[:12]}"


class _Ledger:
    """The rows that are needed, read once."""

    def __init__(self, path: Path) -> None:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
            rows = connection.execute(
                "SELECT session_id, number, container_id, started_at, ended_at, body FROM attempts"
                " WHERE started_at IS NOT NULL ORDER BY started_at"
            ).fetchall()
            gaps = connection.execute("SELECT opened_at, closed_at, found FROM gaps").fetchall()
        self.attempts: dict[str, list[_Attempt]] = defaultdict(list)
        for session_id, number, container, started_at, ended_at, body in rows:
            attempt = _Attempt(
                session_id=session_id,
                number=number,
                container=container,
                started_at=started_at,
                ended_at=ended_at,
                body=json.loads(body),
            )
            self.attempts[container].append(attempt)
        self.gaps = [
            Stretch(begin=opened - GAP_SLACK_NS, end=closed + GAP_SLACK_NS if closed else 1 << 62)
            for opened, closed, found in gaps
            if not found.startswith("nothing: the engine repeated")
        ]
        file = LedgerFile(path)
        self.sessions = file.sessions()
        self.actions: dict[str, list[Body]] = defaultdict(list)
        for action in file.actions():
            if action["container"] is not None:
                self.actions[action["container"]].append(action)
        self.moves: set[tuple[str, int, bool]] = set()
        for row in file.transitions():
            self.moves.add((row["session_id"], row["attempt"], row["to_phase"] in _ENDED))

    def admits(self, at: int) -> bool:
        """Whether a gap row says that something at that time may be missing."""
        return any(gap.meets(at, at) for gap in self.gaps)


def judge(oracle: StreamOracle, ledger: Path, truth: Mapping[str, Any]) -> Judgement:
    """Compare all three. Call it when things are at rest, after `oracle.catch_up()`."""
    known, found = _Ledger(ledger), Judgement()
    happened = oracle.happened
    tracked = set(known.attempts) | {one["container"]["id"] for one in known.sessions if one["container"]}
    tracked |= {one.container for one in happened if "agentd.watch" in one.attributes}
    runs = _runs(happened)
    for container in sorted(tracked):
        _compare_runs(runs.get(container, []), known.attempts.get(container, []), known, oracle, found)
    _harm(happened, known, oracle, found)
    _double(happened, known, oracle, truth, found)
    _standing(known, truth, found)
    return found


def _runs(happened: list[Happening]) -> dict[str, list[_Run]]:
    runs: dict[str, list[_Run]] = defaultdict(list)
    for one in happened:
        of_container = runs[one.container]
        if one.action == "start":
            before = of_container[-1].heard_at if of_container else 0
            of_container.append(_Run(container=one.container, after=before, heard_at=one.at))
        elif one.action == "die" and of_container and of_container[-1].ended is None:
            of_container[-1].ended = one
        elif one.action == "die":
            # Its start was not heard: whatever the journal says of that is taken.
            of_container.append(_Run(container=one.container, after=one.at, heard_at=one.at, ended=one))
    return runs


def _compare_runs(
    runs: list[_Run], attempts: list[_Attempt], known: _Ledger, oracle: StreamOracle, found: Judgement
) -> None:
    matched: dict[int, _Run] = {}
    begins = [attempt.started_at for attempt in attempts]
    for run in runs:
        if _is_failed_start(run, known, oracle):
            continue
        found.starts_count += 1
        at = bisect_right(begins, run.heard_at + SLACK_NS) - 1
        if at < 0 or (begins[at] <= run.after and run.after != run.heard_at) or at in matched:
            _missing(f"start of {run.container[:12]}", run.heard_at, known, found)
            continue
        matched[at] = run
        _compare_one(run, attempts[at], known, found)
    for at, attempt in enumerate(attempts):
        if at not in matched:
            _unheard(attempt, oracle, found, what="begins")
        elif attempt.ended_at is not None and matched[at].ended is None:
            _unheard(attempt, oracle, found, what="ends")


def _is_failed_start(run: _Run, known: _Ledger, oracle: StreamOracle) -> bool:
    """Whether the engine went down in a start of ours, and told of it with a lone `die`: nothing has run."""
    is_lone = run.ended is not None and run.ended.at == run.after
    return (
        is_lone
        and any(each.meets(run.heard_at, run.heard_at) for each in oracle.engine_deeds)
        and any(
            action["kind"] == "start" and action["decided_at"] <= run.heard_at <= action["drop_at"]
            for action in known.actions[run.container]
        )
    )


def _compare_one(run: _Run, attempt: _Attempt, known: _Ledger, found: Judgement) -> None:
    key = (attempt.session_id, attempt.number)
    if (*key, True) not in known.moves and (*key, False) not in known.moves:
        _missing(f"a transition for the start of {attempt.label}", run.heard_at, known, found)
    if run.ended is None:
        return
    found.ends_count += 1
    if attempt.ended_at is None or (*key, True) not in known.moves:
        _missing(f"end of {attempt.label}", run.ended.at, known, found)
        return
    told = (attempt.body["exit"] or {}).get("exit_code")
    really = int(run.ended.attributes["exitCode"])
    if (told is None and known.admits(run.ended.at)) or really == _INVENTED:
        found.covered_count += 1
    elif told != really:
        found.wrong.append(f"{attempt.label} ended with {really}, the ledger says {told}")


def _missing(what: str, at: int, known: _Ledger, found: Judgement) -> None:
    if known.admits(at):
        found.covered_count += 1
    else:
        found.lost.append(f"{what} at {at}")


def _unheard(attempt: _Attempt, oracle: StreamOracle, found: Judgement, *, what: str) -> None:
    end = attempt.body["finished_at"] or attempt.ended_at or attempt.started_at
    seen_from = attempt.started_at if what == "begins" else end - GAP_SLACK_NS
    # A `die` comes after the container's FinishedAt: an engine that is killed in between never sends it.
    seen_to = max(end, seen_from) if what == "begins" else end + GAP_SLACK_NS
    deaf = [*oracle.blind, *oracle.engine_deeds]
    if any(one.meets(seen_from, seen_to) for one in deaf):
        found.unheard_count += 1
    else:
        found.invented.append(f"{attempt.label} {what} at {attempt.started_at if what == 'begins' else end}")


def _harm(happened: list[Happening], known: _Ledger, oracle: StreamOracle, found: Judgement) -> None:
    """What was done to a container, and nobody had asked for it before."""
    for one in happened:
        wanted = {"kill": ("stop", "remove"), "stop": ("stop", "remove"), "destroy": ("remove",)}.get(one.action)
        if wanted is None or one.name.startswith("oracle-") or _is_explained(one, oracle):
            continue
        asked = any(
            action["kind"] in wanted and action["decided_at"] - SLACK_NS <= one.at <= action["drop_at"] + SLACK_NS
            for action in known.actions.get(one.container, [])
        )
        if not asked:
            found.harmed.append(f"{one.action} of {one.name} ({one.container[:12]}) at {one.at}, without an intent")


def _double(
    happened: list[Happening], known: _Ledger, oracle: StreamOracle, truth: Mapping[str, Any], found: Judgement
) -> None:
    """More starts than anybody asked for; two live containers of one session."""
    done = Counter(one.container for one in happened if one.action == "start" and not _is_explained(one, oracle))
    for container, count in done.items():
        asked = sum(action["kind"] == "start" for action in known.actions.get(container, []))
        if count > asked:
            found.doubled.append(f"{container[:12]} was started {count} times, on {asked} intents")
    live = Counter(
        (labels.get("agentd.controller"), labels["agentd.session"])
        for each in truth.values()
        if "agentd.session" in (labels := each["Config"]["Labels"] or {}) and each["State"]["Running"]
    )
    found.doubled += [f"{count} live containers of {name}" for (_, name), count in live.items() if count > 1]


def _standing(known: _Ledger, truth: Mapping[str, Any], found: Judgement) -> None:
    """Each session stands as its container does."""
    for session in known.sessions:
        container = session["container"]["id"] if session["container"] else None
        state = truth[container]["State"]["Status"] if container is not None and container in truth else None
        says = f"{session['name']} is {session['phase']} ({session['reason']})"
        if state is None:
            if session["phase"] in ("running", "paused", "stopping"):
                found.wrong.append(f"{says}, and there is no container")
        elif session["removed_at"] is not None:
            found.wrong.append(f"{says}, removed, and its container is {state}")
        elif session["phase"] not in _PHASES.get(state, ()):
            found.wrong.append(f"{says}, its container is {state}")


def _is_explained(one: Happening, oracle: StreamOracle) -> bool:
    """Whether the test did it, or an engine that went down or came up."""
    mine = [*oracle.deeds.get(one.container, ()), *oracle.deeds.get(one.name, ()), *oracle.engine_deeds]
    return any(each.meets(one.at, one.at) for each in mine)
