"""The grammar of `agentdctl`: every command with its options and an example. `does` names the function that runs it."""

import sys
from argparse import (
    SUPPRESS,
    ArgumentParser,
    ArgumentTypeError,
    Namespace,
    RawDescriptionHelpFormatter,
    _SubParsersAction,
)
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeAlias, TypeVar

from controller import __version__
from controller.cli import quantities
from controller.cli.failure import ExitCode
from controller.cli.invocation import LINE_MAX_CHARS
from controller.log import clean

Commands: TypeAlias = "_SubParsersAction[ArgumentParser]"
Value = TypeVar("Value")
_PHASES = ("pending", "starting", "running", "paused", "stopping", "backoff", "stopped", "failed")


class _Grammar(ArgumentParser):
    """argparse, which would repeat a wrong argument as it is: terminal codes, line breaks and all."""

    def error(self, message: str) -> NoReturn:
        """Leave with the usage and one harmless line."""
        self.print_usage(sys.stderr)
        self.exit(ExitCode.USAGE, f"{self.prog}: error: {clean(message, LINE_MAX_CHARS)}\n")


def _told(read: Callable[[str], Value]) -> Callable[[str], Value]:
    """The same, with its own words for what is wrong instead of argparse's."""

    def reader(text: str) -> Value:
        try:
            return read(text)
        except ValueError as error:
            raise ArgumentTypeError(str(error)) from None

    return reader


_count = _told(quantities.count)
_number = _told(quantities.number)
_seconds = _told(quantities.seconds)
_size = _told(quantities.size_bytes)


def parse(arguments: Sequence[str]) -> Namespace:
    """One call's arguments; leaves with 2 when they are wrong."""
    head, dashes, command = _cut(arguments)
    parsed = make_parser().parse_args(head)
    if not dashes:
        return parsed
    if parsed.does != "creating:create":
        return make_parser().parse_args(arguments)
    parsed.command = command
    return parsed


def _cut(arguments: Sequence[str]) -> tuple[list[str], bool, list[str]]:
    # argparse gives a trailing list its empty match too early when options stand before the `--`; so we cut ourselves.
    given = list(arguments)
    if "--" not in given:
        return given, False, []
    at = given.index("--")
    return given[:at], True, given[at + 1 :]


def make_parser() -> ArgumentParser:
    """The whole grammar."""
    parser: ArgumentParser = _Grammar(
        prog="agentdctl",
        description="Agent sessions: what runs, why one died, and what comes next.",
        epilog="example: agentdctl ps --filter phase=failed",
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"agentdctl {__version__}")
    _add_common(parser, defaults=True)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_looking(commands)
    _add_creating(commands)
    _add_verbs(commands)
    _add_sweeping(commands)
    _add_running(commands)
    return parser


def _add_common(parser: ArgumentParser, *, defaults: bool) -> None:
    # A sub-command must not overwrite with its default what was given before it.
    common = parser.add_argument_group("common options")
    nothing: str | None = None
    common.add_argument(
        "--format", choices=("table", "json"), default="table" if defaults else SUPPRESS, help="for people or programs"
    )
    common.add_argument("--no-color", action="store_true", default=False if defaults else SUPPRESS, help="no colours")
    common.add_argument(
        "--url", default=nothing if defaults else SUPPRESS, help="the controller (AGENTD_URL, http://127.0.0.1:7006)"
    )
    common.add_argument(
        "--token",
        default=nothing if defaults else SUPPRESS,
        help="bearer token; AGENTD_TOKEN or AGENTD_TOKEN_FILE keep it out of the list of processes",
    )


def _command(commands: Commands, name: str, does: str, *, does_what: str, example: str) -> ArgumentParser:
    parser = commands.add_parser(
        name,
        help=does_what,
        description=does_what,
        epilog=f"example: agentdctl {example}",
        formatter_class=RawDescriptionHelpFormatter,
    )
    _add_common(parser, defaults=False)
    parser.set_defaults(does=does)
    return parser


def _reading_command(commands: Commands, name: str, *, does_what: str, example: str) -> ArgumentParser:
    parser = _command(commands, name, f"looking:{name}", does_what=does_what, example=example)
    parser.add_argument("--db", metavar="PATH", help="read that ledger file instead of asking a controller")
    return parser


def _add_looking(commands: Commands) -> None:
    ps = _reading_command(commands, "ps", does_what="list sessions", example="ps --all --filter phase=failed")
    ps.add_argument("--all", "-a", action="store_true", help="removed ones too")
    ps.add_argument("--watch", "-w", action="store_true", help="show it again whenever it changes")
    ps.add_argument("--filter", metavar="phase=PHASE", type=_told(_phase_filter), help="only that phase")
    show = _reading_command(commands, "show", does_what="everything about one session", example="show worker-1")
    show.add_argument("name")
    why = _reading_command(commands, "why", does_what="why it is where it is, with proof", example="why worker-1")
    why.add_argument("name")
    timeline = _reading_command(commands, "timeline", does_what="every transition", example="timeline worker-1")
    timeline.add_argument("name")
    events = _reading_command(commands, "events", does_what="the journal", example="events --follow --after 120")
    events.add_argument("--follow", "-f", action="store_true", help="go on as it grows")
    events.add_argument("--after", metavar="SEQ", type=_count, default=0, help="only rows after that one")
    logs = _reading_command(commands, "logs", does_what="what it printed", example="logs worker-1 --tail 50")
    logs.add_argument("name")
    logs.add_argument("--follow", "-f", action="store_true", help="go on as it prints")
    logs.add_argument("--attempt", metavar="N", type=_count, help="of that attempt")
    logs.add_argument("--tail", metavar="N", type=_count, default=100, help="the last N lines (100)")


def _phase_filter(text: str) -> str:
    key, _, phase = text.partition("=")
    if key != "phase" or phase not in _PHASES:
        raise ValueError(f"use phase=PHASE with one of {', '.join(_PHASES)}")
    return phase


def _add_creating(commands: Commands) -> None:
    create = _command(
        commands,
        "create",
        "creating:create",
        does_what="create a session, and start it; what follows -- is run instead of the image's command",
        example="create worker-1 --image my/agent:1 -e LOG=debug --restart on-failure --max-attempts 5 -- run --fast",
    )
    create.add_argument("name")
    create.add_argument("--image", help="its image")
    create.add_argument("-f", "--file", metavar="FILE", help="a spec in YAML or JSON; options given here win")
    create.add_argument("-e", "--env", metavar="K=V", action="append", default=[], help="a variable")
    create.add_argument(
        "--env-from", metavar="K", action="append", default=[], help="a variable of the controller's own, never stored"
    )
    create.add_argument("--label", metavar="K=V", action="append", default=[], help="a container label")
    create.add_argument("--memory", metavar="SIZE", type=_size, help="limit, such as 512m (2g)")
    create.add_argument("--cpus", metavar="N", type=_number, help="limit (2)")
    create.add_argument("--mount", metavar="SRC:DST[:ro]", action="append", default=[], help="a folder or volume")
    create.add_argument("--workdir", metavar="PATH", help="folder of the engine's host, shown as /workspace")
    create.add_argument("--network-policy", choices=("internet", "isolated", "host_network"), help="(internet)")
    create.add_argument("--restart", choices=("no", "on-failure", "always"), help="(no)")
    create.add_argument("--max-attempts", metavar="N", type=_count, help="restarts granted within the window")
    create.add_argument("--restart-window", metavar="S", type=_seconds, help="how far back they count (1h)")
    create.add_argument("--slow-retry-s", metavar="S", type=_seconds, help="once spent, go on trying this rarely")
    create.add_argument("--unhealthy-restart-s", metavar="S", type=_seconds, help="restart when unhealthy that long")
    create.add_argument("--stop-grace-s", metavar="S", type=_seconds, help="between the stop signal and the kill")
    create.add_argument("--expect-connection", action="store_true", help="restart it when its agent stays away")
    create.add_argument("--ttl", metavar="S", type=_seconds, help="stop it after so long: 90, 90s, 15m, 2h, 1d")
    create.add_argument("--agent-type", help="AGENT_TYPE of the container")
    create.add_argument("--model-provider", help="MODEL_PROVIDER of the container")
    create.add_argument("--model-name", help="MODEL_NAME of the container")
    create.add_argument("--user", help="user inside the container")
    create.add_argument("--no-start", dest="start", action="store_false", help="only create it")
    create.add_argument("--start", dest="start", action="store_true", help="start it (the default)")
    create.set_defaults(start=True)
    _add_waiting(create)
    create.set_defaults(command=[])


def _add_waiting(parser: ArgumentParser) -> None:
    parser.add_argument("--no-wait", action="store_true", help="only until it is accepted, not until it is seen")
    parser.add_argument("--timeout", metavar="S", type=_seconds, default=60.0, help="how long to wait (60)")


def _add_verbs(commands: Commands) -> None:
    for verb, does_what in (
        ("start", "start sessions"),
        ("stop", "stop sessions; they stay down"),
        ("restart", "stop and start sessions"),
        ("rm", "remove sessions with their containers; the record stays"),
    ):
        parser = _command(commands, verb, f"verbs:{verb}", does_what=does_what, example=f"{verb} worker-1 worker-2")
        parser.add_argument("names", nargs="+", metavar="NAME")
        _add_waiting(parser)
        if verb == "rm":
            parser.add_argument("--force", action="store_true", help="stop it first if it runs")
    renew = _command(
        commands, "renew", "verbs:renew", does_what="a new time to live, from now", example="renew worker-1 --ttl 2h"
    )
    renew.add_argument("name")
    renew.add_argument("--ttl", metavar="S", type=_seconds, required=True, help="90, 90s, 15m, 2h, 1d")


def _add_sweeping(commands: Commands) -> None:
    reconcile = _command(
        commands, "reconcile", "sweeping:reconcile", does_what="one full sweep now", example="reconcile --dry-run"
    )
    reconcile.add_argument("--dry-run", action="store_true", help="only the plan")
    orphans = _command(
        commands,
        "orphans",
        "sweeping:orphans",
        does_what="containers that no session knows, foreign and spared ones",
        example="orphans --apply",
    )
    orphans.add_argument("--apply", action="store_true", help="remove ours, whatever the orphan policy says")
    adopt = _command(
        commands, "adopt", "sweeping:adopt", does_what="take over a container", example="adopt 3f2a9c11d0e4"
    )
    adopt.add_argument("container")
    _command(
        commands,
        "accept-engine",
        "sweeping:accept_engine",
        does_what="believe the engine that answers now, after it turned out to be another",
        example="accept-engine",
    )


def _add_running(commands: Commands) -> None:
    _command(commands, "run", "running:run", does_what="the controller, in the foreground", example="run")
    backup = _command(
        commands, "backup", "running:backup", does_what="a consistent copy of the ledger", example="backup /tmp/copy.db"
    )
    backup.add_argument("path", metavar="PATH")
    backup.add_argument("--db", metavar="PATH", help="the ledger (AGENTD_DB)")
    _command(
        commands, "settings", "checking:settings", does_what="what is in force, and from where", example="settings"
    )
    _command(commands, "doctor", "checking:doctor", does_what="check everything; say what to do", example="doctor")
    _command(
        commands,
        "healthcheck",
        "healthcheck:healthcheck",
        does_what="exit 0 when the controller here is ready",
        example="healthcheck",
    )
