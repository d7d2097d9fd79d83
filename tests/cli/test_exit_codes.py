"""The contract's exit codes, each with one line why."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from controller import __version__
from controller.api.token_file import ensure_token
from controller.cli.creating import FILE_MAX_BYTES
from controller.cli.parser import make_parser
from tests.api.world import World, a_session, a_site, settings_for
from tests.cli.conftest import Ctl

COMMANDS = (
    *("run", "ps", "show", "why", "timeline", "events", "create", "start", "stop", "restart", "rm", "renew", "logs"),
    *("reconcile", "orphans", "adopt", "accept-engine", "doctor", "healthcheck", "backup", "settings"),
)


async def test_done_is_0_and_names_what_was_done(ctl: Ctl, world: World) -> None:
    for name in ("alpha", "beta"):
        await world.run(a_session(name, now=world.clock.now()))
    called = await ctl("stop", "alpha", "beta")
    assert (called.code, sorted(called.lines), called.err) == (0, ["alpha", "beta"], "")
    assert {getattr(each, "actor", "") for each in world.submitted} == {"user:anna"}


async def test_refused_is_1(ctl: Ctl, world: World) -> None:
    await world.run(a_session("alpha", now=world.clock.now()))
    world.refusal = "alpha is running: stop it first, or use --force"
    called = await ctl("rm", "alpha")
    assert (called.code, called.err) == (1, "agentdctl: alpha is running: stop it first, or use --force\n")


async def test_a_start_that_ends_in_failure_is_1_and_says_why(ctl: Ctl, world: World) -> None:
    await world.run(a_session("alpha", now=world.clock.now()))
    world.failure = "no such image: x"
    called = await ctl("restart", "alpha")
    assert (called.code, called.err) == (1, "agentdctl: alpha is failed: no such image: x\n")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((), "required: COMMAND"),
        (("fly",), "invalid choice: 'fly'"),
        (("ps", "--filter", "phase=dead"), "use phase=PHASE with one of"),
        (("ps", "--filter", "name=x"), "use phase=PHASE with one of"),
        (("create", "x", "--image", "i", "--memory", "lots"), "'lots' is not a size"),
        (("create", "x", "--image", "i", "--ttl", "soon"), "'soon' is not a length of time"),
        (("create", "x"), "an image is needed"),
        (("create", "x", "--image", "i", "-e", "novalue"), "-e novalue: write KEY=VALUE"),
        (("create", "x", "--image", "i", "--mount", "/a"), "--mount /a: write SOURCE:TARGET"),
        (("create", "x", "-f", "/nowhere.yaml"), "/nowhere.yaml"),
        (("create", "x", "--image", "i", "--memory", "9" * 400), "is too large"),
        (("create", "x", "--image", "i", "--ttl", "9" * 400), "is too large"),
        (("create", "x", "--image", "i", "--cpus", "nan"), "'nan' is not a number"),
        (("stop",), "required: NAME"),
        (("ps", "--url", "ftp://x"), "use http://HOST:PORT"),
        (("ps", "--url", "http://["), "use http://HOST:PORT"),
        (("ps", "--url", "http://127.0.0.1:99999"), "use http://HOST:PORT"),
        (("ps", "--url", "http://a..b"), "use http://HOST:PORT"),
        (("ps", "--url", "http://127.0.0.1:9/?x=1"), "use http://HOST:PORT"),
        (("ps", "--token", "a\nb"), "--token: use printable ASCII"),
        (("ps", "\x1b[31mred\nline"), "unrecognized arguments: \\x1b[31mred\\nline\n"),
        (("ps", "--=\x1b[31m"), "ambiguous option: --=\\x1b[31m could"),
        (("ps", "x" * 70_000), "…\n"),
    ],
)
async def test_bad_usage_is_2(bare_ctl: Ctl, arguments: tuple[str, ...], line: str) -> None:
    called = await bare_ctl(*arguments)
    assert called.code == 2
    assert line in called.err
    assert "Traceback" not in called.err


async def test_a_bad_setting_is_2_and_names_it(bare_ctl: Ctl) -> None:
    called = await bare_ctl("settings", AGENTD_MODE="boss")
    assert (called.code, called.err) == (
        2,
        "agentdctl: AGENTD_MODE='boss' is not allowed: use one of observe, restart, manage\n",
    )


async def test_a_password_in_a_refused_url_is_not_shown(bare_ctl: Ctl) -> None:
    called = await bare_ctl("ps", "--url", "http://me:hunter2@host:1")
    assert (called.code, "hunter2" in called.err) == (2, False)


@pytest.mark.parametrize("token", ["two words", "line\nline", "umläut"])
async def test_a_token_that_no_client_could_send_is_2_and_is_not_shown(bare_ctl: Ctl, token: str) -> None:
    called = await bare_ctl("settings", AGENTD_TOKEN=token)
    assert (called.code, called.err) == (
        2,
        "agentdctl: AGENTD_TOKEN is not allowed as it is: use printable ASCII without blanks\n",
    )


async def test_half_a_port_is_2(bare_ctl: Ctl) -> None:
    called = await bare_ctl("settings", AGENTD_PORT="7006.5")
    assert (called.code, called.err) == (
        2,
        "agentdctl: AGENTD_PORT=7006.5 is not allowed: use a whole number from 1 to 65535\n",
    )


@pytest.mark.parametrize("value", ["soon", "-1", "nan", "inf", "3153600001"])
async def test_a_time_to_keep_that_is_no_time_is_2(bare_ctl: Ctl, value: str) -> None:
    called = await bare_ctl("settings", AGENTD_KEEP_FAILED_S=value)
    assert (called.code, called.err) == (
        2,
        f"agentdctl: AGENTD_KEEP_FAILED_S={value!r} is not allowed: use a number from 0 to 3153600000, or forever\n",
    )


async def test_a_container_can_be_kept_for_ever_or_not_at_all(bare_ctl: Ctl) -> None:
    called = await bare_ctl("settings", AGENTD_KEEP_FAILED_S="Forever", AGENTD_KEEP_STOPPED_S="0")
    shown = {line.split()[0]: line.split()[1:] for line in called.out.splitlines() if "AGENTD_KEEP" in line}
    assert shown == {
        "AGENTD_KEEP_FAILED_S": ["forever", "environment"],
        "AGENTD_KEEP_STOPPED_S": ["0", "environment"],
    }


@pytest.mark.parametrize("text", ["image: 2001-99-99", "? {a: 1}\n: 2", "image: !!binary aGk=", "image: &a [*a]"])
async def test_a_spec_file_that_says_nothing_that_can_be_sent_is_2(bare_ctl: Ctl, tmp_path: Path, text: str) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(text)
    called = await bare_ctl("create", "x", "-f", str(spec))
    assert (called.code, called.err.count("\n")) == (2, 1)
    assert str(spec) in called.err


async def test_a_spec_file_that_is_too_long_is_2_and_not_cut(bare_ctl: Ctl, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text("image: i\n" * (FILE_MAX_BYTES // 9 + 1))
    called = await bare_ctl("create", "x", "-f", str(spec))
    assert (called.code, called.err) == (2, f"agentdctl: {spec}: longer than {FILE_MAX_BYTES} bytes\n")


@pytest.mark.parametrize("command", ["show", "why", "timeline", "logs", "start", "stop", "restart", "rm"])
async def test_no_such_session_is_3(ctl: Ctl, command: str) -> None:
    called = await ctl(command, "nobody")
    assert (called.code, called.err) == (3, "agentdctl: no such session: nobody\n")


@pytest.mark.parametrize("command", ["show", "why", "timeline", "logs", "start", "stop", "restart", "rm"])
@pytest.mark.parametrize(("name", "shown"), [("", "''"), (".", "'.'"), ("..", "'..'"), ("\udcff", "\\udcff")])
async def test_a_name_that_no_path_can_carry_is_3_too(ctl: Ctl, command: str, name: str, shown: str) -> None:
    called = await ctl(command, name)
    assert (called.code, called.out, called.err) == (3, "", f"agentdctl: no such session: {shown}\n")


@pytest.mark.parametrize("arguments", [("ps",), ("stop", "x"), ("reconcile",), ("create", "x", "--image", "i")])
async def test_no_controller_is_4_with_one_line(bare_ctl: Ctl, arguments: tuple[str, ...]) -> None:
    called = await bare_ctl(*arguments, AGENTD_URL="http://127.0.0.1:9")
    assert called.code == 4
    assert called.err.startswith("agentdctl: no controller answers at http://127.0.0.1:9: ")
    assert called.err.count("\n") == 1


async def test_no_engine_is_4(ctl: Ctl, world: World) -> None:
    world.ready = replace(world.ready, reachable=False)
    called = await ctl("reconcile", "--dry-run")
    assert called.code == 4
    assert "the engine could not be asked" in called.err


async def test_too_late_is_5(ctl: Ctl, world: World) -> None:
    await world.commit(a_session("alpha", now=world.clock.now()))
    world.prompt = False
    called = await ctl("start", "alpha", "--timeout", "0.2s")
    assert called.code == 5
    assert "not seen within 0.2 s; alpha is pending just now" in called.err


async def test_no_wait_is_0_as_soon_as_it_is_accepted(ctl: Ctl, world: World) -> None:
    await world.commit(a_session("alpha", now=world.clock.now()))
    world.prompt = False
    assert (await ctl("start", "alpha", "--no-wait")).code == 0


async def test_the_first_failure_in_the_order_given_is_the_exit_code(ctl: Ctl, world: World) -> None:
    await world.run(a_session("alpha", now=world.clock.now()))
    called = await ctl("stop", "nobody", "alpha")
    assert (called.code, called.lines) == (3, ["alpha"])


async def test_the_private_file_lets_its_owner_in_and_its_token_stays_on_this_host(
    bare_ctl: Ctl, world: World, tmp_path: Path
) -> None:
    settings = settings_for(tmp_path, bind="0.0.0.0")
    token = ensure_token(settings)
    async with a_site(world, settings_for(tmp_path, bind="0.0.0.0", token=token)) as site:
        assert (await bare_ctl("ps", AGENTD_URL=site.url, AGENTD_DB=settings.db)).code == 0
        stranger = await bare_ctl("ps", AGENTD_URL=site.url)
        assert (stranger.code, "bearer token" in stranger.err) == (1, True)
        elsewhere = await bare_ctl("ps", AGENTD_URL=f"http://0.0.0.0:{site.port}", AGENTD_DB=settings.db)
        assert (elsewhere.code, "bearer token" in elsewhere.err) == (1, True)
        assert (await bare_ctl("ps", AGENTD_URL=site.url, AGENTD_TOKEN=token)).code == 0
        assert (await bare_ctl("ps", "--token", token, "--url", site.url)).code == 0


@pytest.mark.parametrize("command", COMMANDS)
async def test_every_command_helps_with_an_example(bare_ctl: Ctl, command: str) -> None:
    called = await bare_ctl(command, "--help")
    assert called.code == 0
    assert f"example: agentdctl {command}" in called.out


def test_the_grammar_knows_every_command() -> None:
    text = make_parser().format_help()
    assert all(command in text for command in COMMANDS)


def test_the_module_is_the_command(home: dict[str, str]) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "controller", "--version"], capture_output=True, text=True, check=False, env=home
    )
    assert (ran.returncode, ran.stdout) == (0, f"agentdctl {__version__}\n")


def test_healthcheck_imports_neither_the_edge_nor_the_ledger(home: dict[str, str]) -> None:
    program = (
        "import sys; from controller.cli.main import main; code = main(['healthcheck']);"
        "print(code, sorted({'aiohttp', 'pydantic', 'structlog', 'aiosqlite', 'aiodocker', 'yaml'} & set(sys.modules)))"
    )
    environment = home | {"AGENTD_PORT": "9"}
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment)
    assert ran.stdout == "1 []\n", ran.stderr


def test_a_reader_that_has_enough_is_no_error(home: dict[str, str]) -> None:
    ran = subprocess.run(
        f"{sys.executable} -m controller settings | head -n 1",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
        env=home | {"PATH": "/usr/bin:/bin"},
    )
    assert (ran.stderr, ran.stdout.startswith("VARIABLE")) == ("", True)
