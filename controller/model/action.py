"""Actions: repeatable requests to the engine, as data; and what came of them."""

from dataclasses import dataclass
from enum import StrEnum

from controller.model.container import Snapshot
from controller.model.ids import ActionId, ContainerId, SessionId
from controller.model.instant import Instant


class ActionKind(StrEnum):
    """The only four ways in which the controller changes an engine."""

    CREATE = "create"
    START = "start"
    STOP = "stop"
    REMOVE = "remove"


@dataclass(frozen=True, kw_only=True)
class Action:
    """One request, with the state of the target when it was decided."""

    id: ActionId
    session_id: SessionId
    kind: ActionKind
    container: ContainerId | None
    """None only for a create."""
    started_at: Instant | None
    """The target's StartedAt when decided. When it has moved, a start is done and a stop or remove is superseded."""
    attempt: int = 0
    """Number of the attempt that it was decided on; 0 when there was none, or its container was another."""
    decided_at: Instant
    """By our clock."""
    drop_at: Instant
    """Past this, the action is dropped and the session decided anew."""
    grace_s: float = 0.0
    """Of a stop: between the signal and the kill."""
    reason: str = ""
    """Why, in one phrase, for the log line."""
    actor: str = "controller"


class OutcomeKind(StrEnum):
    """How an action ended."""

    DONE = "done"
    """The engine did it, or it was already so."""
    REFUSED = "refused"
    """The engine will never do it; the message says why."""
    SUPERSEDED = "superseded"
    """The target has moved on since it was decided; nothing is sent from now on."""
    GONE = "gone"
    """The target does not exist: success for a stop or remove, a failure for a start."""
    DROPPED = "dropped"
    """Its time ran out without a certain answer."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one action."""

    action: Action
    kind: OutcomeKind
    message: str = ""
    """Untrusted text when it is the engine's."""
    snapshot: Snapshot | None = None
    """The target after the act, where it was looked at."""
    asked_at: Instant | None = None
    """When that look was asked for, at the earliest: its answer may be older than what an event has told since."""
    maybe_done: bool = False
    """Of one that ended without an answer of its own (gone, superseded, dropped): it may have been sent, by an earlier
    life or without an answer, and come to the engine yet."""
    conflict: str = ""
    """The name or id of the container that stands in the way of a create."""
