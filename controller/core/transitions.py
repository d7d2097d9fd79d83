"""(session, observation, now) -> Decision: the one function that every road leads through.

Total and pure. Here is the branch on what was observed; each module it calls holds the branch on the phase. What
belongs to an earlier attempt is sorted out before anything moves the present one.
"""

from typing import assert_never

from controller.core.beginning import on_admitted, on_requested
from controller.core.draft import Draft
from controller.core.events import on_event
from controller.core.looks import on_absent, on_seen
from controller.core.outcomes import on_outcome
from controller.core.rules import Rules
from controller.core.turns import on_controller_started, on_controller_stopping, on_deadline, on_engine_lost
from controller.core.wishes import on_connection, on_verb
from controller.model.decision import Decision, LookWish, Reply
from controller.model.instant import Instant
from controller.model.observation import (
    ConnectionChanged,
    ContainerAbsent,
    ContainerAdmitted,
    ContainerSeen,
    ControllerStarted,
    ControllerStopping,
    DeadlineReached,
    EngineLost,
    EventSeen,
    LookCause,
    Observation,
    OutcomeSeen,
    SessionRequested,
    VerbRequested,
)
from controller.model.reason import Reason
from controller.model.session import Session

_Turn = DeadlineReached | ControllerStarted | ControllerStopping | EngineLost
_Known = EventSeen | ContainerSeen | ContainerAbsent | OutcomeSeen | VerbRequested | ConnectionChanged | _Turn


def decide(session: Session | None, observation: Observation, *, now: Instant, rules: Rules) -> Decision:
    """What follows from one observation. `session` is None only for the first one of a new session.

    Raises AssertionError only when an invariant of a decision would be broken; the caller journals that as a defect.
    """
    if isinstance(observation, SessionRequested):
        return on_requested(observation, now=now, rules=rules)
    if isinstance(observation, ContainerAdmitted):
        return on_admitted(observation, now=now, rules=rules)
    if session is None:
        return Decision(session=None, looks=_look_at(observation))
    draft = Draft(session, observation, now=now, rules=rules)
    return draft.done(_apply(draft, observation))


def _apply(draft: Draft, observation: _Known) -> Reply | None:
    match observation:
        case EventSeen():
            on_event(draft, observation)
        case ContainerSeen():
            on_seen(draft, observation)
        case ContainerAbsent():
            on_absent(draft, observation)
        case OutcomeSeen():
            on_outcome(draft, observation)
        case VerbRequested():
            return on_verb(draft, observation)
        case ConnectionChanged():
            on_connection(draft, observation)
        case _:
            _turn(draft, observation)
    return None


def _turn(draft: Draft, observation: _Turn) -> None:
    match observation:
        case DeadlineReached():
            on_deadline(draft)
        case ControllerStarted():
            on_controller_started(draft)
        case ControllerStopping():
            on_controller_stopping(draft, observation)
        case EngineLost():
            on_engine_lost(draft)
        case _:
            assert_never(observation)


def unexpected(session: Session, observation: Observation, *, now: Instant, rules: Rules, why: str) -> Decision:
    """The row for an observation that could not be decided on: the session stays as it is, and is looked at."""
    draft = Draft(session, observation, now=now, rules=rules)
    draft.tell(reason=Reason.DEFECT, message=why)
    draft.look(delay_s=5.0, cause=LookCause.TIMER)
    return draft.done()


def _look_at(observation: Observation) -> tuple[LookWish, ...]:
    """An event of a container that no session has: what it is, an inspect tells."""
    if isinstance(observation, EventSeen):
        return (LookWish(container=observation.event.container, cause=LookCause.EVENT),)
    return ()
