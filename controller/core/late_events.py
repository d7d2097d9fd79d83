"""Events of runs that are over, of containers that were left, and of runs that nobody knew: told when they come late.

They complete a record, or say that one is missing. Only a `stop` that explains an end moves the session, too.
"""

from dataclasses import replace
from typing import Final

from controller.core.draft import Draft
from controller.core.event_facts import believed, is_of_a_run_after, over_at, with_kill
from controller.core.hindsight import complete_earlier, learn_of_death, learn_of_stop, renew_diagnosis
from controller.core.judging import End
from controller.core.leaving import container_gone
from controller.core.pursuing import reason_without_process
from controller.model.container import EngineEvent, EventAction
from controller.model.observation import EventSeen
from controller.model.phase import Phase
from controller.model.reason import ACTOR_EXTERNAL, Reason
from controller.model.session import Attempt

_STATES: Final = (
    EventAction.PAUSE,
    EventAction.UNPAUSE,
    EventAction.HEALTH,
    EventAction.RESTART,
    EventAction.UPDATE,
)
"""What these tell is a state that a look shows."""


def about_earlier(draft: Draft, attempt: Attempt, seen: EventSeen) -> None:
    """Of an attempt before the present one, or of a run after it that nobody knew."""
    event = seen.event
    if is_of_a_run_after(attempt, event):
        if event.action is EventAction.START:
            draft.tell(reason=Reason.UNEXPECTED, message="a run in between was not seen")
    elif event.action is EventAction.OOM:
        complete_earlier(draft, replace(attempt, oom_at=event.at))
    elif event.action is EventAction.STOP:
        complete_earlier(draft, replace(attempt, stop_at=event.at))
    elif event.action is EventAction.DIE and attempt.died_at is None:
        code = believed(draft, event, "exitCode", event.exit_code)
        known = attempt.exit.exit_code if attempt.exit is not None else None
        died = replace(attempt, died_at=event.at, died_after_gap=seen.after_gap)
        complete_earlier(draft, died, end=End(exit_code=known if known is not None else code, finished_at=event.at))
    elif event.action is EventAction.DESTROY and draft.session.container_id == event.container:
        destroyed(draft)
    elif event.action in _STATES:
        # Late, or of the present run and the engine's clock was set back: how it is now is asked for.
        draft.look()


def destroyed(draft: Draft) -> None:
    """The session's container is removed."""
    if draft.session.removed_at is None:
        container_gone(draft)


def about_left(draft: Draft, seen: EventSeen) -> None:
    """Of a container that the session has left. A run that its `destroy` overtook is told; nothing else moves."""
    attempt, event = draft.attempt, seen.event
    if draft.session.container is not None or attempt is None or attempt.container != event.container:
        return
    if event.action is EventAction.START:
        had_been_started(draft, attempt, event)
    elif event.action is EventAction.DIE:
        about_ended(draft, attempt, seen)


def had_been_started(draft: Draft, attempt: Attempt, event: EngineEvent) -> None:
    """A start before the container went: of what was taken for one that had never been started, or of one run more."""
    if attempt.started_at is None:
        ran = replace(attempt, started_at=event.at, provisional=True, start_told=True)
        draft.session = replace(draft.session, attempt=ran)
        draft.tell(message="it had been started, and was gone before anybody looked")
    elif is_of_a_run_after(attempt, event):
        draft.tell(reason=Reason.UNEXPECTED, message="it was started once more, and was gone before anybody looked")


def about_unknown(draft: Draft, event: EngineEvent) -> None:
    """Of a run that nobody knew, or the engine's clock was set back: the present one is asked for, not guessed at."""
    if event.action is EventAction.DIE:
        draft.tell(reason=Reason.UNEXPECTED, message="an end was told that is older than the run that is known")
    draft.look(tail=True)


def about_ended(draft: Draft, attempt: Attempt, seen: EventSeen) -> None:
    """Events that come after the end was told, and belong to it."""
    event = seen.event
    match event.action:
        case EventAction.DIE if _is_anothers(attempt, seen):
            # Its `start` is still to come, or was lost: a look knows.
            draft.tell(reason=Reason.UNEXPECTED, message="an end was told, long after that of the run that is known")
            draft.look(tail=True)
        case EventAction.DIE if attempt.died_at is None:
            died = replace(attempt, died_at=event.at, died_after_gap=seen.after_gap)
            draft.session = replace(draft.session, attempt=died)
            learn_of_death(draft, believed(draft, event, "exitCode", event.exit_code), at=event.at)
        case EventAction.OOM:
            draft.session = replace(draft.session, attempt=replace(attempt, oom_at=event.at))
            renew_diagnosis(draft)
        case EventAction.STOP if attempt.stop_at is None:
            _stopped_after_end(draft, attempt, event)
        case EventAction.KILL if event.at <= over_at(attempt):
            draft.session = replace(draft.session, attempt=with_kill(draft, attempt, event))
            renew_diagnosis(draft)
        case _:
            pass


def _is_anothers(attempt: Attempt, seen: EventSeen) -> bool:
    """Whether a `die` is that of a later run than the ended one. A daemon that comes back tells its own much later."""
    return is_of_a_run_after(attempt, seen.event) and not (seen.replayed or seen.after_gap)


def _stopped_after_end(draft: Draft, attempt: Attempt, event: EngineEvent) -> None:
    draft.session = replace(draft.session, attempt=replace(attempt, stop_at=event.at))
    session = draft.session
    if session.engine_backs_off:
        # A stop during the engine's own back-off: no kill, no die, only this.
        ours = session.stop_wanted
        reason = Reason.STOPPED_EXTERNALLY if ours is None else reason_without_process(ours)
        draft.enter(Phase.STOPPED, reason, "stopped while the engine was about to start it again")
        draft.tell(actor=ACTOR_EXTERNAL if ours is None else ours.actor)
        draft.look(tail=True)
    elif session.phase.is_ended and attempt.intent is None:
        learn_of_stop(draft)
