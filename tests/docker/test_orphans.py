"""Containers that carry our labels and that no record knows: which are removed, which are spared, and why.

The plan is read as a person reads it, through `agentdctl`; what came of it is read from the engine.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.controller_process import ControllerProcess, Json, until
from tests.support.event_record import EventRecord, names
from tests.support.fault_proxy import Fault, Hold, Request
from tests.support.ledger_file import LedgerFile
from tests.support.private_engine import BUSYBOX_IMAGE, PrivateEngine
from tests.support.proxy_thread import proxy_before

pytestmark = pytest.mark.docker

HEEDS_TERM = ("/bin/sh", "-c", "trap 'exit 0' TERM; echo it ran; sleep 100000 & wait")
FAILS = ("/bin/sh", "-c", "echo its last words; exit 3")
OURS = ("--label", "agentd.prefix=agentd", "--network", "none")
HARM = ("kill", "stop", "die", "destroy")


def plan(controller: ControllerProcess, *command: str) -> dict[str, Json]:
    """What a command of `agentdctl` prints, by container name."""
    done = controller.ctl("--format", "json", *command)
    assert done.returncode == 0, done.stderr
    return {str(line["name"]): line for line in map(json.loads, done.stdout.splitlines())}


def dry_run(controller: ControllerProcess) -> dict[str, Json]:
    return plan(controller, "reconcile", "--dry-run")


def facts(line: Json) -> tuple[object, object]:
    return line["finding"], line["action"]


def has_died(engine: PrivateEngine, name: str) -> Callable[[], bool]:
    return lambda: engine.cli("inspect", "-f", "{{.State.Status}}", name) == "exited"


def present(engine: PrivateEngine) -> set[str]:
    return set(engine.cli("ps", "-a", "--format", "{{.Names}}").split())


def test_orphans_running_or_exited_are_removed_at_the_next_start_with_their_end_on_record(
    engine: PrivateEngine, tmp_path: Path
) -> None:
    engine.run("--name", "exited", *OURS, "-v", "/scratch", "-v", "kept:/kept", "--", *FAILS)
    engine.run("--name", "running", *OURS, "--label", "agentd.session=agentd-worker", "--", *HEEDS_TERM)
    engine.cli("create", "--name", "created", *OURS, BUSYBOX_IMAGE)
    until(has_died(engine, "exited"), what="it has exited")
    with (
        EventRecord(engine) as record,
        ControllerProcess(folder=tmp_path, engine_url=engine.url, orphan_grace_s="0", stop_grace_s="3") as controller,
    ):
        until(lambda: present(engine) == set(), what="all orphans are removed")
        told = {one["name"]: one for one in LedgerFile(controller.db).sessions()}
        until(lambda: controller.sessions()["worker"]["removed_at"], what="the removal is committed")
        # No force: the running one was asked to stop first, and none was killed.
        assert [one.attributes["signal"] for one in record.so_far("kill")] == ["15"]
        assert engine.cli("volume", "ls", "-q") == "kept"

        ledger = LedgerFile(controller.db)
        assert set(told) == {"exited", "worker", "created"}
        for name, lines, code in (("exited", ["its last words"], 3), ("worker", ["it ran"], 0)):
            (kept,) = ledger.evidence(name)
            assert kept["tail"]["lines"] == lines
            session = controller.sessions()[name]
            assert (session["reason"], _exit_code(session)) == ("orphan_removed", code)
            (removal,) = [one for one in ledger.actions("remove") if one["session_id"] == kept["session_id"]]
            assert kept["kept_at"] <= removal["decided_at"]
        ledger.check()


def _exit_code(session: Json) -> object:
    end = session["exit"]
    assert isinstance(end, dict)
    return end["exit_code"]


def test_everything_that_is_spared_is_listed_with_its_reason(engine: PrivateEngine, tmp_path: Path) -> None:
    spared = {
        "young": (OURS, ("spared", "none"), "the grace is 300 s"),
        "foreign": (
            (*OURS, "--label", "agentd.controller=0123456789abcdef"),
            ("foreign", "none"),
            "another controller",
        ),
        "controller": ((*OURS, "--label", "agentd.role=controller"), ("controller", "none"), "it is a controller"),
        "watched": ((*OURS, "--label", "agentd.watch=true"), ("spared", "none"), "it is watched"),
    }
    for name, (labels, _, _) in spared.items():
        engine.run("--name", name, *labels, "--", *HEEDS_TERM)
    engine.run("--name", "nobodys", "--network", "none", "--", *HEEDS_TERM)
    with (
        EventRecord(engine) as record,
        ControllerProcess(folder=tmp_path, engine_url=engine.url) as controller,
    ):
        controller.create("session", *HEEDS_TERM)
        controller.wait_for("watched", phase="running")
        assert controller.session("watched")["external"] is True
        for command in (("reconcile", "--dry-run"), ("orphans",), ("reconcile",), ("orphans", "--apply")):
            lines = plan(controller, *command)
            for name, (_, expected, reason) in spared.items():
                if name == "controller" and command[0] == "orphans":
                    continue
                assert facts(lines[name]) == expected, command
                assert reason in str(lines[name]["reason"])
            assert "nobodys" not in lines
            assert "agentd-session" not in lines
        assert present(engine) == {*spared, "nobodys", "agentd-session"}
        table = controller.ctl("orphans").stdout
        assert all(reason in table for name, (_, _, reason) in spared.items() if name != "controller")
        assert record.so_far(*HARM) == []
        LedgerFile(controller.db).check()


def test_a_session_that_is_just_being_created_is_no_orphan(engine: PrivateEngine, tmp_path: Path) -> None:
    """The engine has made the container, and the controller does not know it yet."""
    hold = Hold()

    def rule(request: Request) -> Fault | None:
        # The create itself passes; the look at what came of it is held.
        return hold if request.is_inspect and request.path.count("agentd-") == 0 else None

    with (
        proxy_before(engine) as between,
        EventRecord(engine) as record,
        ControllerProcess(folder=tmp_path, engine_url=between.url, orphan_grace_s="0") as controller,
    ):
        between.proxy.rule = rule
        controller.create("fresh", *HEEDS_TERM, wait=False)
        until(lambda: hold.held >= 1, what="it is created, and not looked at yet")
        assert facts(dry_run(controller)["agentd-fresh"]) == ("spared", "none")
        line = plan(controller, "reconcile")["agentd-fresh"]
        assert line["reason"] == "its session is being created"
        assert record.so_far(*HARM) == []
        between.release(hold)
        controller.wait_for("fresh", phase="running", attempt=1)
        assert len(record.so_far("create", container="agentd-fresh")) == 1
        assert dry_run(controller) == {}
        LedgerFile(controller.db).check()


def test_an_orphan_that_is_started_again_between_plan_and_removal_is_spared(
    engine: PrivateEngine, tmp_path: Path
) -> None:
    hold = Hold()
    engine.run(
        "--name",
        "phoenix",
        *OURS,
        "--",
        "/bin/sh",
        "-c",
        "[ -e /born ] || { touch /born; exit 3; }; trap 'exit 0' TERM; sleep 100000 & wait",
    )
    until(has_died(engine, "phoenix"), what="it has exited")
    with (
        proxy_before(engine) as between,
        EventRecord(engine) as record,
        ControllerProcess(
            folder=tmp_path, engine_url=between.url, orphan_grace_s="5", orphan_policy="report"
        ) as controller,
    ):
        until(lambda: facts(dry_run(controller)["phoenix"]) == ("orphan", "report"), what="it is old enough")
        between.proxy.rule = lambda request: hold if request.method == "DELETE" else None
        applied = plan(controller, "orphans", "--apply")["phoenix"]
        assert facts(applied) == ("orphan", "remove")
        until(lambda: hold.held == 1, what="the removal is on its way")
        engine.cli("start", "phoenix")
        between.release(hold)

        name = "phoenix"
        until(lambda: "orphan_spared" in _reasons(controller, name), what="it is spared")
        assert engine.cli("inspect", "-f", "{{.State.Running}}", name) == "true"
        assert record.so_far("kill", "stop", "destroy") == []
        line = dry_run(controller)[name]
        assert facts(line) == ("spared", "none")
        assert "the grace is 5 s" in str(line["reason"])

        # Nothing is for ever: once it is old enough again, and asked for, it goes.
        until(lambda: facts(dry_run(controller)[name]) == ("orphan", "report"), what="it is old enough again")
        assert facts(plan(controller, "orphans", "--apply")[name]) == ("orphan", "remove")
        until(lambda: present(engine) == set(), what="it is removed after all")
        LedgerFile(controller.db).check()


def test_a_running_orphan_that_is_restarted_before_its_stop_is_spared(engine: PrivateEngine, tmp_path: Path) -> None:
    hold = Hold()
    container = engine.run("--name", "busy", *OURS, "--", *HEEDS_TERM)
    inspects = 0

    def before_the_stop(request: Request) -> Fault | None:
        # The plan's inspect, the sweep's own, and the one just before the stop is sent.
        nonlocal inspects
        if request.is_("GET", f"/containers/{container}/json"):
            inspects += 1
            return hold if inspects == 3 else None
        return None

    with (
        proxy_before(engine) as between,
        EventRecord(engine) as record,
        ControllerProcess(
            folder=tmp_path, engine_url=between.url, orphan_grace_s="0", orphan_policy="report"
        ) as controller,
    ):
        between.proxy.rule = before_the_stop
        assert facts(plan(controller, "orphans", "--apply")["busy"]) == ("orphan", "remove")
        until(lambda: hold.held == 1, what="it is looked at before its stop")
        engine.cli("restart", "busy")
        mine = len(record.so_far("kill"))
        between.release(hold)
        until(lambda: "superseded" in _reasons(controller, "busy"), what="the stop is superseded")
        assert engine.cli("inspect", "-f", "{{.State.Running}}", "busy") == "true"
        assert len(record.so_far("kill")) == mine
        assert record.so_far("destroy") == []
        LedgerFile(controller.db).check()


def _reasons(controller: ControllerProcess, name: str) -> list[object]:
    return [row["reason"] for row in LedgerFile(controller.db).rows() if row["session"] == name]


def test_with_the_policy_report_nothing_is_touched_until_somebody_asks(engine: PrivateEngine, tmp_path: Path) -> None:
    engine.run("--name", "left", *OURS, "--", *HEEDS_TERM)
    engine.run("--name", "over", *OURS, "--", *FAILS)
    until(has_died(engine, "over"), what="it has exited")
    with (
        EventRecord(engine) as record,
        ControllerProcess(
            folder=tmp_path, engine_url=engine.url, orphan_grace_s="0", orphan_policy="report"
        ) as controller,
    ):
        for command in (("reconcile", "--dry-run"), ("reconcile",), ("orphans",)):
            lines = plan(controller, *command)
            assert {name: facts(line) for name, line in lines.items()} == dict.fromkeys(
                ("left", "over"), ("orphan", "report")
            )
            assert {line["reason"] for line in lines.values()} == {"the orphan policy is report"}
        assert record.so_far() == []
        assert controller.sessions() == {}

        assert {facts(line) for line in plan(controller, "orphans", "--apply").values()} == {("orphan", "remove")}
        until(lambda: present(engine) == set(), what="both are removed")
        assert names(record.so_far("kill")) == {"left"}
        LedgerFile(controller.db).check()


def test_with_the_policy_adopt_they_become_sessions_as_they_are(engine: PrivateEngine, tmp_path: Path) -> None:
    left = engine.run("--name", "left", *OURS, "--label", "agentd.session=agentd-worker", "--", *HEEDS_TERM)
    over = engine.run("--name", "over", *OURS, "--", *FAILS)
    until(has_died(engine, "over"), what="it has exited")
    with (
        EventRecord(engine) as record,
        ControllerProcess(
            folder=tmp_path, engine_url=engine.url, orphan_grace_s="0", orphan_policy="adopt"
        ) as controller,
    ):
        worker = controller.wait_for("worker", phase="running", container_id=left)
        ended = controller.wait_for("over", phase="failed", container_id=over)
        assert (worker["external"], ended["external"]) == (False, False)
        assert (ended["reason"], _exit_code(ended)) == ("error_exit", 3)
        assert record.so_far() == []
        assert dry_run(controller) == {}

        assert controller.ctl("rm", "--force", "worker", "over").returncode == 0
        assert present(engine) == set()
        LedgerFile(controller.db).check()


def test_one_container_is_taken_over_on_request_and_a_controller_never(engine: PrivateEngine, tmp_path: Path) -> None:
    nobodys = engine.run("--name", "nobodys", "--network", "none", "--", *HEEDS_TERM)
    engine.run("--name", "other", *OURS, "--label", "agentd.role=controller", "--", *HEEDS_TERM)
    with (
        EventRecord(engine) as record,
        ControllerProcess(folder=tmp_path, engine_url=engine.url, orphan_grace_s="0") as controller,
    ):
        assert controller.ctl("adopt", "nobodys").returncode == 0
        assert controller.wait_for("nobodys", phase="running")["container_id"] == nobodys
        for target, why in (
            ("nobodys", "a session has it already"),
            ("other", "it is a controller"),
            ("nothing", "no such container"),
        ):
            refused = controller.ctl("adopt", target)
            assert refused.returncode in (1, 3)
            assert why in refused.stderr.lower()
            assert refused.stderr.count("\n") == 1
        # It carries no label of ours, and still is neither missing nor an orphan.
        assert facts(dry_run(controller)["other"]) == ("controller", "none")
        controller.reconcile()
        assert controller.session("nobodys")["phase"] == "running"
        assert record.so_far() == []
        LedgerFile(controller.db).check()


def test_an_orphan_that_claims_a_sessions_name_does_not_disturb_it(engine: PrivateEngine, tmp_path: Path) -> None:
    with ControllerProcess(folder=tmp_path, engine_url=engine.url, orphan_grace_s="0") as controller:
        controller.create("worker", *HEEDS_TERM)
        # An event's time stands in for StartedAt until a look has told it.
        begun = engine.cli("inspect", "--format", "{{.State.StartedAt}}", "agentd-worker")
        # The engine leaves out zeros at the end.
        until(
            lambda: str(controller.session("worker")["started_at"]).rstrip("0Z") == begun.rstrip("0Z"),
            what="its StartedAt is known",
        )
        before = controller.session("worker")
        engine.run("--name", "impostor", *OURS, "--label", "agentd.session=worker", "--", *HEEDS_TERM)
        assert facts(dry_run(controller)["impostor"]) == ("orphan", "remove")
        controller.reconcile()
        until(lambda: present(engine) == {"agentd-worker"}, what="the impostor is removed")
        after = controller.session("worker")
        assert {**after, "reachable": True} == {**before, "reachable": True}
        removed = [one for one in LedgerFile(controller.db).sessions() if one["origin"] == "orphan"]
        assert len(removed) == 1
        assert removed[0]["name"].startswith("worker-")
        LedgerFile(controller.db).check()
