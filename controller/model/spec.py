"""What a user asks for: the image, its limits, and when to start it again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

DEFAULT_MEMORY_BYTES: Final = 2 * 1024**3
DEFAULT_CPUS: Final = 2.0
WORKSPACE: Final = "/workspace"


class NetworkPolicy(StrEnum):
    """What a session can reach. `docs/operating.md` says what each promises."""

    INTERNET = "internet"
    ISOLATED = "isolated"
    HOST_NETWORK = "host_network"


class RestartMode(StrEnum):
    """When an attempt that ended is followed by another."""

    NO = "no"
    ON_FAILURE = "on-failure"
    ALWAYS = "always"


@dataclass(frozen=True, kw_only=True)
class RestartPolicy:
    """How often, and how fast, a session is started again."""

    mode: RestartMode = RestartMode.NO
    max_attempts: int | None = None
    """Automatic restarts granted within the window; None grants any number, each after its back-off."""
    window_s: float = 3600.0
    """How far back attempts count."""
    slow_retry_s: float | None = None
    """Once the budget is spent, try again after this long instead of never."""
    unhealthy_restart_s: float | None = None
    """Restart after being unhealthy for this long; None only records."""


@dataclass(frozen=True, kw_only=True)
class Mount:
    """A folder or volume of the engine's host, shown inside the container."""

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True, kw_only=True)
class SessionSpec:
    """One session as it was asked for. Values of `env` live here and are masked in every output."""

    image: str
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    env_from: tuple[str, ...] = ()
    """Names whose values are taken from the controller's own environment at creation, and never stored."""
    labels: Mapping[str, str] = field(default_factory=dict)
    memory_bytes: int = DEFAULT_MEMORY_BYTES
    cpus: float = DEFAULT_CPUS
    mounts: tuple[Mount, ...] = ()
    workdir: str | None = None
    """Folder of the engine's host that the session sees as /workspace."""
    network_policy: NetworkPolicy = NetworkPolicy.INTERNET
    restart: RestartPolicy = field(default_factory=RestartPolicy)
    expect_connection: bool = False
    ttl_s: float | None = None
    stop_grace_s: float | None = None
    """Between the stop signal and the kill; None takes AGENTD_STOP_GRACE_S."""
    agent_type: str = "general"
    model_provider: str = ""
    model_name: str = ""
    user: str | None = None
