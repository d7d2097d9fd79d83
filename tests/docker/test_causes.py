"""The table of causes on a real engine: every cell is a test, all of them read one and the same run."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from tests.docker.causes import (
    CAUSES,
    COLUMNS,
    CUT,
    CUT_FORGOTTEN,
    DOWN,
    DOWN_FORGOTTEN,
    FORGOTTEN,
    LIVE,
    NO_SUCH,
    OBEYS,
    OURS,
    REMEMBERED,
    Cause,
)
from tests.docker.stage import Stage, shows
from tests.docker.told import Told, told_of, transitions
from tests.support.controller_process import ControllerProcess, until
from tests.support.fault_proxy import FaultProxy
from tests.support.private_engine import PrivateEngine

pytestmark = [pytest.mark.docker, pytest.mark.timeout(240)]

STAYS_DOWN = "ours-stays-down"


@dataclass(frozen=True, kw_only=True)
class Table:
    """The run, after everybody has come back. The controllers still run."""

    stage: Stage
    controllers: dict[str, ControllerProcess]
    told: dict[tuple[str, str], Told]


@pytest.fixture(scope="module")
def table(shared_engine: PrivateEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Table]:
    """Bring every cause about, once."""
    folder = tmp_path_factory.mktemp("causes")
    with contextlib.ExitStack() as stack:
        stack.callback(shared_engine.remove_all)
        portal = stack.enter_context(start_blocking_portal())
        lines = _Lines(portal, shared_engine, stack)
        stage = Stage(shared_engine)
        controllers = _started(shared_engine, lines, folder, stack)
        _set_the_scene(stage, controllers)
        controllers[DOWN].kill()
        controllers[DOWN_FORGOTTEN].kill()
        lines.cut(CUT, controllers)
        lines.cut(CUT_FORGOTTEN, controllers)
        _let_it_happen(stage)
        controllers[DOWN].start()
        lines.mend(CUT, controllers)
        stage.forget_events()
        controllers[DOWN_FORGOTTEN].start()
        lines.mend(CUT_FORGOTTEN, controllers)
        for controller in controllers.values():
            # It returns once every disagreement has been looked at.
            assert controller.request("POST", "/v1/reconcile")[0] == 200
        told = {
            (cause.name, column): told_of(controllers[column], cause.shown_as, row=cause.row)
            for column in COLUMNS
            for cause in (*CAUSES, *OURS)
        }
        yield Table(stage=stage, controllers=controllers, told=told)


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("cause", [*CAUSES, *OURS], ids=lambda cause: cause.name)
def test_each_cause_is_told_as_far_as_the_engine_tells_it(table: Table, cause: Cause, column: str) -> None:
    told = table.told[cause.name, column]
    assert told.cell in cause.cells(column), told.text


@pytest.mark.parametrize("column", COLUMNS)
def test_nothing_is_told_twice(table: Table, column: str) -> None:
    for cause in (*CAUSES, *OURS):
        rows = transitions(table.controllers[column], cause.shown_as)
        moves = [(row["attempt"], row["from"], row["to"]) for row in rows if row["from"] != row["to"]]
        assert len(moves) == len(set(moves)), table.told[cause.name, column].text


@pytest.mark.parametrize("column", COLUMNS)
def test_nothing_is_unexpected_and_no_container_is_anybody_elses(table: Table, column: str) -> None:
    controller = table.controllers[column]
    known = {cause.shown_as for cause in (*CAUSES, *OURS)}
    assert set(controller.sessions()) - {STAYS_DOWN} == known
    assert not [line for line in controller.lines() if line.get("reason") in ("unexpected", "defect")]


@pytest.mark.parametrize("column", COLUMNS)
def test_what_is_only_watched_is_left_alone(table: Table, column: str) -> None:
    acted_on = {line["session"] for line in table.controllers[column].lines() if line["event"] == "action"}
    assert acted_on <= {STAYS_DOWN, *(cause.name for cause in OURS)}


@pytest.mark.parametrize("column", [column for column in REMEMBERED if column != LIVE])
def test_where_the_engine_remembers_no_gap_is_left_open(table: Table, column: str) -> None:
    gaps = [str(line["message"]) for line in table.controllers[column].lines() if line["event"] == "gap"]
    assert not gaps or "nothing" in gaps[-1]


@pytest.mark.parametrize("column", FORGOTTEN)
def test_where_the_engine_has_forgotten_the_gap_is_told_with_what_was_found(table: Table, column: str) -> None:
    gaps = [str(line["message"]) for line in table.controllers[column].lines() if line["event"] == "gap"]
    assert len(gaps) == 2, gaps
    assert "may have been missed" in gaps[0]
    assert "missing" in gaps[1]
    assert "mismatch" in gaps[1]


def test_what_somebody_stopped_stays_down_whatever_its_restart_policy(table: Table) -> None:
    # For 30 s it might still turn out to have been the engine's own stop. Most of them have passed by now.
    live = table.controllers[LIVE]
    session = live.wait_for(STAYS_DOWN, timeout_s=40, desired="stopped")
    assert (session["phase"], session["reason"]) == ("stopped", "stopped_externally")
    assert session["next_attempt_at"] is None
    assert "exited" in table.stage.docker("inspect", "--format", "{{.State.Status}}", f"{LIVE}-{STAYS_DOWN}")
    assert session["attempt"] == 1


# --- the run -----------------------------------------------------------------------------------------------------


class _Lines:
    """The connections of the two controllers that lose the engine for a while."""

    def __init__(self, portal: BlockingPortal, engine: PrivateEngine, stack: contextlib.ExitStack) -> None:
        self._portal = portal
        self._proxies = {
            column: FaultProxy(listen=engine.folder / f"{number}.sock", upstream=engine.socket)
            for number, column in enumerate((CUT, CUT_FORGOTTEN))
        }
        for proxy in self._proxies.values():
            stack.enter_context(portal.wrap_async_context_manager(proxy))

    def url(self, column: str, engine: PrivateEngine) -> str:
        return self._proxies[column].url if column in self._proxies else engine.url

    def cut(self, column: str, controllers: dict[str, ControllerProcess]) -> None:
        self._portal.call(self._proxies[column].stop_listening)
        self._portal.call(self._proxies[column].kill_all)
        until(lambda: not controllers[column].is_ready(), what=f"{column} has noticed")

    def mend(self, column: str, controllers: dict[str, ControllerProcess]) -> None:
        self._portal.call(self._proxies[column].listen)
        until(controllers[column].is_ready, what=f"{column} is back", timeout_s=30)


def _started(
    engine: PrivateEngine, lines: _Lines, folder: Path, stack: contextlib.ExitStack
) -> dict[str, ControllerProcess]:
    controllers = {}
    for column in COLUMNS:
        (folder / column).mkdir()
        controllers[column] = ControllerProcess(
            folder=folder / column, engine_url=lines.url(column, engine), prefix=column
        )
        stack.callback(_end, controllers[column])
        controllers[column].start(wait_ready=False)
    for controller in controllers.values():
        until(controller.is_ready, what="ready", timeout_s=60)
    return controllers


def _end(controller: ControllerProcess) -> None:
    if controller.alive:
        controller.kill()


def _set_the_scene(stage: Stage, controllers: dict[str, ControllerProcess]) -> None:
    for column in COLUMNS:
        for cause in OURS:
            stage.gate(f"{column}-{cause.name}")
    watched = [lambda cause=cause: _place(stage, cause) for cause in CAUSES[::-1] if cause.before]
    ours = [lambda column=column: _place_ours(stage, controllers[column], column) for column in COLUMNS]
    stage.in_parallel([*ours, *watched])
    for controller in controllers.values():
        for phase in ("running", "paused", "pending", "stopped"):
            shows(controller, [cause.shown_as for cause in CAUSES if cause.before == phase], phase)


def _place(stage: Stage, cause: Cause) -> None:
    if cause.before == "pending":
        stage.create(cause.name, command=NO_SUCH)
        return
    stage.watch(cause.name, cause.script, *cause.options)
    if cause.before == "paused":
        stage.docker("pause", cause.name)


def _place_ours(stage: Stage, controller: ControllerProcess, column: str) -> None:
    mounts = [{"source": str(stage.gates), "target": "/gates"}]
    for cause in OURS:
        env = {"GATE": f"{column}-{cause.name}"}
        controller.create(cause.name, "/bin/sh", "-c", cause.script, mounts=mounts, env=env)
    if column == LIVE:
        controller.create(STAYS_DOWN, "/bin/sh", "-c", OBEYS, restart={"mode": "always"})


def _let_it_happen(stage: Stage) -> None:
    stage.docker("stop", "-t", "5", f"{LIVE}-{STAYS_DOWN}")
    watched = [lambda cause=cause: cause.happens(stage, cause.name) for cause in CAUSES]
    ours = [
        lambda cause=cause, name=f"{column}-{cause.name}": cause.happens(stage, name)
        for column in COLUMNS
        for cause in OURS
    ]
    stage.in_parallel([*watched, *ours])
