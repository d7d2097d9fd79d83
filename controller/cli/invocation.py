"""One call of `agentdctl`: its arguments, its surroundings, and where it writes.

The variables that only the command line knows (AGENTD_URL, NO_COLOR, USER) are taken from the mapping that `main`
passes in; everything else comes from `settings.py`.
"""

import sys
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from controller import settings
from controller.cli.failure import CommandFailed, ExitCode
from controller.log import clean
from controller.settings import Settings, is_loopback, is_sendable

LINE_MAX_CHARS = 2_000
_ANY_ADDRESS = ("0.0.0.0", "::", "")


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """What a command gets to know."""

    arguments: Namespace
    environment: Mapping[str, str]

    @property
    def as_json(self) -> bool:
        """Whether programs read this: one JSON object a line."""
        return bool(self.arguments.format == "json")

    @property
    def in_colour(self) -> bool:
        """Whether phases may be coloured: a terminal, and nobody said no."""
        unwanted = self.arguments.no_color or self.environment.get("NO_COLOR")
        return not unwanted and not self.as_json and sys.stdout.isatty()

    def settings(self) -> Settings:
        """The controller's settings, as this environment has them. Raises SettingsError."""
        return settings.load(self.environment)

    def url(self) -> str:
        """Where the controller answers."""
        given = self.arguments.url or self.environment.get("AGENTD_URL", "")
        if not given:
            return local_url(self.settings())
        if not _is_address(given):
            # Without what stands before an @: it may be a password.
            shown = given.rpartition("@")[2]
            raise CommandFailed(ExitCode.USAGE, f"--url/AGENTD_URL={shown!r} is not allowed: use http://HOST:PORT")
        return str(given).rstrip("/")

    def token(self) -> str:
        """The bearer token: given, set, or from the private file of a controller on this host."""
        if self.arguments.token:
            if not is_sendable(self.arguments.token):
                raise CommandFailed(ExitCode.USAGE, "--token: use printable ASCII without blanks")
            return str(self.arguments.token)
        found = self.settings()
        if found.token:
            return found.token
        # The file's token belongs to the controller beside it: it is never sent to another host.
        host = urlsplit(self.url()).hostname or ""
        local = is_loopback(host) or host == found.bind
        return _stored_token(found.db) if local else ""

    def made_token(self) -> str:
        """The private file that holds the token in force, when none is set and one is needed; else empty."""
        found = self.settings()
        needed = not found.token and not found.binds_loopback
        return f"{found.db}.token" if needed and _stored_token(found.db) else ""

    def actor(self) -> str:
        """Who asks, for the journal."""
        name = self.environment.get("USER") or self.environment.get("LOGNAME") or ""
        return name if is_sendable(name) else "agentdctl"

    def say(self, line: str) -> None:
        """One line on standard output, as it is: its author has cleaned what came from outside."""
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    def complain(self, line: str) -> None:
        """One line on standard error."""
        complain(line)


def complain(line: str) -> None:
    """One harmless line on standard error."""
    sys.stderr.write(f"agentdctl: {clean(line, LINE_MAX_CHARS)}\n")
    sys.stderr.flush()


def local_url(found: Settings) -> str:
    """Where a controller with these settings answers on this host."""
    host = "127.0.0.1" if found.bind in _ANY_ADDRESS else found.bind
    return f"http://{f'[{host}]' if ':' in host else host}:{found.port}"


def _is_address(given: str) -> bool:
    try:
        parts = urlsplit(given)
        # As it is looked up: what cannot be encoded so is no host's name.
        (parts.hostname or "").encode("idna")
        # A port is read when it is asked for, and only then found to be none.
        plain = "@" not in parts.netloc and not parts.query and not parts.fragment
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and plain
    except ValueError:
        return False


def _stored_token(db: str) -> str:
    # The same file as `api/token_file.py` writes; read here too, so that `healthcheck` need not load the HTTP edge.
    try:
        return Path(f"{db}.token").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
