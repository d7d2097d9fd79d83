"""Tables for people, JSON for programs, and nothing hostile in either. With a controller, and on the file alone."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from controller.interfaces import PlanLine, Readiness
from controller.model.container import ContainerFacts
from controller.model.ids import ContainerId
from controller.model.instant import after
from controller.model.phase import Health
from controller.model.reason import Reason
from tests.api.world import World, a_session, an_evidence, container_of
from tests.cli.conftest import Ctl

HOSTILE = "\x1b[31mred\x1b[0m\r\nforged line\x07<script>\u202eevil\u2028next\x85"
RAW = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]")
SOURCES = ["controller", "file"]


@pytest.fixture(params=SOURCES)
def reader(request: pytest.FixtureRequest, ctl: Ctl, bare_ctl: Ctl, tmp_path: Path) -> Ctl:
    """The same command, asked of the controller and of the ledger's file."""
    if request.param == "controller":
        return ctl

    async def call(*arguments: str, **variables: str):  # type: ignore[no-untyped-def]
        return await bare_ctl(*arguments, "--db", str(tmp_path / "controller.db"), **variables)

    return call


async def _hostile_session(world: World) -> None:
    session = await world.run(a_session("alpha", now=world.clock.now()))
    facts = ContainerFacts(id=container_of("alpha"), name=HOSTILE, image=HOSTILE, labels={HOSTILE: HOSTILE})
    failed = await world.fail(replace(session, container=facts), Reason.ERROR_EXIT, HOSTILE)
    await world.commit(failed, evidence=[an_evidence(session, HOSTILE, "second")])


@pytest.mark.parametrize(
    "command",
    [("ps", "--all"), ("show", "alpha"), ("why", "alpha"), ("timeline", "alpha"), ("events",), ("logs", "alpha")],
)
@pytest.mark.parametrize("output", ["table", "json"])
async def test_hostile_text_breaks_no_row_and_no_terminal(
    reader: Ctl, world: World, command: tuple[str, ...], output: str
) -> None:
    await _hostile_session(world)
    called = await reader(*command, "--format", output)
    assert called.code == 0
    assert not RAW.search(called.out)
    assert not any(line.startswith("forged") for line in called.lines)
    if output == "json":
        assert all(isinstance(json.loads(line), dict) for line in called.lines)


async def test_ps_shows_the_contracts_columns(reader: Ctl, world: World) -> None:
    now = world.clock.now()
    running = await world.run(a_session("alpha", now=now))
    await world.commit(replace(running, health=Health.HEALTHY))
    await world.commit(replace(a_session("gone", now=now), removed_at=now))
    due = replace(a_session("beta", now=now), next_attempt_at=after(now, 130), since=after(now, -3700))
    await world.fail(due, Reason.CRASH_LOOPING, "")
    called = await reader("ps")
    assert called.lines[0].split() == ["NAME", "PHASE", "HEALTH", "ATTEMPT", "REASON", "SINCE", "NEXT"]
    assert called.lines[1].split() == ["alpha", "running", "healthy", "1", "started", "0s", "ago"]
    assert called.lines[2].split()[:6] == ["beta", "failed", "unknown", "0", "crash_looping", "0s"]
    assert called.lines[2].split()[-3:] in (["in", "2m", "9s"], ["in", "2m", "8s"], ["in", "2m", "7s"])
    assert len(called.lines) == 3
    assert [line.split()[0] for line in (await reader("ps", "--all")).lines[1:]] == ["alpha", "beta", "gone"]
    assert [line.split()[0] for line in (await reader("ps", "--filter", "phase=failed")).lines[1:]] == ["beta"]


async def test_options_may_stand_before_the_command_too(ctl: Ctl, world: World) -> None:
    await world.run(a_session("alpha", now=world.clock.now()))
    assert json.loads((await ctl("--format", "json", "ps")).out)["name"] == "alpha"


async def test_the_whole_journal_is_shown_page_by_page(reader: Ctl, world: World) -> None:
    session = a_session("alpha", now=world.clock.now())
    for _ in range(505):
        await world.commit(session)
    assert len((await reader("events")).lines) == 505
    assert len((await reader("events", "--after", "500")).lines) == 5
    assert len((await reader("timeline", "alpha")).lines) == 505


async def test_why_reads_as_a_sentence_its_proof_and_an_outlook(reader: Ctl, world: World) -> None:
    session = await world.run(a_session("alpha", now=world.clock.now()))
    await world.fail(session, Reason.ERROR_EXIT, "exit 3")
    called = await reader("why", "alpha")
    assert "alpha" in called.lines[0]
    assert set(json.loads((await reader("why", "alpha", "--format", "json")).out)) == {"sentence", "facts", "outlook"}


async def test_logs_are_the_kept_ones_when_the_container_is_gone(reader: Ctl, world: World) -> None:
    session = await world.run(a_session("alpha", now=world.clock.now()))
    await world.commit(session, evidence=[an_evidence(session, "one", "two")])
    assert (await reader("logs", "alpha", "--tail", "1")).lines == ["two"]


async def test_logs_that_nobody_has_are_said_to_be_missing(reader: Ctl, world: World) -> None:
    await world.run(a_session("alpha", now=world.clock.now()))
    called = await reader("logs", "alpha")
    assert (called.code, called.out) == (0, "")
    assert "there are no lines" in called.err


async def test_logs_of_a_live_container_are_followed_to_their_end(ctl: Ctl, world: World) -> None:
    await world.run(a_session("alpha", now=world.clock.now()))
    world.logs.printed[container_of("alpha")] = ["one", f"two {HOSTILE}"]
    called = await ctl("logs", "alpha", "--follow")
    assert called.lines[0] == "one"
    assert called.lines[1].startswith("two \\x1b[31mred")


async def test_a_ledger_that_is_not_there_is_one_line(bare_ctl: Ctl, tmp_path: Path) -> None:
    called = await bare_ctl("ps", "--db", str(tmp_path / "none.db"))
    assert (called.code, called.err.count("\n")) == (1, 1)
    assert "no such file" in called.err


@pytest.mark.parametrize(("name", "why"), [("file/below", "Not a directory"), ("a" * 5_000, "")])
async def test_a_ledger_that_cannot_be_there_is_one_line(bare_ctl: Ctl, tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "file").write_text("no folder")
    called = await bare_ctl("ps", "--db", str(tmp_path / name))
    assert (called.code, called.err.count("\n")) == (1, 1)
    assert why in called.err


async def test_a_backup_can_be_read(bare_ctl: Ctl, world: World, tmp_path: Path) -> None:
    await world.run(a_session("alpha", now=world.clock.now()))
    copy = str(tmp_path / "copy.db")
    assert (await bare_ctl("backup", copy, AGENTD_DB=str(tmp_path / "controller.db"))).code == 0
    assert (await bare_ctl("show", "alpha", "--db", copy)).code == 0


async def test_the_name_of_a_backup_is_shown_harmlessly(bare_ctl: Ctl, world: World, tmp_path: Path) -> None:
    await world.run(a_session("alpha", now=world.clock.now()))
    ledger = str(tmp_path / "controller.db")
    called = await bare_ctl("backup", str(tmp_path / "a\x1b[31m.db"), AGENTD_DB=ledger)
    assert (called.code, called.out) == (0, f"{tmp_path}/a\\x1b[31m.db\n")
    assert (await bare_ctl("show", "alpha", "--db", str(tmp_path / "a\x1b[31m.db"))).code == 0


async def test_a_backup_under_a_name_that_is_no_text_is_refused(bare_ctl: Ctl, world: World, tmp_path: Path) -> None:
    called = await bare_ctl("backup", str(tmp_path / "\udcff"), AGENTD_DB=str(tmp_path / "controller.db"))
    assert (called.code, "not UTF-8; nothing was written" in called.err) == (1, True)
    assert not (tmp_path / "\udcff").exists()


async def test_a_ledger_whose_name_is_no_text_can_be_read(bare_ctl: Ctl, world: World, tmp_path: Path) -> None:
    await world.run(a_session("alpha", now=world.clock.now()))
    copy = tmp_path / "copy.db"
    await bare_ctl("backup", str(copy), AGENTD_DB=str(tmp_path / "controller.db"))
    copy.rename(tmp_path / "\udcff.db")
    assert (await bare_ctl("show", "alpha", "--db", str(tmp_path / "\udcff.db"))).code == 0


async def test_reconcile_prints_every_line_with_its_reason(ctl: Ctl, world: World) -> None:
    world.lines = (
        PlanLine(
            container=ContainerId("c" * 64),
            name=HOSTILE,
            finding="spared",
            action="none",
            reason="younger than the grace",
        ),
    )
    called = await ctl("reconcile", "--dry-run")
    assert "younger than the grace" in called.lines[1]
    assert called.lines[2] == "compared 2 sessions with 3 containers, only planned"
    assert not RAW.search(called.out)
    assert json.loads((await ctl("orphans", "--format", "json")).out)["finding"] == "spared"


async def test_settings_tell_their_source_and_no_secret(bare_ctl: Ctl, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("hunter2\n")
    engine = "https://me:hunter2@engine.example:2376"
    called = await bare_ctl("settings", AGENTD_TOKEN_FILE=str(secret), AGENTD_PREFIX="mine", DOCKER_HOST=engine)
    found = {line.split()[0]: line.split()[1:] for line in called.lines}
    assert found["AGENTD_TOKEN"] == ["***", str(secret)]
    assert found["AGENTD_PREFIX"] == ["mine", "environment"]
    assert found["AGENTD_PORT"] == ["7006", "default"]
    assert found["DOCKER_HOST"] == ["https://engine.example:2376", "environment"]
    assert "hunter2" not in called.out


async def test_a_token_that_was_made_at_the_first_start_is_in_force_too(bare_ctl: Ctl, tmp_path: Path) -> None:
    (tmp_path / "c.db.token").write_text("hunter2\n")
    called = await bare_ctl("settings", AGENTD_DB=str(tmp_path / "c.db"), AGENTD_BIND="0.0.0.0")
    [line] = [line for line in called.lines if line.startswith("AGENTD_TOKEN")]
    assert line.split()[1:] == ["***", str(tmp_path / "c.db.token")]


async def test_healthcheck_is_0_only_when_ready(bare_ctl: Ctl, world: World, site: object) -> None:
    port = str(getattr(site, "port"))  # noqa: B009 - the fixture's type is not imported here
    assert (await bare_ctl("healthcheck", AGENTD_PORT=port)).code == 0
    world.ready = Readiness(ready=False, reachable=False, checks={"ledger": "ok", "engine": "refused"})
    called = await bare_ctl("healthcheck", AGENTD_PORT=port)
    assert (called.code, called.err) == (1, "agentdctl: not ready: engine: refused\n")


async def test_doctor_says_what_to_do(ctl: Ctl, world: World) -> None:
    world.ready = Readiness(ready=False, reachable=False, checks={"ledger": "ok", "engine": "connection refused"})
    called = await ctl("doctor")
    assert called.code == 1
    assert any(line.startswith("FAIL  engine") for line in called.lines)
    assert any("check that the engine runs" in line for line in called.lines)


async def test_create_puts_options_over_the_file(ctl: Ctl, world: World, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        "image: demo\nmemory: 512m\nttl: 2h\nenv: {A: '1', B: '2'}\nrestart: {mode: always}\ncommand: [x]\n"
    )
    called = await ctl(
        *("create", "alpha", "-f", str(spec), "-e", "B=3", "--max-attempts", "4", "--mount", "/a:/b:ro", "--cpus", "1"),
        *("--", "run", "--fast", "--", "-x"),
    )
    assert (called.code, called.lines) == (0, ["alpha"])
    [session] = await world.ledger.sessions()
    made = session.spec
    assert made is not None
    assert (made.image, made.memory_bytes, made.ttl_s, made.cpus) == ("demo", 512 * 1024**2, 7200.0, 1.0)
    assert (dict(made.env), made.command) == ({"A": "1", "B": "3"}, ("run", "--fast", "--", "-x"))
    assert (made.restart.mode, made.restart.max_attempts) == ("always", 4)
    assert [(each.source, each.target, each.read_only) for each in made.mounts] == [("/a", "/b", True)]
    shown = (await ctl("show", "alpha")).out
    assert "***" in shown
    assert "'3'" not in shown


async def test_the_example_session_can_be_created(ctl: Ctl) -> None:
    example = Path(__file__).parents[2] / "examples" / "agent" / "session.yaml"
    assert (await ctl("create", "demo", "-f", str(example))).code == 0


@pytest.mark.parametrize(
    ("text", "line"),
    [("- a\n- b\n", "a spec is a mapping"), ("image: [\n", "neither YAML nor JSON"), ("memory: lots\n", "not a size")],
)
async def test_a_spec_file_that_is_none_is_2(bare_ctl: Ctl, tmp_path: Path, text: str, line: str) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(text)
    called = await bare_ctl("create", "alpha", "-f", str(spec))
    assert (called.code, line in called.err) == (2, True)


async def test_an_unknown_field_of_a_spec_is_refused_with_one_line(ctl: Ctl, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text("image: demo\nimagee: demo\n")
    called = await ctl("create", "alpha", "-f", str(spec))
    assert (called.code, called.err) == (1, "agentdctl: spec.imagee: unknown; it may be misspelt\n")
