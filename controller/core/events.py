"""One event of the stream: a hint with partial facts, told at once and looked at after.

Here is what it tells of the present run. Of which run it tells, and what of it can be believed, says `event_facts.py`;
what comes late, of runs that are over, is for `late_events.py`.
"""

from dataclasses import replace
from typing import assert_never

from controller.core.draft import Draft
from controller.core.ending import end_attempt
from controller.core.event_facts import (
    believed,
    earlier_attempt_of,
    is_before,
    is_of_a_run_after,
    is_start_of,
    over_at,
    with_kill,
)
from controller.core.judging import INVENTED_CODE, End, is_unproven
from controller.core.late_events import (
    about_earlier,
    about_ended,
    about_left,
    about_unknown,
    destroyed,
    had_been_started,
)
from controller.core.opening import open_attempt
from controller.core.pursuing import pursue
from controller.core.signals import signal_name
from controller.core.standing import note_health
from controller.model.container import EngineEvent, EventAction
from controller.model.observation import EventSeen
from controller.model.phase import Phase
from controller.model.reason import ACTOR_ENGINE, ACTOR_EXTERNAL, Reason
from controller.model.session import Attempt


def on_event(draft: Draft, seen: EventSeen) -> None:
    """What one event tells about the session."""
    event, attempt = seen.event, draft.attempt
    if event.action is EventAction.RENAME:
        _renamed(draft, event)
        return
    late = earlier_attempt_of(draft, event)
    if late is not None:
        about_earlier(draft, late, seen)
        return
    if draft.session.container_id != event.container:
        about_left(draft, seen)
        return
    if event.action is EventAction.DESTROY:
        destroyed(draft)
    elif attempt is not None and is_before(attempt, event):
        about_unknown(draft, event)
    elif event.action is EventAction.START:
        _started(draft, event)
    elif attempt is not None and attempt.ended_at is not None:
        about_ended(draft, attempt, seen)
    elif attempt is not None and attempt.started_at is not None:
        _about_running(draft, attempt, seen)
    elif event.action is not EventAction.CREATE:
        draft.look()
    pursue(draft)


def _renamed(draft: Draft, event: EngineEvent) -> None:
    container = draft.session.container
    if container is None or container.id != event.container or container.name == event.name or not event.name:
        return
    draft.session = replace(draft.session, container=replace(container, name=event.name))
    old_name = event.old_name.removeprefix("/") or container.name
    draft.tell(actor=ACTOR_EXTERNAL, reason=Reason.RENAMED, message=f"from {old_name} to {event.name}")


def _started(draft: Draft, event: EngineEvent) -> None:
    attempt = draft.attempt
    if draft.session.removed_at is not None:
        # A removed container does not start: the event is old, or the removal was another's. A look knows.
        if attempt is not None and attempt.ended_at is not None:
            had_been_started(draft, attempt, event)
        draft.look()
        return
    if attempt is not None and is_start_of(attempt, event):
        # A look, or the answer to our own start, was faster; an engine may tell even the end first.
        draft.session = replace(draft.session, attempt=replace(attempt, start_told=True))
        draft.look()
        return
    if any(one.container == event.container and is_start_of(one, event) for one in draft.session.earlier):
        draft.look()
        return
    if attempt is not None and attempt.started_at is not None and attempt.ended_at is None:
        if not is_of_a_run_after(attempt, event):
            # The end before it was missed, or comes late: its StartedAt will tell, if a look still finds it.
            if attempt.start_told:
                draft.session = replace(draft.session, attempt=replace(attempt, restarted_at=event.at))
            draft.look()
            return
        # The end was told without a code that can be believed, and no look can tell it any more.
        end_attempt(draft, End(finished_at=attempt.died_at, looked=True))
    if attempt is not None and event.at <= over_at(attempt) and not is_of_a_run_after(attempt, event):
        return
    open_attempt(draft, started_at=event.at, provisional=True)
    draft.look()


def _about_running(draft: Draft, attempt: Attempt, seen: EventSeen) -> None:
    event = seen.event
    match event.action:
        case EventAction.DIE:
            _died(draft, attempt, seen)
        case EventAction.KILL:
            _kill_seen(draft, attempt, event)
        case EventAction.OOM:
            draft.session = replace(draft.session, attempt=replace(attempt, oom_at=event.at))
            draft.tell(actor=ACTOR_ENGINE, reason=Reason.OOM_CHILD, message="a process in it was killed for memory")
        case EventAction.STOP:
            draft.session = replace(draft.session, attempt=replace(attempt, stop_at=event.at))
            draft.look(tail=True)
        case EventAction.PAUSE | EventAction.UNPAUSE:
            _paused_or_resumed(draft, event.action)
        case EventAction.HEALTH:
            if draft.session.phase is Phase.RUNNING and event.health is not None:
                note_health(draft, event.health)
                draft.look()
        case EventAction.RESTART | EventAction.UPDATE:
            draft.look()
        case EventAction.CREATE | EventAction.START | EventAction.RENAME | EventAction.DESTROY:
            pass
        case _:
            assert_never(event.action)


def _died(draft: Draft, attempt: Attempt, seen: EventSeen) -> None:
    event = seen.event
    code = believed(draft, event, "exitCode", event.exit_code)
    if code == INVENTED_CODE and is_unproven(draft):
        # A daemon that comes back says so of what ended while it was away. As good as no event: the look may know.
        draft.look(tail=True)
        return
    draft.session = replace(draft.session, attempt=replace(attempt, died_at=event.at, died_after_gap=seen.after_gap))
    if code is None:
        # Whether it ended well is what the phase says: it waits for the look.
        draft.look(tail=True)
        return
    end_attempt(draft, End(exit_code=code, finished_at=event.at))


def _kill_seen(draft: Draft, attempt: Attempt, event: EngineEvent) -> None:
    killed = with_kill(draft, attempt, event)
    draft.session = replace(draft.session, attempt=killed)
    if attempt.intent is None:
        signal = killed.kill_signal
        message = f"{signal_name(signal) if signal is not None else 'a signal'} was sent to it"
        draft.tell(actor=ACTOR_EXTERNAL, reason=Reason.KILL_SIGNAL, message=message)


def _paused_or_resumed(draft: Draft, action: EventAction) -> None:
    phase = draft.session.phase
    if action is EventAction.PAUSE and phase is Phase.RUNNING:
        draft.enter(Phase.PAUSED, Reason.PAUSED)
        draft.tell(actor=ACTOR_EXTERNAL)
    elif action is EventAction.UNPAUSE and phase is Phase.PAUSED:
        # Not while stopping: the engine resumes a paused container that we stop.
        draft.enter(Phase.RUNNING, Reason.UNPAUSED)
        draft.tell(actor=ACTOR_EXTERNAL)
        draft.look()
