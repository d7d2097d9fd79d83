"""What `decide` returns: the session as it is to be, and all that follows from it."""

from dataclasses import dataclass

from controller.model.action import Action
from controller.model.ids import ActionId, ContainerId
from controller.model.journal import Evidence, JournalDraft
from controller.model.observation import LookCause
from controller.model.session import Session


@dataclass(frozen=True, kw_only=True)
class LookWish:
    """Ask for an inspect of one container."""

    container: ContainerId
    cause: LookCause
    delay_s: float = 0.0
    tail: bool = False
    """Fetch the last log lines too, if the container has ended."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """The answer to a request: accepted, or refused with one line why."""

    accepted: bool
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Committed whole or not at all; actions are carried out only afterwards.

    A changed session always comes with at least one row: the journal alone gives the session back.
    """

    session: Session | None
    """None when nothing is, or is to be, recorded."""
    rows: tuple[JournalDraft, ...] = ()
    actions: tuple[Action, ...] = ()
    closed: tuple[ActionId, ...] = ()
    """Actions that are no longer open."""
    evidence: tuple[Evidence, ...] = ()
    looks: tuple[LookWish, ...] = ()
    reply: Reply | None = None
