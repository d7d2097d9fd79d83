"""The container of a session at rest: kept for a time, then removed. The session stays as it ended, with its evidence.

`deadlines.py` says until when. Here is the way to the removal, and what is told once it is done; whatever ends the
wait meanwhile (a start, a removal on request, somebody else) makes it none of this module's business.
"""

from dataclasses import replace
from typing import Final

from controller.core.deadlines import kept_until
from controller.core.draft import Draft
from controller.core.rules import REMOVAL_AGAIN_S
from controller.core.wording import between
from controller.model.action import ActionKind
from controller.model.container import ContainerState
from controller.model.instant import Instant, after
from controller.model.observation import ContainerSeen, LookCause
from controller.model.phase import Desired, Phase
from controller.model.reason import ACTOR_CONTROLLER, Reason
from controller.model.session import Origin, Session

KEPT_LONG_ENOUGH: Final = "its container was kept for long enough"
_LOOK_AGAIN_S: Final = 1.0
_RESTS: Final = (ContainerState.CREATED, ContainerState.EXITED, ContainerState.DEAD)


def is_kept_long_enough(draft: Draft) -> bool:
    """Whether the container's time is over, and it is to go."""
    until = kept_until(draft.session, rules=draft.rules)
    return until is not None and until <= draft.now


def toward_pruning(draft: Draft) -> None:
    """A fresh look first, for the last time: an engine that cannot be asked is not told to remove anything."""
    seen = draft.observation
    if isinstance(seen, ContainerSeen) and seen.snapshot.state in _RESTS:
        remove_container(draft, why=KEPT_LONG_ENOUGH, cause=LookCause.TIMER)
    elif not isinstance(seen, ContainerSeen):
        draft.look(cause=LookCause.TIMER, tail=True)


def remove_container(draft: Draft, *, why: str, cause: LookCause = LookCause.REQUEST) -> None:
    """What is about to be lost is committed first, always."""
    attempt = draft.attempt
    if attempt is not None and not attempt.evidence_kept:
        # A look that could not tell it is not repeated at once.
        delay_s = _LOOK_AGAIN_S if isinstance(draft.observation, ContainerSeen) else 0.0
        draft.look(cause=cause, delay_s=delay_s, tail=True)
    else:
        draft.act(ActionKind.REMOVE, why=why)


def is_pruning(session: Session) -> bool:
    """Whether a removal that was decided takes the container only: nobody asked for the session to go."""
    over = session.phase in (Phase.STOPPED, Phase.FAILED)
    here = session.removed_at is None and not session.removal_wanted
    return session.origin is Origin.REQUESTED and over and here


def may_be_our_removal(session: Session, *, now: Instant) -> bool:
    """Whether a container that has gone while nothing ran in it may have been taken by a removal of ours.

    One that the engine gave no certain answer to can come late. It takes nothing that runs: nothing of ours is forced.
    """
    asked = session.removal_again_at is not None and now <= session.removal_again_at
    return asked and (is_pruning(session) or (session.phase is Phase.STARTING and not session.removal_wanted))


def pruned(draft: Draft) -> None:
    """The container is gone as was decided. The session lives on without it; a start makes it a new one."""
    session, attempt = draft.session, draft.attempt
    at_rest = session.phase is not Phase.STARTING
    if attempt is not None and attempt.ended_at is None:
        # It was made, never started, and stopped being wanted.
        attempt = replace(attempt, ended_at=draft.now, looked_at_end=True)
    draft.session = replace(
        session,
        attempt=attempt,
        container=None,
        removal_again_at=None if at_rest else session.removal_again_at,
        desired=Desired.STOPPED if at_rest and not session.restart_wanted else session.desired,
    )
    age = f", {between(session.since, draft.now)} after its end" if at_rest else ""
    draft.tell(
        actor=ACTOR_CONTROLLER,
        reason=Reason.CONTAINER_PRUNED,
        message=f"its container is removed{age}; what it left behind is kept",
    )


def not_pruned(draft: Draft) -> None:
    """The engine would not, or gave no certain answer: again, but not at once, for it may be done yet."""
    draft.session = replace(draft.session, removal_again_at=after(draft.now, REMOVAL_AGAIN_S))
