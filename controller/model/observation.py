"""Observations: all that `decide` ever gets to know. Every road into the inbox ends in one of these.

Each is self-contained and is stored with the journal row that it caused, so that a session's journal can be
replayed. `observed_at` is always our own clock.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from controller.model.action import Outcome
from controller.model.container import EngineEvent, LogTail, Snapshot
from controller.model.ids import ContainerId, SessionId, SessionName
from controller.model.instant import Instant
from controller.model.session import Origin
from controller.model.spec import SessionSpec


class LookCause(StrEnum):
    """Who asked for a look: it decides which source a transition gets."""

    EVENT = "event"
    SWEEP = "sweep"
    TIMER = "timer"
    ACTION = "action"
    REQUEST = "request"


@dataclass(frozen=True, kw_only=True)
class EventSeen:
    """One event of the stream."""

    kind: Literal["event"] = "event"
    event: EngineEvent
    observed_at: Instant
    replayed: bool = False
    """The engine repeated it after a (re)connect."""
    continuous: bool = True
    """False when it was read in a replay that did not prove that nothing is missing before it."""
    after_gap: bool = False
    """Events may be missing between the last look at the session and this one: a `start` before it, say."""


@dataclass(frozen=True, kw_only=True)
class ContainerSeen:
    """One inspect."""

    kind: Literal["seen"] = "seen"
    snapshot: Snapshot
    cause: LookCause
    asked_at: Instant
    """Our clock before the request: the answer is at least that fresh, and no fresher than observed_at."""
    observed_at: Instant
    tail: LogTail | None = None
    """The last lines, when the container had ended and the look was asked for them."""
    in_gap: bool = False
    """Asked for because events may have been missed."""
    orphan_still: bool = False
    """A sweep came upon an orphan that was spared before, and nothing speaks for it any more."""


@dataclass(frozen=True, kw_only=True)
class ContainerAbsent:
    """A definite 404 to an inspect by full id."""

    kind: Literal["absent"] = "absent"
    container: ContainerId
    cause: LookCause
    asked_at: Instant
    observed_at: Instant
    in_gap: bool = False
    """Asked for because events may have been missed."""


@dataclass(frozen=True, kw_only=True)
class ContainerAdmitted:
    """A container that no session had, to be taken into the ledger: external, adopted, or an orphan."""

    kind: Literal["admitted"] = "admitted"
    session_id: SessionId
    name: SessionName
    origin: Origin
    external_key: str = ""
    may_act: bool = True
    seen: ContainerSeen
    actor: str = "controller"
    renamed_from: str = ""
    """The name it would have had if that were free."""
    duplicate: bool = False
    """Another live container has the session of its external key."""

    @property
    def observed_at(self) -> Instant:
        """When the inspect was answered."""
        return self.seen.observed_at


@dataclass(frozen=True, kw_only=True)
class SessionRequested:
    """A user wants a new session."""

    kind: Literal["create"] = "create"
    session_id: SessionId
    name: SessionName
    spec: SessionSpec
    spec_hash: str
    start: bool
    actor: str
    observed_at: Instant


class Verb(StrEnum):
    """What a user can ask of a session that exists."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"
    REMOVE = "remove"
    RENEW = "renew"
    ADOPT = "adopt"
    """Keep what was recorded only because it was to be removed."""


@dataclass(frozen=True, kw_only=True)
class VerbRequested:
    """A user asks something of one session."""

    kind: Literal["verb"] = "verb"
    verb: Verb
    actor: str
    observed_at: Instant
    force: bool = False
    """Of a remove: stop it first if it runs."""
    ttl_s: float | None = None
    """Of a renew: seconds from now."""


@dataclass(frozen=True, kw_only=True)
class OutcomeSeen:
    """An action ended."""

    kind: Literal["outcome"] = "outcome"
    outcome: Outcome
    observed_at: Instant


@dataclass(frozen=True, kw_only=True)
class DeadlineReached:
    """The session's `due_at` has come."""

    kind: Literal["deadline"] = "deadline"
    observed_at: Instant


@dataclass(frozen=True, kw_only=True)
class ControllerStarted:
    """A new life of the controller: deadlines are re-derived, what our shutdown stopped may start again."""

    kind: Literal["started"] = "started"
    observed_at: Instant


@dataclass(frozen=True, kw_only=True)
class ControllerStopping:
    """We were told to stop."""

    kind: Literal["stopping"] = "stopping"
    leave_running: bool
    grace_s: float
    """The longest grace that a stop may take, so that the kill and the last commit still fit."""
    observed_at: Instant


@dataclass(frozen=True, kw_only=True)
class EngineLost:
    """The stream broke or the engine refused: an unmatched stop in the last 30 s was the engine's own."""

    kind: Literal["engine_lost"] = "engine_lost"
    observed_at: Instant


@dataclass(frozen=True, kw_only=True)
class ConnectionChanged:
    """The session's agent connected to, or left, the connection registry."""

    kind: Literal["connection"] = "connection"
    connected: bool
    observed_at: Instant


Observation = (
    EventSeen
    | ContainerSeen
    | ContainerAbsent
    | ContainerAdmitted
    | SessionRequested
    | VerbRequested
    | OutcomeSeen
    | DeadlineReached
    | ControllerStarted
    | ControllerStopping
    | EngineLost
    | ConnectionChanged
)
