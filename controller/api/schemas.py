"""What a client may send: bodies and queries, with every rule that can be checked without the ledger.

An unknown field is refused, never ignored. The OpenAPI document is made from these same classes.
"""

from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic.config import JsonDict

from controller.model.phase import Phase
from controller.model.spec import (
    DEFAULT_CPUS,
    DEFAULT_MEMORY_BYTES,
    Mount,
    NetworkPolicy,
    RestartMode,
    RestartPolicy,
    SessionSpec,
)

SESSION_NAME: Final = r"^[a-z0-9][a-z0-9_.-]{0,62}$"
NAME_RULE: Final = "a session name is 1 to 63 of a-z 0-9 _ . - and begins with a letter or digit"
SEQ_MAX: Final = 2**62
_DIGITS_MAX: Final = 19
YEAR_S: Final = 31_536_000.0
MEMORY_MIN_BYTES: Final = 6 * 1024**2
"""Docker's own lower limit."""

Name = Annotated[str, StringConstraints(pattern=SESSION_NAME)]
Line = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=4096)]
"""Text without control characters."""
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$", max_length=131_072)]
"""What an environment variable or an argument can hold."""
Filled = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=4096)]
HostPath = Annotated[str, StringConstraints(pattern=r"^/[^\x00-\x1f\x7f:]*$", max_length=4096)]
MountSource = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9/][^\x00-\x1f\x7f:]*$", max_length=4096)]
"""A folder of the engine's host, or the name of a volume."""
VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,255}$")]
Seconds = Annotated[float, Field(gt=0, le=10 * YEAR_S, allow_inf_nan=False)]


def _from_digits(value: object) -> object:
    if isinstance(value, str):
        if not value.isascii() or not value.isdecimal() or len(value) > _DIGITS_MAX:
            raise ValueError("use a whole number")
        return int(value)
    return value


def _from_whole_float(value: object) -> object:
    # JSON knows one kind of number: 3.0 is as whole as 3.
    return int(value) if isinstance(value, float) and value.is_integer() else value


_DIGITS: Final = BeforeValidator(_from_digits)
_WHOLE: Final = BeforeValidator(_from_whole_float)
_ONLY_SUCH: Final[JsonDict] = {"additionalProperties": False}
_ONLY_SUCH_AND_NOT_OURS: Final[JsonDict] = {
    "additionalProperties": False,
    "propertyNames": {"not": {"pattern": r"^agentd(\.|$)"}},
}


def _not_ours(labels: dict[str, str]) -> dict[str, str]:
    taken = sorted(label for label in labels if label == "agentd" or label.startswith("agentd."))
    if taken:
        raise ValueError(f"{taken[0]}: labels that begin with agentd. belong to the controller")
    return labels


class Body(BaseModel):
    """Strict: no unknown fields, no guessing between types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class MountBody(Body):
    """A folder or volume of the engine's host, shown inside the container."""

    source: MountSource
    target: HostPath
    read_only: bool = False


class RestartBody(Body):
    """When an attempt that ended is followed by another. Lengths in seconds."""

    mode: RestartMode = RestartMode.NO
    max_attempts: Annotated[int, Field(ge=1, le=10_000), _WHOLE] | None = None
    window_s: Seconds = 3600.0
    slow_retry_s: Seconds | None = None
    unhealthy_restart_s: Seconds | None = None

    def to_model(self) -> RestartPolicy:
        """The same, as the core knows it."""
        return RestartPolicy(**dict(self))


class SpecBody(Body):
    """A session as it is asked for."""

    image: Filled
    command: list[Text] = Field(default_factory=list, max_length=1024)
    env: dict[VariableName, Text] = Field(default_factory=dict, max_length=1024, json_schema_extra=_ONLY_SUCH)
    env_from: list[VariableName] = Field(default_factory=list, max_length=1024)
    labels: Annotated[dict[Filled, Text], AfterValidator(_not_ours)] = Field(
        default_factory=dict, max_length=1024, json_schema_extra=_ONLY_SUCH_AND_NOT_OURS
    )
    memory_bytes: Annotated[int, Field(ge=MEMORY_MIN_BYTES, le=2**50), _WHOLE] = DEFAULT_MEMORY_BYTES
    cpus: Annotated[float, Field(ge=0.01, le=1024, allow_inf_nan=False)] = DEFAULT_CPUS
    mounts: list[MountBody] = Field(default_factory=list, max_length=256)
    workdir: HostPath | None = None
    network_policy: NetworkPolicy = NetworkPolicy.INTERNET
    restart: RestartBody = Field(default_factory=RestartBody)
    expect_connection: bool = False
    ttl_s: Seconds | None = None
    stop_grace_s: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] | None = None
    agent_type: Line = "general"
    model_provider: Line = ""
    model_name: Line = ""
    user: Line | None = None

    def to_model(self) -> SessionSpec:
        """The same, as the core knows it."""
        changed = {
            "command": tuple(self.command),
            "env_from": tuple(self.env_from),
            "mounts": tuple(Mount(**dict(mount)) for mount in self.mounts),
            "restart": self.restart.to_model(),
        }
        return SessionSpec(**(dict(self) | changed))


class CreateBody(Body):
    """A new session: its name, what it is, and whether it starts at once."""

    name: Name
    spec: SpecBody
    start: bool = True


class RenewBody(Body):
    """A new time to live, counted from now."""

    ttl_s: Seconds


class AdoptBody(Body):
    """A container, by id, by the first 12 or more digits of it, or by name."""

    container: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}$")]


Switch = Annotated[
    bool, BeforeValidator(lambda value: {"true": True, "1": True, "false": False, "0": False}.get(value))
]
Wait = Annotated[float, Field(ge=0.1, le=3600, allow_inf_nan=False)]


class Query(BaseModel):
    """A query string; an unknown parameter is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NoQuery(Query):
    """No parameters at all."""


class SessionsQuery(Query):
    """Which sessions, and which page of them."""

    all: Switch = False
    phase: Phase | None = None
    limit: Annotated[int, Field(ge=1, le=1000), _DIGITS] = 500
    after: Annotated[str, StringConstraints(max_length=200)] = ""


class VerbQuery(Query):
    """Whether to wait for what is observed, and how long."""

    wait: Switch = True
    timeout_s: Wait = 60.0


class RemoveQuery(VerbQuery):
    """The same, and whether a session that runs is stopped first."""

    force: Switch = False


class PageQuery(Query):
    """Rows after a `seq`."""

    after: Annotated[int, Field(ge=0, le=SEQ_MAX), _DIGITS] = 0
    limit: Annotated[int, Field(ge=1, le=1000), _DIGITS] = 100


class JournalQuery(PageQuery):
    """The same, of one session or of all."""

    session: Name | None = None


class EventsQuery(Query):
    """Where the stream begins: after that `seq`, else with the next row; `Last-Event-ID` comes first."""

    after: Annotated[int, Field(ge=0, le=SEQ_MAX), _DIGITS] | None = None


class LogsQuery(Query):
    """Which lines of which attempt."""

    tail: Annotated[int, Field(ge=0, le=10_000), _DIGITS] = 100
    follow: Switch = False
    attempt: Annotated[int, Field(ge=1, le=2**31), _DIGITS] | None = None


class SweepQuery(Query):
    """Whether to plan only."""

    dry_run: Switch = False
