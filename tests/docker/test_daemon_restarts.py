"""The engine itself goes away and comes back, in four ways, while one controller watches on.

Without live-restore a daemon takes its containers with it; the events of that are the same as of a person's stops.
With it they run on, and whatever ends meanwhile ends without an event.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest

from tests.docker.causes import EXITED, EXITED_3, LOST, OBEYS, RUNS
from tests.docker.stage import Stage, shows
from tests.docker.told import Cell, Told, told_of, transitions
from tests.support.controller_process import ControllerProcess, until
from tests.support.private_engine import PrivateEngine, missing

pytestmark = [pytest.mark.docker, pytest.mark.timeout(240)]

STOPPED, KILLED = "stopped", "killed"
STOPPED_LIVE, KILLED_LIVE = "stopped-live", "killed-live"
"""With live-restore."""
WAYS: Final = (KILLED_LIVE, STOPPED_LIVE, STOPPED, KILLED)
LONG_BEFORE: Final = "long-before"


def waits(code: int) -> str:
    """It ends with that code when it is released, and when it is told to."""
    return f"trap 'exit {code}' TERM; (read x < /gates/$GATE) & wait $!; exit {code}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One container, and what is said of it after each way."""

    name: str
    cells: dict[str, tuple[Cell, ...]]
    script: str = waits(0)
    options: tuple[str, ...] = ()
    released: bool = False
    """It ends by itself while the daemon is away, if the daemon has not taken it along."""
    row: str = ""


TAKEN: Final = Cell(phase="stopped", reason="engine_restart", exit_code=0, actor="engine")
"""A stop that turned out to be the daemon's own."""


def _from(cell: Cell, *sources: str) -> tuple[Cell, ...]:
    return tuple(replace(cell, source=source) for source in sources)


def _unless_live(taken: Cell, live: tuple[Cell, ...], *, killed: tuple[Cell, ...] = ()) -> dict[str, tuple[Cell, ...]]:
    """`taken` where the daemon's stop ends it: live when it stops, read again when it was killed and comes back."""
    return {
        STOPPED: _from(taken, "inferred"),
        KILLED: killed or _from(taken, "replay"),
        STOPPED_LIVE: live,
        KILLED_LIVE: live,
    }


BY_ENGINE: Final = replace(RUNS, attempt=2, actor="engine")
BY_ITS_POLICY: Final = replace(RUNS, attempt=2, actor="unknown")
"""It has a policy, and its end was not seen: the engine started it, or somebody."""


def _meanwhile(cell: Cell) -> tuple[Cell, ...]:
    """It ended while the daemon was away. Mostly a look tells; a slow daemon sends a late die, rightly or with 255."""
    return _from(cell, "inferred", "look", "replay")


GONE: Final = (*_from(LOST, "replay", "inferred"), replace(EXITED_3, removed=True, source="replay"))
"""Nobody is left to ask: known only where a late die has told."""
STARTED_AGAIN: Final = (*_from(BY_ITS_POLICY, "look", "inferred"), *_from(BY_ENGINE, "replay"))

ROWS: Final = (
    Row(name="exit-0", cells=_unless_live(TAKEN, _meanwhile(EXITED), killed=_meanwhile(EXITED)), released=True),
    Row(
        name="exit-3",
        cells=_unless_live(replace(TAKEN, exit_code=3), _meanwhile(EXITED_3), killed=_meanwhile(EXITED_3)),
        script=waits(3),
        released=True,
    ),
    Row(name="still-running", cells=_unless_live(TAKEN, _from(RUNS, "sweep", "event"))),
    Row(
        # Its end has no event, and no container is left to ask.
        name="rm-at-exit",
        cells=_unless_live(replace(TAKEN, exit_code=3, removed=True), GONE, killed=GONE),
        script=waits(3),
        options=("--rm",),
        released=True,
    ),
    Row(
        name="policy-always",
        cells=_unless_live(BY_ENGINE, _from(RUNS, "sweep", "event"), killed=_from(BY_ENGINE, "replay"))
        | {STOPPED: _from(BY_ENGINE, "replay")},
        options=("--restart", "always"),
    ),
    Row(
        name="policy-always-exit-0",
        cells=_unless_live(BY_ENGINE, STARTED_AGAIN, killed=STARTED_AGAIN) | {STOPPED: _from(BY_ENGINE, "replay")},
        options=("--restart", "always"),
        released=True,
    ),
    Row(
        # After a crash the daemon takes its own clean-up for a person's stop, and leaves it down.
        name="policy-unless-stopped",
        cells=_unless_live(BY_ENGINE, _from(RUNS, "sweep", "event"), killed=_from(TAKEN, "replay"))
        | {STOPPED: _from(BY_ENGINE, "replay")},
        options=("--restart", "unless-stopped"),
    ),
)

OURS_ALWAYS, OURS_NO = "ours-always", "ours-no"


@dataclass(frozen=True, kw_only=True)
class Comings:
    """What was told after each way, and the controllers, which still run."""

    told: dict[tuple[str, str], Told]
    controllers: dict[str, ControllerProcess]
    long_before: dict[str, Told]


@pytest.fixture(scope="module")
def comings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Comings]:
    """All four, on two engines."""
    if lacking := missing():
        pytest.skip(f"no private engine here: {lacking}")
    with contextlib.ExitStack() as stack:
        plain = _Place(stack, tmp_path_factory.mktemp("plain"), live_restore=False)
        live = _Place(stack, tmp_path_factory.mktemp("live"), live_restore=True)
        plain.controller.create(LONG_BEFORE, "/bin/sh", "-c", OBEYS, restart={"mode": "always"})
        plain.stage.docker("stop", "-t", "5", f"agentd-{LONG_BEFORE}")
        live.comes_and_goes(KILLED_LIVE)
        live.comes_and_goes(STOPPED_LIVE)
        plain.set_the_scene(STOPPED)
        # Half a minute has to pass, until a stop is surely not the daemon's own; most of it has.
        plain.controller.wait_for(LONG_BEFORE, timeout_s=35, desired="stopped")
        plain.goes_and_comes(STOPPED)
        # Its start must not be under way when the daemon is killed: what an engine then holds, it may hold for long.
        plain.controller.wait_for(f"{STOPPED}-{OURS_ALWAYS}", phase="running", attempt=2)
        plain.comes_and_goes(KILLED)
        yield Comings(
            told=plain.told | live.told,
            controllers={STOPPED: plain.controller, KILLED: plain.controller}
            | {STOPPED_LIVE: live.controller, KILLED_LIVE: live.controller},
            long_before={STOPPED: told_of(plain.controller, LONG_BEFORE)},
        )


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_each_container_is_told_as_far_as_the_engine_tells_it(comings: Comings, row: Row, way: str) -> None:
    told = comings.told[way, row.name]
    assert told.cell in row.cells[way], told.text


@pytest.mark.parametrize("way", [STOPPED, KILLED])
def test_what_the_daemon_took_runs_again_where_our_policy_says_so(comings: Comings, way: str) -> None:
    controller, name = comings.controllers[way], f"{way}-{OURS_ALWAYS}"

    def told() -> list[tuple[object, ...]]:
        rows = transitions(controller, name)
        return [(row["attempt"], row["to"], row["reason"], row["actor"]) for row in rows]

    until(lambda: (2, "running", "started", "controller") in told(), what=f"{name} runs again", timeout_s=30)
    before = told()[: told().index((2, "running", "started", "controller"))]
    assert {"engine_restart", "backoff"} <= {reason for _, _, reason, _ in before}


@pytest.mark.parametrize("way", [STOPPED, KILLED])
def test_what_the_daemon_took_stays_down_where_our_policy_says_so(comings: Comings, way: str) -> None:
    session = comings.controllers[way].session(f"{way}-{OURS_NO}")
    assert (session["phase"], session["reason"], session["desired"]) == ("stopped", "engine_restart", "stopped")


@pytest.mark.parametrize("way", [STOPPED_LIVE, KILLED_LIVE])
def test_with_live_restore_our_sessions_run_on(comings: Comings, way: str) -> None:
    for name in (OURS_ALWAYS, OURS_NO):
        session = comings.controllers[way].session(f"{way}-{name}")
        assert (session["phase"], session["attempt"], session["restarts"]) == ("running", 1, 0)


def test_what_somebody_stopped_long_before_stays_down_and_is_still_theirs(comings: Comings) -> None:
    told = comings.long_before[STOPPED]
    assert told.cell == Cell(
        phase="stopped", reason="stopped_externally", exit_code=0, actor="external", source="event"
    ), told.text


@pytest.mark.parametrize("way", WAYS)
def test_each_way_leaves_a_gap_that_is_closed_with_what_was_found(comings: Comings, way: str) -> None:
    gaps = [str(line["message"]) for line in comings.controllers[way].lines() if line["event"] == "gap"]
    assert len(gaps) == 4, gaps  # Two ways on each engine: opened, closed.
    assert ["may have been missed" in gap for gap in gaps] == [True, False, True, False]


class _Place:
    """An engine that comes and goes, and the controller beside it."""

    def __init__(self, stack: contextlib.ExitStack, folder: Path, *, live_restore: bool) -> None:
        self.engine = stack.enter_context(PrivateEngine(live_restore=live_restore))
        self.stage = Stage(self.engine)
        self.controller = stack.enter_context(ControllerProcess(folder=folder, engine_url=self.engine.url))
        self.told: dict[tuple[str, str], Told] = {}

    def comes_and_goes(self, way: str) -> None:
        """One way, from its scene to what was told of it."""
        self.set_the_scene(way)
        self.goes_and_comes(way)

    def set_the_scene(self, way: str) -> None:
        """Everything runs, and the controller knows."""
        watched = [lambda row=row: self.stage.watch(f"{way}-{row.name}", row.script, *row.options) for row in ROWS]
        ours = [
            lambda name=name, mode=mode: self.controller.create(
                f"{way}-{name}", "/bin/sh", "-c", OBEYS, restart={"mode": mode}
            )
            for name, mode in ((OURS_ALWAYS, "always"), (OURS_NO, "no"))
        ]
        self.stage.in_parallel([*ours, *watched])
        shows(
            self.controller,
            [f"{way}-{name}" for name in (OURS_ALWAYS, OURS_NO, *(row.name for row in ROWS))],
            "running",
        )

    def goes_and_comes(self, way: str) -> None:
        """The daemon is ended in that way and started again."""
        if way in (KILLED, KILLED_LIVE):
            self.engine.kill()
        else:
            self.engine.stop()
        until(lambda: not self.controller.is_ready(), what="it has noticed")
        if way != STOPPED:
            self.stage.release(*(f"{way}-{row.name}" for row in ROWS if row.released))
        self.engine.start()
        until(self.controller.is_ready, what="it is ready again", timeout_s=60)
        assert self.controller.request("POST", "/v1/reconcile")[0] == 200
        for row in ROWS:
            self.told[way, row.name] = told_of(self.controller, f"{way}-{row.name}", row=row.row)
