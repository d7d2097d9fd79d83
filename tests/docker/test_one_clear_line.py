"""What cannot be done is said in one clear line with the right exit code, and nothing is lost by it."""

import json
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.controller_process import ControllerProcess, until
from tests.support.engine_client import EngineClient
from tests.support.ledger_file import LedgerFile
from tests.support.private_engine import PrivateEngine, missing
from tests.support.proxy_thread import proxy_before

pytestmark = pytest.mark.docker

SLEEPS = ("/bin/sleep", "100000")
HOSTILE = "a\x1b[31mb\nlevel=error forged\r<script>x</script>\u202ec\x07\x9bd"
FORBIDDEN = ("\x1b", "\r", "\u202e", "\x07", "\x9b", "\x00")


@pytest.fixture(scope="module")
def own() -> Iterator[PrivateEngine]:
    if lacking := missing():
        pytest.skip(f"no private engine here: {lacking}")
    with PrivateEngine() as engine:
        yield engine


@pytest.fixture(scope="module")
def controller(own: PrivateEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControllerProcess]:
    """One with a session that lives, `live`, and one that it watches, `watched`."""
    folder = tmp_path_factory.mktemp("one")
    with ControllerProcess(folder=folder, engine_url=own.url, stop_grace_s="1") as controller:
        controller.create("live", *SLEEPS)
        own.run("--name", "watched", "--label", "agentd.watch=true", "--", *SLEEPS)
        controller.wait_for("watched", phase="running")
        yield controller


def is_one_line(text: str) -> bool:
    return text.count("\n") == 1 and text.endswith("\n") and "Traceback" not in text


def refused_run(controller: ControllerProcess) -> tuple[int, str]:
    """A life that must not begin: its exit code, and what it said at last, which is one line of plain text."""
    done = controller.ctl("run", timeout_s=30)
    assert is_one_line(done.stderr), done.stderr
    return done.returncode, done.stderr


# --- at start ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("AGENTD_MODE", "boss", "use one of observe, restart, manage"),
        ("AGENTD_PORT", "http", "use a number from 1 to 65535"),
        ("AGENTD_SWEEP_INTERVAL_S", "nan", "use a number from 1 to 86400"),
        ("AGENTD_SHUTDOWN_LEAVE_RUNNING", "perhaps", "use true, 1, yes, false, 0 or no"),
        ("AGENTD_PREFIX", "A/b\x1b[31m", "use a name that matches"),
        ("DOCKER_HOST", "ssh://host", "use unix://PATH or tcp://HOST:PORT"),
    ],
)
def test_a_bad_setting_names_the_variable_the_value_and_what_is_allowed(
    tmp_path: Path, variable: str, value: str, allowed: str
) -> None:
    controller = ControllerProcess(folder=tmp_path, engine_url="unix:///nowhere")
    controller.environment[variable] = value
    code, said = refused_run(controller)
    assert code == 2
    assert variable in said
    assert allowed in said
    assert is_harmless(said)
    assert not controller.db.exists()


def test_a_port_in_use_is_said_before_anything_is_touched(
    own: PrivateEngine, controller: ControllerProcess, tmp_path: Path
) -> None:
    second = ControllerProcess(folder=tmp_path, engine_url=own.url)
    second.environment["AGENTD_PORT"] = str(controller.port)
    code, said = refused_run(second)
    assert (code, f"AGENTD_PORT={controller.port}" in said, "in use" in said) == (2, True, True)
    assert own.cli("ps", "-q", "--no-trunc") != ""
    assert controller.is_ready()


def test_a_second_controller_on_the_same_file_is_kept_out(own: PrivateEngine, controller: ControllerProcess) -> None:
    second = ControllerProcess(folder=controller.folder, engine_url=own.url)
    code, said = refused_run(second)
    assert (code, "held by another controller" in said, f"pid {controller.pid}" in said) == (1, True, True)
    assert controller.is_ready()
    assert controller.session("live")["phase"] == "running"


def spoil_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"this is no ledger at all")


def spoil_middle(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * 8192)


def make_newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 9999")


@pytest.mark.parametrize("spoil", [spoil_header, spoil_middle, make_newer])
def test_a_ledger_that_cannot_be_used_is_said_and_left_as_it_is(
    controller: ControllerProcess, tmp_path: Path, spoil: object
) -> None:
    controller.ctl("backup", str(tmp_path / "controller.db"))
    life = ControllerProcess(folder=tmp_path, engine_url="unix:///nowhere")
    assert callable(spoil)
    spoil(life.db)
    before = life.db.read_bytes()
    code, said = refused_run(life)
    assert (code, str(life.db) in said) == (1, True)
    assert life.db.read_bytes() == before


def test_a_read_only_ledger_is_said(controller: ControllerProcess, tmp_path: Path) -> None:
    folder = tmp_path / "mounted"
    folder.mkdir()
    controller.ctl("backup", str(folder / "controller.db"))
    before = (folder / "controller.db").read_bytes()
    subprocess.run(["mount", "--bind", "-o", "ro", folder, folder], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
    try:
        code, said = refused_run(ControllerProcess(folder=folder, engine_url="unix:///nowhere"))
        assert (code, str(folder) in said, "ead-only" in said) == (1, True, True)
        assert (folder / "controller.db").read_bytes() == before
    finally:
        subprocess.run(["umount", folder], check=True)


def test_without_an_engine_it_waits_says_so_once_and_is_ready_when_it_comes(own: PrivateEngine, tmp_path: Path) -> None:
    with proxy_before(own, "late") as via:
        via.stop_listening()
        controller = ControllerProcess(folder=tmp_path, engine_url=via.url)
        controller.start(wait_ready=False)
        try:
            until(lambda: trouble(controller), what="it says so")
            until(lambda: controller.request("GET", "/readyz")[0] == 503, what="not ready")
            # Several attempts later it has still been said once.
            via.listen()
            until(controller.is_ready, what="ready", timeout_s=30)
            assert trouble(controller) == ["engine trouble", "engine is back"]
            assert controller.stop() == 0
        finally:
            if controller.alive:
                controller.kill()


def trouble(controller: ControllerProcess) -> list[object]:
    if not controller.log.exists():
        return []
    return [line["event"] for line in controller.lines() if str(line["event"]).startswith("engine ")]


# --- on request --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("create", "Bad/Name", "--image", "busybox:test"), 1, "a session name is"),
        (("create", "labelled", "--image", "busybox:test", "--label", "agentd.role=controller"), 1, "agentd.role"),
        (("create", "nothing", "--image", "no-such-image:1"), 1, "no such image: no-such-image:1"),
        (("create", "live", "--image", "busybox:test", "--", "/bin/true"), 1, "exists with another spec"),
        (("rm", "live"), 1, "--force"),
        (("rm", "--force", "watched"), 1, "external"),
        (("stop", "nobody"), 3, "no such session: nobody"),
        (("show", "no\x1b[31mbody"), 3, "no such session"),
        (("adopt", "nobody"), 1, "nobody"),
        (("ps", "--url", "http://127.0.0.1:9"), 4, "no controller answers at http://127.0.0.1:9"),
        (("logs", "nobody"), 3, "no such session: nobody"),
    ],
)
def test_what_is_refused_is_one_line_and_changes_nothing(
    own: PrivateEngine, controller: ControllerProcess, arguments: tuple[str, ...], code: int, words: str
) -> None:
    before = own.cli("ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.State}}")
    done = controller.ctl(*arguments)
    assert (done.returncode, is_one_line(done.stderr)) == (code, True), done.stderr
    assert words in done.stderr
    assert is_harmless(done.stderr)
    assert own.cli("ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.State}}") == before
    assert controller.session("live")["phase"] == "running"
    assert controller.session("watched")["phase"] == "running"


def test_the_same_again_is_done_and_makes_no_second_container(
    own: PrivateEngine, controller: ControllerProcess
) -> None:
    made = ("create", "twice", "--image", "busybox:test", "--", *SLEEPS)
    assert [controller.ctl(*made).returncode for _ in range(2)] == [0, 0]
    assert own.cli("ps", "-aq", "--filter", "label=agentd.session=twice").count("\n") == 0
    assert controller.ctl("rm", "--force", "twice").returncode == 0


@pytest.mark.parametrize(
    "spec",
    [
        {"image": "busybox:test", "colour": "red"},
        {"image": "busybox:test", "labels": {"agentd.prefix": "x"}},
        {"image": "busybox:test", "memory_bytes": "2g"},
        {"image": "bad\nimage"},
    ],
)
def test_a_spec_that_is_not_understood_is_refused_whole(
    controller: ControllerProcess, tmp_path: Path, spec: dict[str, object]
) -> None:
    status, problem = controller.request("POST", "/v1/sessions", {"name": "strange", "spec": spec})
    assert (status, "\n" in str(problem["detail"])) == (422, False)
    file = tmp_path / "spec.json"
    file.write_text(json.dumps(spec))
    done = controller.ctl("create", "strange", "-f", str(file))
    assert (done.returncode in (1, 2), is_one_line(done.stderr)) == (True, True), done.stderr
    assert "strange" not in controller.sessions()


def test_what_takes_too_long_is_5_and_goes_on(controller: ControllerProcess) -> None:
    controller.create("slow", "/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done", stop_grace_s=3)
    done = controller.ctl("stop", "slow", "--timeout", "0.3s")
    assert (done.returncode, is_one_line(done.stderr)) == (5, True), done.stderr
    assert controller.wait_for("slow", phase="stopped")["reason"] == "stopped_by_request"
    assert controller.ctl("rm", "slow").returncode == 0


@pytest.mark.parametrize(
    ("mode", "allowed", "refused"),
    [("observe", (), ("stop", "start", "restart", "rm", "create")), ("restart", ("restart",), ("rm", "create"))],
)
def test_a_mode_refuses_what_it_does_not_allow(
    own: PrivateEngine, tmp_path: Path, mode: str, allowed: tuple[str, ...], refused: tuple[str, ...]
) -> None:
    with ControllerProcess(folder=tmp_path, engine_url=own.url, prefix=f"m-{mode}", mode=mode) as controller:
        name = f"for-{mode}"
        own.run("--name", name, "--label", f"agentd.watch=m-{mode}", "--stop-timeout", "1", "--", *SLEEPS)
        container = controller.wait_for(name, phase="running")["container_id"]
        for command in refused:
            done = controller.ctl(command, name, *(("--image", "busybox:test") if command == "create" else ()))
            assert (done.returncode, is_one_line(done.stderr), mode in done.stderr) == (1, True, True), done.stderr
        assert controller.session(name)["attempt"] == 1
        for command in allowed:
            assert controller.ctl(command, name).returncode == 0
        assert controller.wait_for(name, phase="running")["container_id"] == container
        own.cli("rm", "-f", name)


# --- hostile text ------------------------------------------------------------------------------------------------


def is_harmless(text: str) -> bool:
    return not any(sign in text for sign in FORBIDDEN)


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_text_from_outside_forges_a_line_or_sends_a_code(
    own: PrivateEngine, tmp_path: Path, log_format: str
) -> None:
    name = f"evil-{log_format}"
    labels = {"agentd.watch": f"p-{log_format}", "agentd.session": HOSTILE, "note": HOSTILE, HOSTILE: "x"}
    with ControllerProcess(
        folder=tmp_path, engine_url=own.url, prefix=f"p-{log_format}", log_format=log_format
    ) as controller:
        script = f"printf '{HOSTILE}\\0\\n'; exit 7"
        with closing(EngineClient(own.socket)) as client:
            client.create(name, "/bin/sh", "-c", script, labels=labels, start=True)
            client.create(f"{name}-2", f"/no/such/{HOSTILE}", labels=labels)
        # A failed start brings the engine's own words, with the command in them.
        own.cli("start", f"{name}-2", check=False)
        known = until(lambda: ended(controller, name), what="it has failed")
        controller.ctl("stop", known)
        told: tuple[tuple[str, ...], ...] = (("ps", "--all"), ("show", known), ("timeline", known), ("why", known))
        for command in told:
            done = controller.ctl(*command)
            assert done.returncode == 0, done.stderr
            assert is_harmless(done.stdout + done.stderr), command
            assert "\nlevel=error forged" not in done.stdout
        # A container may print lines as it likes, without the codes.
        logs = controller.ctl("logs", known)
        assert (logs.returncode, is_harmless(logs.stdout)) == (0, True)
        for command in (*told[:3], ("events",)):
            done = controller.ctl(*command, "--format", "json")
            assert is_harmless(done.stdout), command
            for line in done.stdout.splitlines():
                json.loads(line)
        text = controller.log.read_text()
        assert is_harmless(text)
        assert not [line for line in text.split("\n") if line.startswith("level=error")]
        if log_format == "json":
            list(controller.lines())
        assert LedgerFile(controller.db).evidence(known)


def ended(controller: ControllerProcess, container: str) -> str:
    """The name of its session, once that has failed."""
    sessions = controller.sessions().values()
    found = [one for one in sessions if one["container_name"] == container and one["phase"] == "failed"]
    return str(found[0]["name"]) if found else ""
