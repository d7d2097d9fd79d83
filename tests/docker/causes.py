"""The table of causes: what happens to a container, and what each of five controllers must say of it.

Every cause is brought about once, on one engine, under the eyes of all five (`test_causes.py`):

- `live` watches all the time;
- `down` was killed before and is started after, while the engine still remembers every event;
- `cut` lives, but cannot reach the engine meanwhile; the engine remembers;
- `down-forgotten`, `cut-forgotten`: as those, but the engine's memory of events has been overrun meanwhile.

`seen` is what the first three say. `lost` is the honest answer of the other two, where only an event could have told.
"""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from tests.docker.stage import Stage
from tests.docker.told import Cell

LIVE, DOWN, CUT = "live", "down", "cut"
DOWN_FORGOTTEN, CUT_FORGOTTEN = "down-forgotten", "cut-forgotten"
REMEMBERED: Final = (LIVE, DOWN, CUT)
FORGOTTEN: Final = (DOWN_FORGOTTEN, CUT_FORGOTTEN)
COLUMNS: Final = (*REMEMBERED, *FORGOTTEN)
SOURCES: Final = {LIVE: "event", DOWN: "replay", CUT: "replay", DOWN_FORGOTTEN: "inferred", CUT_FORGOTTEN: "inferred"}

SMALL: Final = ("--memory", "16m", "--memory-swap", "16m")
EATS: Final = "dd if=/dev/zero of=/dev/null bs=64M count=1"
"""It takes 64 MiB at once, and the kernel ends it."""
OBEYS: Final = "trap 'exit 0' TERM; sleep 1000 & wait"
IGNORES: Final = "trap '' TERM; sleep 1000 & wait"
NO_SUCH: Final = ("/bin/nope",)
COMPOSE: Final = (
    *("--label", "com.docker.compose.project=shop"),
    *("--label", "com.docker.compose.service=web"),
    *("--label", "com.docker.compose.container-number=1"),
)


def at_gate(then: str) -> str:
    """A script that waits to be released, and goes on."""
    return f"read x < /gates/$GATE; {then}"


LOOPS_ONCE_RELEASED: Final = "[ -e /gates/$GATE.open ] || { read x < /gates/$GATE; touch /gates/$GATE.open; }; exit 3"


@dataclass(frozen=True, kw_only=True)
class Cause:
    """One row of the table."""

    name: str
    happens: Callable[[Stage, str], None]
    seen: Cell
    lost: Cell | None = None
    """None where nothing is lost."""
    lost_or: Cell | None = None
    """As true as `lost`, where the engine itself is of two minds."""
    sources: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Where other ones than SOURCES are as true."""
    row: str = ""
    """The reason of the row that tells it, where the session's own reason stays; without such a row nobody told."""
    script: str = at_gate("exit 0")
    options: tuple[str, ...] = ()
    before: str = "running"
    """The phase in which it waits: running, paused, pending, stopped; empty when it is not there yet."""
    session: str = ""
    """Where it is not the container's name."""

    @property
    def shown_as(self) -> str:
        """The session's name."""
        return self.session or self.name

    def cells(self, column: str) -> list[Cell]:
        """Every answer that is true in that column."""
        told = [self.seen]
        if column in FORGOTTEN:
            told = [cell for cell in (self.lost or self.seen, self.lost_or) if cell is not None]
        sources = self.sources.get(column, (SOURCES[column],))
        return [cell if cell.source else replace(cell, source=source) for cell in told for source in sources]


# --- what happens ------------------------------------------------------------------------------------------------


def released(stage: Stage, name: str) -> None:
    """It goes on by itself."""
    stage.release(name)


def nothing(stage: Stage, name: str) -> None:
    """It just runs on."""


def docker(*command: str, check: bool = True) -> Callable[[Stage, str], None]:
    """Somebody does this to it through the engine."""

    def happens(stage: Stage, name: str) -> None:
        stage.docker(*command, name, check=check)

    return happens


def _renamed(stage: Stage, name: str) -> None:
    stage.docker("rename", name, f"{name}-new")


def _run_without_command(stage: Stage, name: str) -> None:
    stage.watch(name, "", command=NO_SUCH, check=False)


def _killed_on_host(stage: Stage, name: str) -> None:
    os.kill(int(stage.docker("inspect", "--format", "{{.State.Pid}}", name)), signal.SIGKILL)


def _restarted_by_engine(count: int) -> Callable[[Stage, str], None]:
    def happens(stage: Stage, name: str) -> None:
        for number in range(1, count + 1):
            stage.release(name)
            stage.await_state(name, f"{number} running")

    return happens


def _restarted_until_spent(stage: Stage, name: str) -> None:
    _restarted_by_engine(1)(stage, name)
    stage.release(name)
    stage.await_state(name, "1 exited")


def _stopped_in_backoff(stage: Stage, name: str) -> None:
    stage.release(name)
    stage.await_state(name, "5 restarting")  # For 1.6 s.
    stage.docker("stop", name)


def _recreated(stage: Stage, name: str) -> None:
    """In the order in which compose does it: the successor is there before the old one is gone."""
    successor = f"{name}-next"
    stage.create(successor, *COMPOSE, command=("/bin/sh", "-c", OBEYS))
    stage.docker("stop", "-t", "5", name)
    stage.docker("rm", name)
    stage.docker("rename", successor, name)
    stage.docker("start", name)


# --- what is said ------------------------------------------------------------------------------------------------

EXITED: Final = Cell(phase="stopped", reason="exited", exit_code=0)
EXITED_3: Final = Cell(phase="failed", reason="error_exit", exit_code=3)
RUNS: Final = Cell(phase="running", reason="started", actor="external")
STOPPED: Final = Cell(phase="stopped", reason="stopped_externally", exit_code=0, actor="external")
KILLED: Final = Cell(phase="stopped", reason="killed_externally", exit_code=137, actor="external")
SIGKILLED: Final = Cell(phase="failed", reason="signalled", exit_code=137, actor="unknown")
"""137, and nobody to name: the engine keeps no trace of who killed a container."""
LOST: Final = Cell(phase="failed", reason="lost", actor="unknown", removed=True)
"""Gone, and its end was never seen."""
OUT_OF_MEMORY: Final = Cell(phase="failed", reason="oom_killed", exit_code=137)
START_FAILED: Final = Cell(phase="failed", reason="start_failed")
UNTOLD: Final = replace(RUNS, actor="", source="nobody")
"""It left no trace but an event."""

FAILED_STARTS: Final = {
    # It has no event: a look finds it, soon after `create` or the next connect.
    LIVE: ("look", "sweep"),
    **dict.fromkeys((DOWN, CUT, *FORGOTTEN), ("look", "sweep", "inferred")),
}
LOOKED_FOR: Final = {LIVE: ("look",), DOWN: ("look", "inferred"), CUT: ("look", "inferred")}
"""What an event does not tell is told by the look that it asks for."""

CAUSES: Final = (
    Cause(
        # First, because whoever watches looks for it 2, 10 and 30 s after `create`, and then no more.
        name="start-fails",
        happens=docker("start", check=False),
        seen=START_FAILED,
        sources=FAILED_STARTS,
        before="pending",
    ),
    Cause(name="exit-0", happens=released, seen=EXITED),
    Cause(name="exit-3", happens=released, seen=EXITED_3, script=at_gate("exit 3")),
    Cause(name="still-running", happens=nothing, seen=UNTOLD, row="nothing", script=OBEYS),
    Cause(
        # Its program said 0, as if it had ended by itself.
        name="stop-in-time",
        happens=docker("stop", "-t", "5"),
        seen=STOPPED,
        lost=EXITED,
        script=OBEYS,
    ),
    Cause(
        name="stop-killed",
        happens=docker("stop", "-t", "1"),
        seen=replace(STOPPED, exit_code=137),
        lost=SIGKILLED,
        script=IGNORES,
    ),
    Cause(name="kill", happens=docker("kill"), seen=KILLED, lost=SIGKILLED, script=OBEYS),
    Cause(
        name="kill-hup",
        happens=docker("kill", "-s", "HUP"),
        seen=RUNS,
        lost=UNTOLD,
        row="kill_signal",
        script=IGNORES,
    ),
    Cause(name="killed-on-host", happens=_killed_on_host, seen=SIGKILLED, script=OBEYS),
    Cause(
        name="pause",
        happens=docker("pause"),
        seen=Cell(phase="paused", reason="paused", actor="external"),
        script=OBEYS,
    ),
    Cause(
        name="unpause",
        happens=docker("unpause"),
        seen=Cell(phase="running", reason="unpaused", actor="external"),
        script=OBEYS,
        before="paused",
    ),
    Cause(
        name="restart",
        happens=docker("restart", "-t", "5"),
        seen=replace(RUNS, attempt=2),
        script=OBEYS,
        # The look that the end before it asks for may be faster.
        sources={LIVE: ("event", "look")},
    ),
    Cause(
        name="rename",
        happens=_renamed,
        seen=RUNS,
        row="renamed",
        script=OBEYS,
        sources=dict.fromkeys(FORGOTTEN, ("look", "sweep")),
    ),
    Cause(
        # Its end was told long before, by its event or by the look that a busy machine let overtake it, and stays.
        name="rm-stopped",
        happens=docker("rm"),
        seen=replace(EXITED, removed=True),
        sources=dict.fromkeys(SOURCES, ("event", "look")),
        script="exit 0",
        before="stopped",
    ),
    Cause(
        name="rm-running",
        happens=docker("rm", "-f"),
        seen=Cell(phase="stopped", reason="removed_externally", exit_code=137, actor="external", removed=True),
        lost=LOST,
        script=OBEYS,
    ),
    Cause(
        name="rm-at-exit",
        happens=released,
        seen=replace(EXITED_3, removed=True),
        lost=LOST,
        script=at_gate("exit 3"),
        options=("--rm",),
    ),
    Cause(name="run-fails", happens=_run_without_command, seen=START_FAILED, sources=FAILED_STARTS, before=""),
    Cause(
        # An engine that hears of it after the exit never sets its flag: then only the event has told.
        name="oom",
        happens=released,
        seen=OUT_OF_MEMORY,
        lost=OUT_OF_MEMORY,
        lost_or=SIGKILLED,
        script=at_gate(f"exec {EATS}"),
        options=SMALL,
    ),
    Cause(
        name="oom-of-child",
        happens=released,
        seen=replace(RUNS, actor="engine"),
        lost=UNTOLD,
        row="oom_child",
        script=at_gate(f"{EATS}; sleep 1000"),
        options=SMALL,
    ),
    Cause(
        name="oom-of-child-then-exit-3",
        happens=released,
        seen=EXITED_3,
        script=at_gate(f"{EATS}; exit 3"),
        options=SMALL,
    ),
    Cause(
        # The engine counts its restarts: who started it is known, when it was started in between is not.
        name="policy-on-failure",
        happens=_restarted_by_engine(3),
        seen=replace(RUNS, actor="engine", attempt=4),
        lost=replace(RUNS, actor="engine", attempt=2),
        # The look at an end may be faster than the event of the start that follows.
        sources={LIVE: ("event", "look")},
        script=at_gate("exit 3"),
        options=("--restart", "on-failure:5"),
    ),
    Cause(
        name="policy-on-failure-spent",
        happens=_restarted_until_spent,
        seen=replace(EXITED_3, attempt=2),
        script=at_gate("exit 3"),
        options=("--restart", "on-failure:1"),
    ),
    Cause(
        name="policy-always",
        happens=_restarted_by_engine(2),
        seen=replace(RUNS, actor="engine", attempt=3),
        lost=replace(RUNS, actor="engine", attempt=2),
        sources={LIVE: ("event", "look")},
        options=("--restart", "always"),
    ),
    Cause(
        name="policy-always-stopped",
        happens=docker("stop", "-t", "5"),
        seen=STOPPED,
        lost=EXITED,
        script=OBEYS,
        options=("--restart", "always"),
    ),
    Cause(
        # No kill and no die, only `stop`; a look that is faster finds that the policy has not gone on.
        name="stop-in-engine-backoff",
        happens=_stopped_in_backoff,
        seen=replace(STOPPED, exit_code=3, attempt=5),
        lost=replace(EXITED_3, attempt=2),
        sources={LIVE: ("event", "look")},
        script=LOOPS_ONCE_RELEASED,
        options=("--restart", "always"),
    ),
    Cause(
        name="recreated-by-compose",
        happens=_recreated,
        seen=replace(RUNS, attempt=2),
        sources=LOOKED_FOR | {LIVE: ("event", "look")},
        script=OBEYS,
        options=COMPOSE,
        session="shop-web-1",
    ),
    Cause(
        # A label of that name overwrites the event's own attribute, so that only a look is believed.
        name="exit-3-labelled-0",
        happens=released,
        seen=EXITED_3,
        sources=LOOKED_FOR,
        script=at_gate("exit 3"),
        options=("--label", "exitCode=0"),
    ),
)

OURS: Final = (
    Cause(name="ours-exit-0", happens=released, seen=EXITED),
    Cause(name="ours-exit-3", happens=released, seen=EXITED_3, script=at_gate("exit 3")),
    Cause(name="ours-stopped", happens=docker("stop", "-t", "5"), seen=STOPPED, lost=EXITED, script=OBEYS),
    Cause(name="ours-killed", happens=docker("kill"), seen=KILLED, lost=SIGKILLED, script=OBEYS),
)
"""The same for sessions that the controller made itself."""
