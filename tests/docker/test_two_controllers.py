"""Who owns what: two controllers on one engine, two on one ledger, and another engine behind the same address.

Nobody touches what is not his, by the engine's own record of what happened.
"""

from pathlib import Path

import pytest

from tests.support.controller_process import ControllerProcess, Json, until
from tests.support.event_record import EventRecord, names
from tests.support.ledger_file import LedgerFile
from tests.support.private_engine import PrivateEngine
from tests.support.proxy_thread import proxy_before

pytestmark = pytest.mark.docker

HEEDS_TERM = ("/bin/sh", "-c", "trap 'exit 0' TERM; sleep 100000 & wait")
SWEEPS_COUNT = 3
HARM = ("kill", "stop", "die", "destroy", "start")


def line_about(lines: list[Json], name: str) -> Json:
    """The one line of a plan that is about that container."""
    (line,) = [line for line in lines if line["name"] == name]
    return line


def test_two_controllers_with_one_prefix_leave_each_others_containers_alone(
    engine: PrivateEngine, tmp_path: Path
) -> None:
    with (
        ControllerProcess(folder=tmp_path / "first", engine_url=engine.url, orphan_grace_s="0") as first,
        ControllerProcess(folder=tmp_path / "second", engine_url=engine.url, orphan_grace_s="0") as second,
    ):
        for number in range(3):
            first.create(f"a{number}", *HEEDS_TERM, restart={"mode": "always"})
            second.create(f"b{number}", *HEEDS_TERM, restart={"mode": "always"})
        first.create("ended", "/bin/true")
        first.wait_for("ended", phase="stopped")
        with EventRecord(engine) as record:
            for _ in range(SWEEPS_COUNT):
                for one, others in ((first, ("b0", "b1", "b2")), (second, ("a0", "a1", "a2", "ended"))):
                    lines = one.reconcile()
                    assert {str(line["name"]) for line in lines} == {f"agentd-{name}" for name in others}
                    assert {str(line["finding"]) for line in lines} == {"foreign"}
                    assert {str(line["action"]) for line in lines} == {"none"}
            applied = second.ctl("orphans", "--apply")
            assert (applied.returncode, applied.stdout.count("it belongs to another controller")) == (0, 4)
            assert record.so_far(*HARM) == []

            # A name that the other one uses already is refused, with whose it is; the other one's container stays.
            status, refused = second.request("POST", "/v1/sessions", {"name": "a0", "spec": {"image": "busybox:test"}})
            assert (status, refused.get("phase"), refused.get("reason")) in [
                (200, "failed", "start_failed"),
                (201, "failed", "start_failed"),
            ]
            assert "agentd-a0" in str(refused["message"])
            assert "not of this controller" in str(refused["message"])
            assert second.request("DELETE", "/v1/sessions/a0")[0] == 200
            assert record.so_far(*HARM) == []

            # One that stops takes only its own along.
            assert second.stop() == 0
            assert names(record.so_far("kill")) == {"agentd-b0", "agentd-b1", "agentd-b2"}
        running = engine.cli("ps", "--format", "{{.Names}}").split()
        assert sorted(running) == ["agentd-a0", "agentd-a1", "agentd-a2"]
        LedgerFile(first.db).check()
        LedgerFile(second.db).check()


def test_after_the_ledger_is_lost_old_containers_are_foreign_until_they_are_adopted(
    engine: PrivateEngine, tmp_path: Path
) -> None:
    with ControllerProcess(folder=tmp_path / "old", engine_url=engine.url) as old:
        old.create("worker", *HEEDS_TERM)
        old.kill()
    container = engine.cli("inspect", "-f", "{{.Id}}", "agentd-worker")
    with (
        EventRecord(engine) as record,
        ControllerProcess(folder=tmp_path / "new", engine_url=engine.url, orphan_grace_s="0") as new,
    ):
        assert line_about(new.reconcile(), "agentd-worker")["finding"] == "foreign"
        adopted = new.ctl("adopt", container[:12])
        assert adopted.returncode == 0, adopted.stderr
        told = new.wait_for("worker", phase="running", container_id=container)
        assert (told["attempt"], told["external"]) == (1, False)
        for _ in range(SWEEPS_COUNT):
            assert new.reconcile() == []
        assert record.so_far(*HARM) == []

        # From then on it is its own: it can be stopped and started, and is known to the next life.
        assert new.request("POST", "/v1/sessions/worker/restart")[0] == 200
        new.kill()
        new.start()
        assert new.reconcile() == []
        assert new.session("worker")["attempt"] == 2
        assert engine.cli("ps", "-q", "--no-trunc") == container
        LedgerFile(new.db).check()


def test_a_second_controller_on_the_same_ledger_is_refused_with_one_line(engine: PrivateEngine, tmp_path: Path) -> None:
    with ControllerProcess(folder=tmp_path / "first", engine_url=engine.url) as first:
        first.create("worker", *HEEDS_TERM)
        with EventRecord(engine) as record:
            second = ControllerProcess(folder=tmp_path / "second", engine_url=engine.url, db=str(first.db))
            second.start(wait_ready=False)
            assert second.wait() == 1
            (line,) = second.log.read_text().splitlines()
            assert str(first.db) in line
            assert str(first.pid) in line
            assert record.so_far() == []
        assert first.is_ready()
        assert first.session("worker")["phase"] == "running"
        LedgerFile(first.db).check()

        # A kill releases it at once: there is nothing to clean up.
        first.kill()
        second.start()
        assert second.session("worker")["attempt"] == 1
        second.kill()


@pytest.mark.timeout(240)
def test_another_engine_behind_the_same_address_is_not_touched_until_it_is_accepted(
    engine: PrivateEngine, own_engine: PrivateEngine, tmp_path: Path
) -> None:
    other = own_engine
    with (
        proxy_before(engine) as address,
        ControllerProcess(
            folder=tmp_path / "controller", engine_url=address.url, orphan_grace_s="0", sweep_interval_s="1"
        ) as controller,
    ):
        controller.create("worker", *HEEDS_TERM, restart={"mode": "always"})
        controller.create("once", *HEEDS_TERM)
        ledger = LedgerFile(controller.db)
        claims = ("--label", "agentd.prefix=agentd", "--label", f"agentd.controller={ledger.controller_id()}")
        other.run("--name", "looks-like-ours", *claims, "--", *HEEDS_TERM)
        other.run("--name", "agentd-worker", *claims, "--label", "agentd.session=worker", "--", *HEEDS_TERM)
        with EventRecord(engine) as here, EventRecord(other) as there:
            address.lead_to(other)
            until(lambda: not controller.is_ready(), what="it is not ready")
            checks = until(lambda: _refusal_of_engine(controller), what="it says whose engine it is")
            assert "nothing is done until it is accepted" in checks
            before = {name: controller.session(name) for name in ("worker", "once")}
            assert {told["phase"] for told in before.values()} == {"running"}

            assert controller.request("POST", "/v1/reconcile")[0] == 503
            assert controller.ctl("orphans", "--apply").returncode == 4
            assert controller.request("POST", "/v1/sessions/once/stop?wait=false")[0] in (200, 202, 503)
            # A new life finds the same stranger, and waits as well.
            controller.kill()
            controller.start(wait_ready=False)
            until(lambda: _refusal_of_engine(controller), what="the next life says so too")
            assert not controller.is_ready()
            assert there.so_far() == []
            assert here.so_far() == []
            told = [line for line in controller.lines() if "the ledger belongs to" in str(line.get("why"))]
            assert len(told) == 2, "one line a life"

            accepted = controller.ctl("accept-engine")
            assert accepted.returncode == 0, accepted.stderr
            until(controller.is_ready, what="it is ready", timeout_s=60)
            # Now they are orphans here, and the sessions' containers are gone.
            until(lambda: {"looks-like-ours"} <= names(there.so_far("destroy")), what="its orphan is removed")
            until(lambda: controller.session("once")["phase"] != "running", what="its container is known to be gone")
            assert here.so_far() == []
        running = engine.cli("ps", "--format", "{{.Names}}").split()
        assert sorted(running) == ["agentd-once", "agentd-worker"]
        ledger.check()


def _refusal_of_engine(controller: ControllerProcess) -> str:
    try:
        _, body = controller.request("GET", "/readyz", timeout_s=5)
    except OSError:
        return ""
    checks = body["checks"]
    assert isinstance(checks, dict)
    said = str(checks["engine"])
    return said if "the ledger belongs to" in said else ""
