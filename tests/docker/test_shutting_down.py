"""SIGTERM and SIGINT: every session of ours is stopped side by side under one deadline, or left exactly as it is.

What the engine says happened is compared with what the ledger says, and the next start begins from there.
"""

import os
import signal
import time
from collections import Counter
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.controller_process import ControllerProcess, Json, until
from tests.support.event_record import EventRecord, names
from tests.support.ledger_file import LedgerFile
from tests.support.private_engine import PrivateEngine

pytestmark = pytest.mark.docker

IGNORES_TERM = ("/bin/sh", "-c", "trap '' TERM; sleep 100000 & while :; do wait; done")
HEEDS_TERM = ("/bin/sh", "-c", "trap 'exit 0' TERM; sleep 100000 & wait")
FAILS = ("/bin/sh", "-c", "echo its last words; exit 3")
SESSIONS_COUNT = 50
GRACE_S = 10.0
TIMEOUT_S = 30.0


def started_at(engine: PrivateEngine, container: str) -> str:
    return engine.cli("inspect", "--format", "{{.State.StartedAt}} {{.State.Running}}", container)


def truth(engine: PrivateEngine) -> dict[str, str]:
    """Every container by id, with its state and its start."""
    ids = engine.cli("ps", "-aq", "--no-trunc").split()
    form = "{{.Id}} {{.State.Status}} {{.State.StartedAt}}"
    told = engine.cli("inspect", "--format", form, *ids).splitlines() if ids else []
    return {line.split()[0]: line for line in told}


def create_many(
    controller: ControllerProcess, wanted: set[str], *command: str, always: Collection[str] = (), **spec: object
) -> None:
    def create(name: str) -> None:
        controller.create(name, *command, wait=True, restart={"mode": "always" if name in always else "no"}, **spec)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(create, wanted))


def in_phase(controller: ControllerProcess, phase: str, wanted: set[str], *, attempt: int) -> dict[str, Json]:
    def found() -> dict[str, Json]:
        sessions = controller.sessions()
        fits = all(sessions[name]["phase"] == phase and sessions[name]["attempt"] == attempt for name in wanted)
        return sessions if fits else {}

    return until(found, what=f"{len(wanted)} sessions are {phase} in attempt {attempt}", timeout_s=60)


@pytest.mark.timeout(240)
def test_fifty_sessions_that_ignore_the_signal_are_stopped_under_one_grace_and_come_back(
    engine: PrivateEngine, tmp_path: Path
) -> None:
    engine.run("--name", "watched", "--label", "agentd.watch=true", "--", *HEEDS_TERM)
    engine.run("--name", "both", "--label", "agentd.watch=true", "--label", "agentd.prefix=agentd", "--", *HEEDS_TERM)
    engine.run("--name", "stranger", "--", *HEEDS_TERM)
    external = {name: started_at(engine, name) for name in ("watched", "both", "stranger")}
    returning = {f"always-{number}" for number in range(SESSIONS_COUNT // 2)}
    staying = {f"once-{number}" for number in range(SESSIONS_COUNT // 2)}
    with ControllerProcess(folder=tmp_path, engine_url=engine.url, orphan_grace_s="0") as controller:
        create_many(controller, returning | staying, *IGNORES_TERM, always=returning)
        with EventRecord(engine) as record:
            asked_at = time.monotonic()
            assert controller.stop() == 0
            took_s = time.monotonic() - asked_at

            terms = record.so_far("kill")
            first = [one.at for one in terms if one.attributes["signal"] == "15"]
            dead = record.so_far("die")
        assert GRACE_S <= took_s < TIMEOUT_S
        assert len(first) == SESSIONS_COUNT
        # Side by side: the last one was asked before the first one's grace was over.
        assert (max(first) - min(first)) / 1e9 < GRACE_S
        assert names(terms) == names(dead) == {f"agentd-{name}" for name in returning | staying}
        assert {one.attributes["exitCode"] for one in dead} == {"137"}
        assert {name: started_at(engine, name) for name in external} == external

        ledger = LedgerFile(controller.db)
        ledger.check()
        assert not [action for action in ledger.actions() if action["state"] == "open"]
        stopped = [row for row in ledger.transitions() if row["to_phase"] == "stopped"]
        assert Counter(row["reason"] for row in stopped) == {"controller_shutdown": SESSIONS_COUNT}
        assert {row["actor"] for row in stopped} == {"controller"}
        assert {row["exit"]["exit_code"] for row in stopped} == {137}
        printed = {line["seq"] for line in controller.lines() if line["event"] == "transition"}
        assert {row["seq"] for row in ledger.rows("transition")} == printed
        assert list(controller.lines())[-1]["event"] == "stopped"

        controller.start()
        sessions = in_phase(controller, "running", returning, attempt=2)
        for name in staying:
            assert (sessions[name]["phase"], sessions[name]["reason"]) == ("stopped", "controller_shutdown")
        controller.reconcile()
        assert {name: started_at(engine, name) for name in external} == external
        running = engine.cli("ps", "--format", "{{.Names}}").split()
        assert sorted(running) == sorted([*external, *(f"agentd-{name}" for name in returning)])
        ledger.check()


def test_what_is_left_running_is_adopted_as_it_is_by_the_next_start(engine: PrivateEngine, tmp_path: Path) -> None:
    engine.run("--name", "watched", "--label", "agentd.watch=true", "--", *HEEDS_TERM)
    wanted = {f"s{number}" for number in range(4)}
    with (
        EventRecord(engine) as record,
        ControllerProcess(
            folder=tmp_path, engine_url=engine.url, orphan_grace_s="0", shutdown_leave_running="true"
        ) as controller,
    ):
        create_many(controller, wanted, *HEEDS_TERM, always=wanted)
        controller.create("failed", *FAILS)
        controller.wait_for("failed", phase="failed")
        until(lambda: LedgerFile(controller.db).evidence("failed"), what="the evidence is kept")
        before = truth(engine)
        told_before = controller.sessions()

        for signal_number in (signal.SIGTERM, signal.SIGINT):
            assert controller.stop(signal_number=signal_number) == 0
            assert truth(engine) == before
            controller.start()
            controller.reconcile()
            assert truth(engine) == before
            told = controller.sessions()
            for name, was in told_before.items():
                same = ("phase", "reason", "attempt", "restarts", "container_id", "started_at", "finished_at", "exit")
                assert {key: told[name][key] for key in same} == {key: was[key] for key in same}

        ledger = LedgerFile(controller.db)
        assert ledger.evidence("failed")[0]["tail"]["lines"] == ["its last words"]
        assert not record.so_far("kill", "stop", "destroy")
        ledger.check()


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_hurries_and_the_next_start_knows_what_became_of_it(
    engine: PrivateEngine, tmp_path: Path, signal_number: int
) -> None:
    wanted = {f"s{number}" for number in range(3)}
    with (
        EventRecord(engine) as record,
        ControllerProcess(folder=tmp_path, engine_url=engine.url, stop_grace_s="2") as controller,
    ):
        create_many(controller, wanted, *IGNORES_TERM, stop_grace_s=20)
        os.kill(controller.pid, signal_number)
        until(lambda: len(record.so_far("kill")) == len(wanted), what="all are asked to stop")
        asked_at = time.monotonic()
        assert controller.stop(signal_number=signal_number) == 0
        assert time.monotonic() - asked_at < 10

        # Whatever the engine makes of the stops that were cut short is found, and carried through.
        controller.start()
        for name in wanted:
            engine.cli("kill", f"agentd-{name}", check=False)
            told = controller.wait_for(name, phase="stopped", timeout_s=60)
            assert told["reason"] == "controller_shutdown"
        LedgerFile(controller.db).check()


def test_the_first_process_of_a_container_stops_as_well(engine: PrivateEngine, tmp_path: Path) -> None:
    under = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    with ControllerProcess(folder=tmp_path, engine_url=engine.url, under=under) as controller:
        controller.create("heeds", *HEEDS_TERM)
        controller.create("ignores", *IGNORES_TERM, stop_grace_s=1)
        (child,) = Path(f"/proc/{controller.pid}/task/{controller.pid}/children").read_text().split()
        assert Path(f"/proc/{child}/status").read_text().split("NSpid:")[1].split()[1] == "1"
        os.kill(int(child), signal.SIGTERM)
        assert controller.wait() == 0
        assert engine.cli("ps", "-q") == ""
        ledger = LedgerFile(controller.db)
        ledger.check()
        assert {session["reason"] for session in ledger.sessions()} == {"controller_shutdown"}


def test_a_grace_longer_than_the_deadline_is_cut_so_that_the_last_commit_fits(
    engine: PrivateEngine, tmp_path: Path
) -> None:
    with ControllerProcess(folder=tmp_path, engine_url=engine.url, shutdown_timeout_s="8") as controller:
        controller.create("stubborn", *IGNORES_TERM, stop_grace_s=600)
        asked_at = time.monotonic()
        assert controller.stop() == 0
        assert time.monotonic() - asked_at < 12
        assert engine.cli("ps", "-q") == ""
        (session,) = LedgerFile(controller.db).sessions()
        assert (session["phase"], session["reason"]) == ("stopped", "controller_shutdown")
