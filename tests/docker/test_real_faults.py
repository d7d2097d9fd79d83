"""Real processes, real engines, real faults: killed, frozen, cut off, lied to and flooded, and right again afterwards.

All tests of one stage share it, with its load and its oracle: what one fault left behind would show in the next. Each
ends at rest, with every session as its container is, and with an oracle that misses nothing and finds nothing
invented. `make soak` does the same for longer.
"""

import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.docker.kill_cycles import Stage, kill_controller, kill_daemon, stage
from tests.support.controller_process import ControllerProcess, until
from tests.support.engine_faults import frozen, kill_containerd, without_socket
from tests.support.fault_proxy import (
    Delay,
    Drip,
    Fault,
    Garble,
    HalfOpen,
    HalveLine,
    LostReply,
    Refuse,
    Request,
    Rule,
    Status,
)
from tests.support.fragile_disk import FragileDisk
from tests.support.ledger_file import LedgerFile
from tests.support.private_engine import missing
from tests.support.short_windows import SHORT_WINDOWS
from tests.support.stream_oracle import ask, wire

pytestmark = pytest.mark.docker

KILLS_COUNT: Final = 3
FREEZE_S: Final = 30.0
AWAY_S: Final = 3.0
CUTS_COUNT: Final = 8
STRIKE_TIMEOUT_S: Final = 30.0
"""The longest wait before a connect is 10 s, and a connect may meet the fault, too."""
FULL_S: Final = 1.5
STORM_SIZE: Final = 2_000
STORM_THREADS: Final = 4
LEDGER_BYTES: Final = "24m"
"""Room for a write-ahead log of a thousand pages, and some."""


@pytest.fixture(scope="module")
def on(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A stage without anything between controller and engine."""
    if lacking := missing():
        pytest.skip(f"no private engine here: {lacking}")
    with stage(tmp_path_factory.mktemp("direct")) as built:
        yield built


@pytest.fixture(scope="module")
def through(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A stage with a proxy in between, and event windows of seconds."""
    if lacking := missing():
        pytest.skip(f"no private engine here: {lacking}")
    with stage(tmp_path_factory.mktemp("through"), proxied=True, under=SHORT_WINDOWS) as built:
        yield built


def begin_steady(on: Stage) -> int:
    """A watched container that lasts until its process, which is given, is killed on the host."""
    with on.oracle.deed("steady"):
        if "steady" in on.engine.cli("ps", "-a", "--format", "{{.Names}}").split():
            on.engine.cli("start", "steady")
        else:
            on.engine.run("--name", "steady", "--label", "agentd.watch=true", "--", "sleep", "100000")
    on.controller.wait_for("steady", phase="running")
    return int(on.engine.cli("inspect", "--format", "{{.State.Pid}}", "steady"))


# --- processes die -------------------------------------------------------------------------------------------------


def test_a_controller_that_is_killed_under_load_loses_nothing(on: Stage) -> None:
    kill_controller(on, KILLS_COUNT, random.Random(7))
    on.settle().assert_clean()


@pytest.mark.parametrize("habit", ["without live-restore", "with live-restore"])
def test_a_daemon_that_is_killed_under_load_is_followed(on: Stage, habit: str) -> None:
    on.engine.live_restore = habit == "with live-restore"
    kill_daemon(on, 1)
    on.settle().assert_clean()


def test_a_containerd_that_is_killed_alone_harms_no_session(on: Stage) -> None:
    begin_steady(on)
    for name in on.quiet:
        # A daemon that was killed in an earlier test has taken them with it, and they have no restart policy.
        assert on.controller.request("POST", f"/v1/sessions/{name}/start")[0] == 200
    before = {name: on.controller.session(name)["started_at"] for name in on.quiet}
    with on.oracle.engine_down():
        kill_containerd(on.engine)
    on.settle().assert_clean()
    assert {name: on.controller.session(name)["started_at"] for name in on.quiet} == before


# --- the engine is silent ------------------------------------------------------------------------------------------


def test_what_dies_while_the_daemon_is_frozen_is_told_when_it_thaws(on: Stage) -> None:
    process = begin_steady(on)
    with frozen(on.engine):
        os.kill(process, signal.SIGKILL)
        time.sleep(FREEZE_S)
        assert on.controller.session("steady")["phase"] == "running"
    on.controller.wait_for("steady", phase="failed")
    on.settle().assert_clean()


def test_a_socket_that_is_away_for_a_while_changes_no_session(on: Stage) -> None:
    process = begin_steady(on)
    with without_socket(on.engine):
        time.sleep(AWAY_S)
        os.kill(process, signal.SIGKILL)
    on.controller.wait_for("steady", phase="failed")
    on.settle().assert_clean()


# --- too much ------------------------------------------------------------------------------------------------------


def test_a_storm_beyond_the_ring_hides_no_start_and_no_end(on: Stage) -> None:
    container = on.engine.cli("create", "--name", "storm", "busybox:test", "/bin/true")
    left = iter(range(STORM_SIZE))
    lock = threading.Lock()

    def rename(thread: int) -> None:
        with contextlib.closing(wire(on.engine)) as connection:
            while True:
                with lock:
                    number = next(left, None)
                if number is None:
                    return
                ask(connection, "POST", f"/containers/{container}/rename?name=storm-{thread}-{number}")

    seen_before = on.oracle.seen_count
    with on.under_load(), ThreadPoolExecutor(STORM_THREADS) as threads:
        list(threads.map(rename, range(STORM_THREADS)))
    with on.oracle.deed(container):
        on.engine.cli("rm", container)
    on.settle().assert_clean()
    assert on.oracle.seen_count - seen_before > STORM_SIZE * 0.9


# --- something between lies, cuts, freezes, slows and loses ---------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Spell:
    """One way to misbehave, until it has struck so often."""

    fault: Fault
    of: Callable[[Request], bool] = lambda _: True
    rate: float = 1.0
    strikes: int = 8
    cuts: bool = False
    """Connections break first: a stream that is open keeps what it had, and a connect is to meet the fault too."""

    def rule(self) -> Rule:
        """Breaks a part of the requests that fit."""
        dice = random.Random(3)
        return lambda request: self.fault if self.of(request) and dice.random() < self.rate else None


def _is_stream(request: Request) -> bool:
    return request.is_events


def _is_no_stream(request: Request) -> bool:
    return not request.is_events


def _is_look(request: Request) -> bool:
    return request.is_list or request.is_inspect


def _is_change(request: Request) -> bool:
    return request.is_("POST", "/containers/[^/]+/(start|stop)")


# What cuts comes last: each cut doubles the time that the controller waits before it connects again.
SPELLS: Final[dict[str, Spell]] = {
    "slows": Spell(fault=Drip(piece_bytes=700, every_s=0.02), strikes=20),
    "delays": Spell(fault=Delay(0.4), rate=0.7),
    "garbles answers": Spell(fault=Garble(rate=0.2), of=_is_look, rate=0.7),
    "loses the reply to a change": Spell(fault=LostReply(), of=_is_change, rate=0.6),
    "freezes": Spell(fault=HalfOpen(after_bytes=200), of=_is_no_stream, rate=0.3, strikes=4),
    "freezes the stream": Spell(fault=HalfOpen(after_bytes=400), of=_is_stream, strikes=1, cuts=True),
    "halves a line of the stream": Spell(fault=HalveLine(2), of=_is_stream, strikes=1, cuts=True),
    "answers 500": Spell(fault=Status(500), of=_is_no_stream, rate=0.5, strikes=4, cuts=True),
    "refuses": Spell(fault=Refuse(), rate=0.5, strikes=4, cuts=True),
}


def test_a_proxy_that_misbehaves_in_every_way_leaves_no_trace(through: Stage) -> None:
    with through.under_load():
        for what, spell in SPELLS.items():
            _misbehave(through, what, spell)
    assert through.between is not None
    through.between.proxy.rule = None
    # What is half open stays so until the controller's own limits end it.
    until(through.controller.is_ready, what=f"ready\n{through.controller.log_tail()}", timeout_s=60)
    through.settle().assert_clean()


def _misbehave(through: Stage, what: str, spell: Spell) -> None:
    assert through.between is not None
    proxy = through.between.proxy
    before = proxy.strikes[spell.fault]
    proxy.rule = spell.rule()
    if spell.cuts:
        through.between.break_all()
    until(
        lambda: proxy.strikes[spell.fault] - before >= spell.strikes,
        what=f"it {what}: {proxy.requests[-5:]}\n{through.controller.log_tail()}",
        timeout_s=STRIKE_TIMEOUT_S,
    )


def test_connections_that_are_cut_again_and_again_lose_nothing_and_leave_no_task(through: Stage) -> None:
    assert through.between is not None
    at_rest = _tasks(through)
    with through.under_load():
        for _ in range(CUTS_COUNT):
            through.between.break_all()
            time.sleep(0.3)
    through.settle().assert_clean()
    until(lambda: _tasks(through) <= at_rest, what=f"{at_rest} tasks again, not {_tasks(through)}", timeout_s=30)


def _tasks(on: Stage) -> int:
    return int(str(on.controller.request("GET", "/healthz")[1]["tasks"]))


# --- the ledger's disk ---------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={LEDGER_BYTES}", "none", str(disk)], check=False
    ).returncode:
        pytest.skip("no mount here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_stops_the_work_and_loses_nothing(tmp_path: Path, small_disk: Path) -> None:
    if lacking := missing():
        pytest.skip(f"no private engine here: {lacking}")
    with stage(tmp_path / "life", db=small_disk / "controller.db") as on:
        ballast = small_disk / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 4096)
        with on.under_load():
            until(lambda: not on.controller.is_ready(), what="it says that it cannot write", timeout_s=30)
            time.sleep(FULL_S)
            assert on.controller.alive
            said = on.controller.request("GET", "/readyz")[1]
            assert "full" in str(said), said
        ballast.unlink()
        until(on.controller.is_ready, what=f"ready again\n{on.controller.log_tail()}", timeout_s=60)
        on.settle().assert_clean()


@pytest.fixture
def fragile_disk(tmp_path: Path) -> Iterator[FragileDisk]:
    disk = FragileDisk(tmp_path)
    try:
        if lacking := disk.make():
            pytest.skip(lacking)
        yield disk
    finally:
        disk.close()


def test_a_disk_that_turns_read_only_ends_the_work_and_loses_nothing(tmp_path: Path, fragile_disk: FragileDisk) -> None:
    if lacking := missing():
        pytest.skip(f"no private engine here: {lacking}")
    with stage(tmp_path / "life", db=fragile_disk.path / "controller.db") as on:
        process = begin_steady(on)
        with on.under_load():
            fragile_disk.fail()
            code = on.controller.wait()
            told = [str(line["why"]) for line in on.controller.lines() if line["event"] == "the controller gives up"]
            # Where SQLite's shared memory was just written back, touching it again is a SIGBUS: as good as a kill -9.
            assert (code, len(told)) in ((1, 1), (-signal.SIGBUS, 0)), on.controller.log_tail()
            assert all("controller.db" in why and "nothing of this was written" in why for why in told), told
            os.kill(process, signal.SIGKILL)
            on.controller.start(wait_ready=False)
            assert on.controller.wait() == 1
            assert "Read-only file system" in on.controller.log_tail(1)
        fragile_disk.repair()
        on.controller.start()
        on.controller.wait_for("steady", phase="failed")
        on.settle().assert_clean()


def test_a_ledger_that_cannot_be_written_is_refused_at_the_start(on: Stage, tmp_path: Path, small_disk: Path) -> None:
    there = ControllerProcess(folder=tmp_path / "life", engine_url=on.engine.url, prefix="other")
    there.environment["AGENTD_DB"] = str(small_disk / "controller.db")
    there.db = small_disk / "controller.db"
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    there.start(wait_ready=False)
    assert there.wait() not in (0, 2)
    assert "controller.db" in there.log_tail()
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    with there:
        LedgerFile(there.db).check()
