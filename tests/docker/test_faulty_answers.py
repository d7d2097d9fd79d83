"""Could not ask is not gone: whatever an engine answers, nothing is believed that it did not say, and it passes.

The proxy stands between a real controller and a real engine. Most of each case is waiting for a back-off or a time
limit of the controller's, so the cases run side by side, each on sessions of its own, and every test takes its result.
"""

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.support.controller_process import ControllerProcess, Json, until
from tests.support.fault_proxy import (
    Delay,
    Fault,
    PassLines,
    Refuse,
    ReplaceBody,
    Request,
    Reset,
    Rule,
    Spoil,
    Status,
    always,
    empty_list,
    half_body,
    times,
)
from tests.support.ledger_file import LedgerFile
from tests.support.private_engine import BUSYBOX_IMAGE, PrivateEngine, missing
from tests.support.proxy_thread import ProxyThread, proxy_before
from tests.support.short_windows import SHORT_WINDOWS

pytestmark = pytest.mark.docker

HEEDS_TERM: Final = ("/bin/sh", "-c", "trap 'exit 0' TERM; sleep 100000 & wait")
ENDS_WITH_ITS_SLEEP: Final = ("/bin/sh", "-c", "sleep 100000; exit 3")
KEPT: Final = ("phase", "desired", "health", "reason", "attempt", "restarts", "container_id", "exit", "removed_at")
HANG: Final = Delay(3600)
LONG: Final = 1024 * 1024 + 1
READY_AGAIN_S: Final = 90.0

Which = Callable[[Request], bool]


def lists(label: str) -> Which:
    return lambda request: request.is_list and label in request.query


KINDS: Final[dict[str, Which]] = {
    "version": lambda request: request.is_("GET", "/version"),
    "info": lambda request: request.is_("GET", "/info"),
    "events": lambda request: request.is_events,
    "list of ours": lists("agentd.prefix"),
    "list of external ones": lists("agentd.watch"),
    "inspect": lambda request: request.is_inspect,
}
FAULTS: Final[dict[str, Fault]] = {
    "500": Status(500),
    "hangs up": Refuse(),
    "breaks off": Reset(200),
    "empty": Status(200, b""),
    "half": ReplaceBody(half_body),
    "not json": Status(200, b"<html>\x1b[31m"),
}


class World:
    """One controller behind a proxy, with a session of its own and one that it watches."""

    def __init__(self, engine: PrivateEngine, folder: Path, name: str, *, under: tuple[str, ...] = ()) -> None:
        self.engine = engine
        self.name = name
        self._proxy = proxy_before(engine, name)
        self.via: ProxyThread = self._proxy.__enter__()
        self.controller = ControllerProcess(
            folder=folder / name, engine_url=self.via.url, under=under, prefix=name, shutdown_leave_running="true"
        )
        self.ledger = LedgerFile(self.controller.db)
        self.watched = f"{name}-web"

    def begin(self) -> None:
        self.controller.start()
        self.run(self.watched)
        self.controller.create("own", *HEEDS_TERM, restart={"mode": "always"})
        self.controller.wait_for(self.watched, phase="running")

    def run(self, name: str, *command: str, options: tuple[str, ...] = ()) -> None:
        label = f"agentd.watch={self.name}"
        self.engine.run("--name", name, "--label", label, "--network", "none", *options, "--", *(command or HEEDS_TERM))

    def end(self) -> None:
        if self.controller.alive:
            self.controller.kill()
        self._proxy.__exit__(None, None, None)

    def told(self) -> dict[str, Json]:
        """What the controller says of each session of this world."""
        found = self.controller.sessions()
        return {name: {key: found[name][key] for key in KEPT} for name in ("own", self.watched)}

    def standings(self) -> dict[str, tuple[object, ...]]:
        """Where each session stands, of this world and beside it."""
        found = self.controller.sessions()
        return {name: (one["phase"], one["attempt"], one["container_id"]) for name, one in found.items()}

    def truth(self) -> str:
        """What the engine itself says of their containers."""
        form = "{{.Id}} {{.State.Status}} {{.State.StartedAt}} {{.RestartCount}}"
        return self.engine.cli("inspect", "--format", form, f"{self.name}-own", self.watched)

    def is_not_ready(self) -> bool:
        return self.controller.request("GET", "/readyz")[0] == 503

    def is_asked(self, kind: str, *, more_than: int) -> None:
        """Wait until a call of that kind has come to the proxy."""
        proxy = self.via.proxy
        until(lambda: proxy.asked(KINDS[kind]) > more_than, what=f"{kind} is asked", timeout_s=READY_AGAIN_S)

    def rows(self) -> int:
        """How often a phase of theirs has moved, as the file has it."""
        return len(self.ledger.transitions("own")) + len(self.ledger.transitions(self.watched))

    def reasons(self) -> list[str]:
        """Of all rows of the watched one."""
        return [row["reason"] for row in self.ledger.rows("transition") if row["session"] == self.watched]

    def gaps(self) -> list[str]:
        return [row["message"] for row in self.ledger.rows("gap")]

    def gaps_of(self, cause: str) -> list[str]:
        return [text for text in self.gaps() if text.startswith(cause)]

    def health(self, key: str) -> int:
        value = self.controller.request("GET", "/healthz")[1][key]
        assert isinstance(value, int)
        return value


@contextmanager
def a_world(
    engine: PrivateEngine, folder: Path, *, under: tuple[str, ...] = (), prepare: Rule | None = None
) -> Iterator[World]:
    """One that has begun; the rule, if any, holds from the first request on."""
    world = World(engine, folder, "w", under=under)
    world.via.proxy.rule = prepare
    try:
        world.begin()
        yield world
    finally:
        world.end()


def is_spoilt(victim: str, spoil: Callable[[bytes], bytes]) -> Rule:
    """The rule that spoils the line that tells the victim's death, on the first stream only."""

    def tells_the_death(line: bytes) -> bool:
        return b'"die"' in line and f'"name":"{victim}"'.encode() in line

    fault = Spoil(tells_the_death, spoil, hang_up=spoil is half_and_then_the_end)
    return times(1, fault, when=KINDS["events"])


def exit_code(session: Json) -> object:
    end = session["exit"]
    return end["exit_code"] if isinstance(end, dict) else None


# --- every fault on every kind of call ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    fault: Fault
    kinds: tuple[str, ...]


CASES: Final = {
    # Half of an endless answer does not exist; the halves of its lines come below.
    **{
        name: Case(fault, tuple(kind for kind in KINDS if (name, kind) != ("half", "events")))
        for name, fault in FAULTS.items()
    },
    **{f"hangs on {kind}": Case(HANG, (kind,)) for kind in KINDS},
}


def suffer(world: World, case: Case) -> None:
    """The connection breaks, and then each kind of call fails in its turn until that is said; all in one life.

    One inspect that fails, again and again, is that container's affair: the engine answers everything else.
    """
    world.begin()
    told, truth, rows = world.told(), world.truth(), world.rows()
    for kind in case.kinds:
        if kind == "inspect":
            world.via.proxy.rule = None
            until(world.controller.is_ready, what="ready before the inspects fail", timeout_s=READY_AGAIN_S)
        asked = world.via.proxy.asked(KINDS[kind])
        world.via.proxy.rule = always(case.fault, when=KINDS[kind])
        if kind == "inspect":
            world.engine.cli("update", "--cpu-shares", "512", world.watched)
        elif kind == case.kinds[0] or kind.startswith("list"):
            # Lists are asked for at each connect, and else once a minute.
            world.via.break_all()
        if kind == "inspect":
            world.is_asked(kind, more_than=asked + 2)
            assert world.controller.is_ready()
        else:
            world.is_asked(kind, more_than=asked)
            until(world.is_not_ready, what=f"not ready while {kind} has no answer", timeout_s=READY_AGAIN_S)
        assert world.told() == told, kind
    world.via.proxy.rule = None
    until(world.controller.is_ready, what="ready again, in the same life", timeout_s=READY_AGAIN_S)
    plan = world.controller.reconcile()
    assert [line for line in plan if line["session"] in told and line["action"] != "none"] == []
    assert (world.told(), world.truth(), world.rows()) == (told, truth, rows)
    assert [action for action in world.ledger.actions() if action["kind"] in ("stop", "remove")] == []
    world.ledger.check()


@pytest.fixture(scope="module")
def engine_of_faults() -> Iterator[PrivateEngine]:
    if lacking := missing():
        pytest.skip(f"no private engine here: {lacking}")
    with PrivateEngine() as engine:
        yield engine


@pytest.fixture(scope="module")
def results(
    request: pytest.FixtureRequest, engine_of_faults: PrivateEngine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[None]]]:
    """The cases that were asked for, under way."""
    wanted = [name for name in CASES if any(item.name.endswith(f"[{name}]") for item in request.session.items)]
    folder = tmp_path_factory.mktemp("faults")

    def played(number: int, case: Case) -> None:
        world = World(engine_of_faults, folder, f"f{number}")
        try:
            suffer(world, case)
        finally:
            world.end()

    with ThreadPoolExecutor(len(CASES)) as threads:
        yield {name: threads.submit(played, number, CASES[name]) for number, name in enumerate(wanted)}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", CASES)
def test_no_answer_changes_nothing_and_is_said_and_passes(results: dict[str, Future[None]], name: str) -> None:
    results[name].result()


# --- lists that leave out what is there --------------------------------------------------------------------------


def rows_fewer(body: bytes) -> bytes:
    rows = json.loads(body)
    return json.dumps(rows[: len(rows) // 2]).encode()


@pytest.mark.parametrize("edit", [empty_list, rows_fewer])
def test_a_list_that_leaves_out_what_is_there_is_not_believed(
    engine: PrivateEngine, tmp_path: Path, edit: Callable[[bytes], bytes]
) -> None:
    with a_world(engine, tmp_path) as world:
        told, truth, rows = world.told(), world.truth(), world.rows()
        world.via.proxy.rule = always(ReplaceBody(edit), when=lambda request: request.is_list)
        asked = world.via.proxy.asked(KINDS["inspect"])
        plan = world.controller.reconcile()
        left_out = [line for line in plan if line["finding"] == "missing"]
        # Each one that the list left out was asked for by its id, and nothing else was done about it.
        assert left_out
        assert {line["action"] for line in left_out} == {"look"}
        assert world.via.proxy.asked(KINDS["inspect"]) >= asked + len(left_out)
        world.via.proxy.rule = None
        assert world.controller.reconcile() == []
        assert (world.told(), world.truth(), world.rows()) == (told, truth, rows)
        world.ledger.check()


@pytest.mark.timeout(120)
def test_many_missing_at_once_are_not_believed_while_a_later_list_has_them(
    engine: PrivateEngine, tmp_path: Path
) -> None:
    with a_world(engine, tmp_path) as world:
        for number in range(4):
            world.run(f"more-{number}")
            world.controller.wait_for(f"more-{number}", phase="running")
        before = world.standings()
        lists = world.via.proxy.asked(lambda request: request.is_list)
        world.via.proxy.rule = times(2, ReplaceBody(empty_list), when=lambda request: request.is_list)
        # Six of six are missing: the sweep looks again after 15 s, and finds them all.
        assert world.controller.reconcile() == []
        assert world.via.proxy.asked(lambda request: request.is_list) >= lists + 4
        assert world.standings() == before


# --- the stream --------------------------------------------------------------------------------------------------


def too_long(_line: bytes) -> bytes:
    return b"x" * LONG + b"\n"


def not_json(_line: bytes) -> bytes:
    return b'die \x1b[31m {"Action":\n'


def half_line(line: bytes) -> bytes:
    return line[: len(line) // 2] + b"\n"


def half_and_then_the_end(line: bytes) -> bytes:
    return line[: len(line) // 2]


@pytest.mark.parametrize("spoil", [half_line, too_long, not_json, half_and_then_the_end])
def test_a_death_whose_line_cannot_be_read_is_found_by_the_sweep(
    engine: PrivateEngine, tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    # A name of its own: a replay reaches back into the test before.
    victim = spoil.__name__
    with a_world(engine, tmp_path, prepare=is_spoilt(victim, spoil)) as world:
        world.run(victim, *ENDS_WITH_ITS_SLEEP)
        world.controller.wait_for(victim, phase="running")
        counted = world.health("bad_lines")
        world.engine.cli("exec", victim, "killall", "sleep")
        ended = world.controller.wait_for(victim, phase="failed", reason="error_exit")
        assert exit_code(ended) == 3
        until(lambda: len(world.gaps_of("bad line")) > 1, what="the gap is closed")
        assert world.health("open_gaps") == 0
        assert world.health("bad_lines") == counted + 1
        opened, closed = world.gaps_of("bad line")
        assert "events may have been missed since" in opened
        assert "closed after" in closed
        assert world.told()["own"]["phase"] == "running"
        world.ledger.check()


def test_what_an_engine_may_say_one_day_is_ignored(engine: PrivateEngine, tmp_path: Path) -> None:
    with a_world(engine, tmp_path, prepare=always(PassLines(), when=KINDS["events"])) as world:
        container = str(world.controller.session(world.watched)["container_id"])
        told = world.told()
        for action in ("teleported", "exec_create: rm -rf /", "\x1b[2J", "die\n"):
            actor = {"ID": container, "Attributes": {"agentd.watch": "true"}}
            event = {"Type": "container", "Action": action, "Actor": actor, "timeNano": time.time_ns()}
            assert world.via.inject(json.dumps(event).encode()) == 1
        # A real event behind them proves that they were read.
        world.engine.cli("rename", world.watched, "proof")
        until(lambda: world.reasons()[-1] == "renamed", what="the event behind them")
        assert world.reasons() == ["created", "started", "renamed"]
        assert (world.health("bad_lines"), world.gaps(), world.told()) == (0, [], told)


def test_long_labels_are_read_and_longer_ones_cost_a_sweep(engine: PrivateEngine, tmp_path: Path) -> None:
    with a_world(engine, tmp_path) as world:
        for name, count, is_read in (("long", 1, True), ("longer", 6, False)):
            labels = {f"l{number}": "x" * 200 * 1024 for number in range(count)}
            container = create(engine, name, {"agentd.watch": "w", **labels}, "exit 3")
            engine.cli("start", container)
            ended = world.controller.wait_for(name, phase="failed", reason="error_exit")
            assert exit_code(ended) == 3
            until(lambda: world.health("open_gaps") == 0, what="no gap is open")
            assert (world.health("bad_lines") == 0, world.gaps() == []) == (is_read, is_read)
        world.ledger.check()


def create(engine: PrivateEngine, name: str, labels: dict[str, str], script: str) -> str:
    """A container whose labels are too long for any command line."""
    client = http.client.HTTPConnection("engine")
    client.sock = socket.socket(socket.AF_UNIX)
    client.sock.connect(str(engine.socket))
    body = {"Image": BUSYBOX_IMAGE, "Cmd": ["/bin/sh", "-c", script], "Labels": labels}
    with closing(client):
        client.request(
            "POST", f"/containers/create?name={name}", json.dumps(body), {"Content-Type": "application/json"}
        )
        return str(json.loads(client.getresponse().read())["Id"])


def test_a_stream_that_only_seems_to_be_open_is_found_out_by_its_renewal(engine: PrivateEngine, tmp_path: Path) -> None:
    with a_world(engine, tmp_path, under=SHORT_WINDOWS) as world:
        world.run("victim", *ENDS_WITH_ITS_SLEEP)
        world.controller.wait_for("victim", phase="running")
        told = world.told()
        world.via.freeze()
        world.engine.cli("exec", "victim", "killall", "sleep")
        until(world.is_not_ready, what="the renewal gets no answer", timeout_s=40)
        assert world.told() == told
        assert world.controller.session("victim")["phase"] == "running"
        world.via.thaw()
        assert exit_code(world.controller.wait_for("victim", phase="failed", reason="error_exit")) == 3
        until(world.controller.is_ready, what="ready again", timeout_s=READY_AGAIN_S)
        assert world.told() == told
        world.ledger.check()
