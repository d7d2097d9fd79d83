"""One event of the stream: a hint with partial facts, told at once and looked at after.

It belongs to that container's attempt with the latest StartedAt not after its own time. What belongs to an earlier
attempt completes that record. Labels overwrite attributes on an engine: a code or a signal is believed only where
the container's labels are known and do not contain it.
"""

from dataclasses import replace
from typing import Final, assert_never

from controller.core.draft import Draft
from controller.core.ending import end_attempt
from controller.core.hindsight import complete_earlier, learn_of_death, learn_of_stop, renew_diagnosis
from controller.core.judging import INVENTED_CODE, End, is_unproven
from controller.core.leaving import container_gone
from controller.core.opening import open_attempt
from controller.core.pursuing import has_process, pursue
from controller.core.rules import START_TOLD_WITHIN_S
from controller.core.signals import signal_name
from controller.core.standing import note_health
from controller.model.container import EngineEvent, EventAction
from controller.model.instant import Instant, after, seconds_between
from controller.model.observation import EventSeen
from controller.model.phase import Phase
from controller.model.reason import ACTOR_ENGINE, ACTOR_EXTERNAL, Reason
from controller.model.session import Attempt

_TOLD_TOO_LATE_S: Final = 0.05
"""A `start` this little after the `die` is that of the run that has ended: the engine's own restarts wait for 0.1 s."""
_ABOUT_ITS_END_S: Final = 1.0
"""Between FinishedAt and what the engine tells around it: `kill`, `oom`, `die`, `stop`."""
_KILL_SERIES_S: Final = 60.0
"""Kills this close together are one stop: its signal, and the 9 after the grace."""


def on_event(draft: Draft, seen: EventSeen) -> None:
    """What one event tells about the session."""
    event, attempt = seen.event, draft.attempt
    if event.action is EventAction.RENAME:
        _renamed(draft, event)
        return
    late = _earlier_attempt_of(draft, event)
    if late is not None:
        _about_earlier(draft, late, seen)
        return
    if draft.session.container_id != event.container:
        _about_left(draft, seen)
        return
    if event.action is EventAction.DESTROY:
        _destroyed(draft)
    elif attempt is not None and _is_before(attempt, event):
        _about_unknown(draft, event)
    elif event.action is EventAction.START:
        _started(draft, event)
    elif attempt is not None and attempt.ended_at is not None:
        _about_ended(draft, attempt, seen)
    elif attempt is not None and attempt.started_at is not None:
        _about_running(draft, attempt, seen)
    elif event.action is not EventAction.CREATE:
        draft.look()
    pursue(draft)


def _earlier_attempt_of(draft: Draft, event: EngineEvent) -> Attempt | None:
    present, earlier = draft.attempt, draft.session.earlier
    if present is not None and _could_belong(present, event):
        return next((one for one in earlier if _is_about_its_end(one, present, event)), None)
    return next((one for one in earlier if _could_belong(one, event)), None)


def _could_belong(attempt: Attempt, event: EngineEvent) -> bool:
    return attempt.container == event.container and attempt.started_at is not None and attempt.started_at <= event.at


def _is_about_its_end(earlier: Attempt, present: Attempt, event: EngineEvent) -> bool:
    """Whether an event comes at the end of a run after which the engine's clock was set back: its times overlap."""
    finished_at, started_at = earlier.finished_at, present.started_at
    if finished_at is None or started_at is None or finished_at <= started_at or event.action is EventAction.START:
        return False
    told = event.action is EventAction.DIE and earlier.died_at is not None
    near = abs(seconds_between(finished_at, event.at)) <= _ABOUT_ITS_END_S
    return earlier.container == event.container and near and not told


def _is_before(attempt: Attempt, event: EngineEvent) -> bool:
    return attempt.started_at is not None and event.at < attempt.started_at


def _about_unknown(draft: Draft, event: EngineEvent) -> None:
    """Of a run that nobody knew, or the engine's clock was set back: the present one is asked for, not guessed at."""
    if event.action is EventAction.DIE:
        draft.tell(reason=Reason.UNEXPECTED, message="an end was told that is older than the run that is known")
    draft.look(tail=True)


def _about_earlier(draft: Draft, attempt: Attempt, seen: EventSeen) -> None:
    event = seen.event
    if _is_of_a_run_after(attempt, event):
        if event.action is EventAction.START:
            draft.tell(reason=Reason.UNEXPECTED, message="a run in between was not seen")
    elif event.action is EventAction.OOM:
        complete_earlier(draft, replace(attempt, oom_at=event.at))
    elif event.action is EventAction.STOP:
        complete_earlier(draft, replace(attempt, stop_at=event.at))
    elif event.action is EventAction.DIE and attempt.died_at is None:
        code = _believed(draft, event, "exitCode", event.exit_code)
        known = attempt.exit.exit_code if attempt.exit is not None else None
        died = replace(attempt, died_at=event.at, died_after_gap=seen.after_gap)
        complete_earlier(draft, died, end=End(exit_code=known if known is not None else code, finished_at=event.at))
    elif event.action is EventAction.DESTROY and draft.session.container_id == event.container:
        _destroyed(draft)


def _is_of_a_run_after(attempt: Attempt, event: EngineEvent) -> bool:
    """Whether an event between two runs that are known tells of one that is not."""
    over_at = attempt.died_at or attempt.finished_at
    if over_at is None or event.action is EventAction.DESTROY:
        return False
    return event.at > after(over_at, _TOLD_TOO_LATE_S if event.action is EventAction.START else _ABOUT_ITS_END_S)


def _about_left(draft: Draft, seen: EventSeen) -> None:
    """Of a container that the session has left. A run that its `destroy` overtook is told; nothing else moves."""
    attempt, event = draft.attempt, seen.event
    if draft.session.container is not None or attempt is None or attempt.container != event.container:
        return
    if event.action is EventAction.START:
        _had_been_started(draft, attempt, event)
    elif event.action is EventAction.DIE:
        _about_ended(draft, attempt, seen)


def _renamed(draft: Draft, event: EngineEvent) -> None:
    container = draft.session.container
    if container is None or container.id != event.container or container.name == event.name or not event.name:
        return
    draft.session = replace(draft.session, container=replace(container, name=event.name))
    old_name = event.old_name.removeprefix("/") or container.name
    draft.tell(actor=ACTOR_EXTERNAL, reason=Reason.RENAMED, message=f"from {old_name} to {event.name}")


def _destroyed(draft: Draft) -> None:
    if draft.session.removed_at is None:
        container_gone(draft)


def _started(draft: Draft, event: EngineEvent) -> None:
    attempt = draft.attempt
    if draft.session.removed_at is not None:
        # A removed container does not start: the event is old, or the removal was another's. A look knows.
        if attempt is not None and attempt.ended_at is not None:
            _had_been_started(draft, attempt, event)
        draft.look()
        return
    if attempt is not None and _is_start_of(attempt, event):
        # A look, or the answer to our own start, was faster; an engine may tell even the end first.
        draft.session = replace(draft.session, attempt=replace(attempt, start_told=True))
        draft.look()
        return
    if any(one.container == event.container and _is_start_of(one, event) for one in draft.session.earlier):
        draft.look()
        return
    if attempt is not None and attempt.started_at is not None and attempt.ended_at is None:
        if not _is_of_a_run_after(attempt, event):
            # The end before it was missed: its StartedAt will tell.
            draft.look()
            return
        # The end was told without a code that can be believed, and no look can tell it any more.
        end_attempt(draft, End(finished_at=attempt.died_at, looked=True))
    if attempt is not None and attempt.ended_at is not None and event.at <= _over_at(attempt):
        return
    open_attempt(draft, started_at=event.at, provisional=True)
    draft.look()


def _had_been_started(draft: Draft, attempt: Attempt, event: EngineEvent) -> None:
    """A start before the container went: of what was taken for one that had never been started, or of one run more."""
    if attempt.started_at is None:
        ran = replace(attempt, started_at=event.at, provisional=True, start_told=True)
        draft.session = replace(draft.session, attempt=ran)
        draft.tell(message="it had been started, and was gone before anybody looked")
    elif _is_of_a_run_after(attempt, event):
        draft.tell(reason=Reason.UNEXPECTED, message="it was started once more, and was gone before anybody looked")


def _is_start_of(attempt: Attempt, event: EngineEvent) -> bool:
    """Whether a `start` is that of a run that is known already; if it is not, a look will tell.

    An engine may tell an end that follows at once before the start, but starts nothing again as quickly as that.
    """
    if attempt.start_told or attempt.started_at is None:
        return False
    over_at = _over_at(attempt)
    # An end before the start is that of a clock that was set back: it says nothing of which came first.
    is_over = attempt.ended_at is not None or attempt.died_at is not None
    if is_over and attempt.started_at <= over_at < after(event.at, -_TOLD_TOO_LATE_S):
        return False
    return 0 <= seconds_between(attempt.started_at, event.at) <= START_TOLD_WITHIN_S


def _over_at(attempt: Attempt) -> Instant:
    return attempt.died_at or attempt.finished_at or attempt.started_at or Instant(0)


def _about_ended(draft: Draft, attempt: Attempt, seen: EventSeen) -> None:
    """Events that come after the end was told, and belong to it."""
    event = seen.event
    match event.action:
        case EventAction.DIE if attempt.died_at is None:
            died = replace(attempt, died_at=event.at, died_after_gap=seen.after_gap)
            draft.session = replace(draft.session, attempt=died)
            learn_of_death(draft, _believed(draft, event, "exitCode", event.exit_code), at=event.at)
        case EventAction.OOM:
            draft.session = replace(draft.session, attempt=replace(attempt, oom_at=event.at))
            renew_diagnosis(draft)
        case EventAction.STOP if attempt.stop_at is None:
            _stopped_after_end(draft, attempt, event)
        case EventAction.KILL if event.at <= _over_at(attempt):
            draft.session = replace(draft.session, attempt=_killed(draft, attempt, event))
            renew_diagnosis(draft)
        case _:
            pass


def _stopped_after_end(draft: Draft, attempt: Attempt, event: EngineEvent) -> None:
    draft.session = replace(draft.session, attempt=replace(attempt, stop_at=event.at))
    session = draft.session
    if session.phase is Phase.BACKOFF and has_process(session):
        # A stop during the engine's own back-off: no kill, no die, only this.
        ours = session.stop_wanted
        reason = Reason.STOPPED_EXTERNALLY if ours is None else Reason.STOPPED_BY_REQUEST
        draft.enter(Phase.STOPPED, reason, "stopped while the engine was about to start it again")
        draft.tell(actor=ACTOR_EXTERNAL if ours is None else ours.actor)
        draft.look(tail=True)
    elif session.phase.is_ended and attempt.intent is None:
        learn_of_stop(draft)


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
    code = _believed(draft, event, "exitCode", event.exit_code)
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
    killed = _killed(draft, attempt, event)
    draft.session = replace(draft.session, attempt=killed)
    if attempt.intent is None:
        signal = killed.kill_signal
        message = f"{signal_name(signal) if signal is not None else 'a signal'} was sent to it"
        draft.tell(actor=ACTOR_EXTERNAL, reason=Reason.KILL_SIGNAL, message=message)


def _killed(draft: Draft, attempt: Attempt, event: EngineEvent) -> Attempt:
    signal = _believed(draft, event, "signal", event.signal)
    continues = attempt.kill_at is not None and seconds_between(attempt.kill_at, event.at) <= _KILL_SERIES_S
    first = attempt.first_kill_signal if continues else signal
    return replace(attempt, kill_signal=signal, kill_at=event.at, first_kill_signal=first)


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


def _believed(draft: Draft, event: EngineEvent, label: str, value: int | None) -> int | None:
    container = draft.session.container
    if container is None or container.id != event.container or label in container.labels:
        return None
    return value
