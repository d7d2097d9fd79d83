"""Every AGENTD_* variable, parsed once. No other module reads the environment.

A bad value raises SettingsError, which names the variable, the value and what is allowed.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from controller.errors import SettingsError

MODES: Final = ("observe", "restart", "manage")
ORPHAN_POLICIES: Final = ("remove", "report", "adopt")
_PREFIX: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,30}")
_TRUE: Final = ("true", "1", "yes")
_FALSE: Final = ("false", "0", "no")
FOREVER: Final = "forever"
_ENGINE_SCHEMES: Final = ("unix:///", "tcp://", "http://", "https://")
_SOCKETS: Final = ("/run/docker.sock", "/var/run/docker.sock")
_KEEP_MAX_S: Final = 3_153_600_000.0
"""A hundred years. Whoever means longer says that he means for ever."""
FORWARDED_KEYS: Final = (
    "ANTHROPIC_API_KEY",
    "OPENAI_API_KEY",
    "GEMINI_API_KEY",
    "ANTHROPIC_BASE_URL",
    "OPENAI_BASE_URL",
)
"""Variables that every session gets where the controller itself has them. Only their names are ever stored."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is in force. Lengths are seconds."""

    docker_host: str = field(repr=False)
    """`unix:///path`, `tcp://host:port`, `http(s)://…`: passed on explicitly, so no docker context overrides it."""
    docker_tls_verify: bool = False
    docker_cert_path: str = ""
    prefix: str = "agentd"
    db: str
    """Path of the ledger file."""
    bind: str = "127.0.0.1"
    port: int = 7006
    token: str = field(default="", repr=False)
    """Bearer token; empty means none on loopback, and one made at first start beyond it."""
    agent_url: str = ""
    """Base of the URL that bridged sessions get."""
    mode: str = "manage"
    sweep_interval_s: float = 60.0
    orphan_policy: str = "remove"
    orphan_grace_s: float = 300.0
    stop_grace_s: float = 10.0
    shutdown_leave_running: bool = False
    shutdown_timeout_s: float = 30.0
    exit_when_engine_lost_s: float = 0.0
    """0 means never."""
    connect_grace_s: float = 60.0
    keep_failed_s: float | None = 604_800.0
    """How long the container of a session that failed is kept; None for ever."""
    keep_stopped_s: float | None = 86_400.0
    """The same for one that ended well, or was stopped; 0 removes it at once."""
    log_format: str = "json"
    log_level: str = "info"
    retain_days: float = 30.0
    sources: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Where each variable's value came from: `default`, `environment`, or the file it was read from."""

    @property
    def may_restart(self) -> bool:
        """Whether the mode allows start, stop and restart."""
        return self.mode != "observe"

    @property
    def may_manage(self) -> bool:
        """Whether the mode allows create and remove."""
        return self.mode == "manage"

    @property
    def binds_loopback(self) -> bool:
        """Whether only this host can reach the HTTP server."""
        return is_loopback(self.bind)

    @property
    def host_url(self) -> str:
        """Base of the URL that sessions on the host's network get."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.bind, self.bind)
        return f"ws://[{host}]:{self.port}" if ":" in host else f"ws://{host}:{self.port}"

    @property
    def is_unreachable_from_bridges(self) -> bool:
        """Whether only this host can connect, and nobody said that something else takes agents' connections for us."""
        return self.binds_loopback and self.sources.get("AGENTD_AGENT_URL", "default") == "default"


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only mean this host."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        # Any other name, 127.0.0.1.example.com among them, may be made to point here by whoever owns it.
        return False


def is_sendable(secret: str) -> bool:
    """Whether that text can stand in a header: printable ASCII without blanks, and not empty."""
    return secret.isascii() and secret.isprintable() and bool(secret) and " " not in secret


class _Reader:
    """One look-up a variable; remembers where each value came from."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.sources: dict[str, str] = {}

    def text(self, name: str, default: str) -> str:
        value = self._environment.get(name, "")
        self.sources[name] = "environment" if value else "default"
        return value or default

    def secret(self, name: str) -> str:
        path = self._environment.get(f"{name}_FILE", "")
        if not path:
            return self._sendable(name, self.text(name, ""))
        if self._environment.get(name):
            raise SettingsError(f"{name} and {name}_FILE are both set: keep one of them")
        try:
            value = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{name}_FILE={path!r} cannot be read: {error}") from error
        if not value:
            raise SettingsError(f"{name}_FILE={path!r} is empty: write the token into it")
        self.sources[name] = path
        return self._sendable(f"{name}_FILE", value)

    def _sendable(self, name: str, value: str) -> str:
        if value and not is_sendable(value):
            raise SettingsError(f"{name} is not allowed as it is: use printable ASCII without blanks")
        return value

    def choice(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        value = self.text(name, default)
        if value not in allowed:
            raise SettingsError(f"{name}={value!r} is not allowed: use one of {', '.join(allowed)}")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        value = self.text(name, "true" if default else "false").lower()
        if value not in _TRUE + _FALSE:
            raise SettingsError(f"{name}={value!r} is not allowed: use true, 1, yes, false, 0 or no")
        return value in _TRUE

    def number(self, name: str, default: float, *, low: float, high: float) -> float:
        value = self.text(name, f"{default:g}")
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not low <= number <= high:
            raise SettingsError(f"{name}={value!r} is not allowed: use a number from {low:g} to {high:g}")
        return number

    def length_or_forever(self, name: str, default: float, *, high: float) -> float | None:
        value = self.text(name, f"{default:g}")
        if value.lower() == FOREVER:
            return None
        try:
            return self.number(name, default, low=0, high=high)
        except SettingsError as error:
            allowed = f"a number from 0 to {high:.0f}, or {FOREVER}"
            raise SettingsError(f"{name}={value!r} is not allowed: use {allowed}") from error

    def whole(self, name: str, default: int, *, low: int, high: int) -> int:
        number = self.number(name, default, low=low, high=high)
        if number != int(number):
            raise SettingsError(f"{name}={number:g} is not allowed: use a whole number from {low} to {high}")
        return int(number)

    def matching(self, name: str, default: str, rule: Callable[[str], object], allowed: str) -> str:
        value = self.text(name, default)
        if not rule(value):
            raise SettingsError(f"{name}={value!r} is not allowed: use {allowed}")
        return value

    def url(self, name: str, default: str, schemes: tuple[str, ...], allowed: str) -> str:
        value = self.text(name, default)
        if not value.startswith(schemes):
            raise SettingsError(f"{name}={without_credentials(value)!r} is not allowed: use {allowed}")
        return value


def load(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from the environment (the process's own unless given). Raises SettingsError."""
    read = _Reader(os.environ if environment is None else environment)
    environment = os.environ if environment is None else environment
    port = read.whole("AGENTD_PORT", 7006, low=1, high=65535)
    return Settings(
        docker_host=read.url("DOCKER_HOST", _default_socket(), _ENGINE_SCHEMES, "unix://PATH or tcp://HOST:PORT"),
        docker_tls_verify=bool(read.text("DOCKER_TLS_VERIFY", "")),
        docker_cert_path=read.text("DOCKER_CERT_PATH", ""),
        prefix=read.matching("AGENTD_PREFIX", "agentd", _PREFIX.fullmatch, f"a name that matches {_PREFIX.pattern}"),
        db=read.text("AGENTD_DB", str(_state_home(environment) / "agentd" / "controller.db")),
        bind=read.text("AGENTD_BIND", "127.0.0.1"),
        port=port,
        token=read.secret("AGENTD_TOKEN"),
        agent_url=read.url(
            "AGENTD_AGENT_URL",
            f"ws://host.docker.internal:{port}",
            ("ws://", "wss://"),
            "a URL that begins with ws:// or wss://",
        ).rstrip("/"),
        mode=read.choice("AGENTD_MODE", "manage", MODES),
        sweep_interval_s=read.number("AGENTD_SWEEP_INTERVAL_S", 60, low=1, high=86_400),
        orphan_policy=read.choice("AGENTD_ORPHAN_POLICY", "remove", ORPHAN_POLICIES),
        orphan_grace_s=read.number("AGENTD_ORPHAN_GRACE_S", 300, low=0, high=31_536_000),
        stop_grace_s=read.number("AGENTD_STOP_GRACE_S", 10, low=0, high=3_600),
        shutdown_leave_running=read.flag("AGENTD_SHUTDOWN_LEAVE_RUNNING", default=False),
        shutdown_timeout_s=read.number("AGENTD_SHUTDOWN_TIMEOUT_S", 30, low=1, high=3_600),
        exit_when_engine_lost_s=read.number("AGENTD_EXIT_WHEN_ENGINE_LOST_S", 0, low=0, high=86_400),
        connect_grace_s=read.number("AGENTD_CONNECT_GRACE_S", 60, low=1, high=86_400),
        keep_failed_s=read.length_or_forever("AGENTD_KEEP_FAILED_S", 604_800, high=_KEEP_MAX_S),
        keep_stopped_s=read.length_or_forever("AGENTD_KEEP_STOPPED_S", 86_400, high=_KEEP_MAX_S),
        log_format=read.choice("AGENTD_LOG_FORMAT", "auto", ("auto", "console", "json")),
        log_level=read.choice("AGENTD_LOG_LEVEL", "info", ("debug", "info", "warning", "error")),
        retain_days=read.number("AGENTD_RETAIN_DAYS", 30, low=0.01, high=36_500),
        sources=read.sources,
    )


def _default_socket() -> str:
    present = [path for path in _SOCKETS if Path(path).exists()]
    return f"unix://{(present or list(_SOCKETS))[0]}"


def without_credentials(url: str) -> str:
    """The address of an engine as it may be shown: without a user and a password that somebody put into it."""
    scheme, separator, rest = url.partition("://") if "://" in url else ("", "", url)
    return url if scheme == "unix" else f"{scheme}{separator}{rest.rpartition('@')[2]}"


def _state_home(environment: Mapping[str, str]) -> Path:
    configured = environment.get("XDG_STATE_HOME", "")
    return Path(configured) if configured else Path(environment.get("HOME", "/")) / ".local" / "state"
