"""Of which run an event tells, and what of it can be believed: questions on one event and the attempts that are known.

It belongs to that container's attempt with the latest StartedAt not after its own time. Labels overwrite attributes on
an engine: a code or a signal is believed only where the container's labels are known and do not contain it.
"""

from dataclasses import replace
from typing import Final

from controller.core.draft import Draft
from controller.core.rules import START_TOLD_WITHIN_S
from controller.model.container import EngineEvent, EventAction
from controller.model.instant import Instant, after, seconds_between
from controller.model.session import Attempt

_TOLD_TOO_LATE_S: Final = 0.05
"""A `start` this little after the `die` is that of the run that has ended: the engine's own restarts wait for 0.1 s."""
_ABOUT_ITS_END_S: Final = 1.0
"""Between FinishedAt and what the engine tells around it: `kill`, `oom`, `die`, `stop`."""
_KILL_SERIES_S: Final = 60.0
"""Kills this close together are one stop: its signal, and the 9 after the grace."""


def earlier_attempt_of(draft: Draft, event: EngineEvent) -> Attempt | None:
    """The attempt before the present one that it belongs to, if it is no matter of the present one."""
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


def is_before(attempt: Attempt, event: EngineEvent) -> bool:
    """Whether it happened before that run began."""
    return attempt.started_at is not None and event.at < attempt.started_at


def is_of_a_run_after(attempt: Attempt, event: EngineEvent) -> bool:
    """Whether an event between two runs that are known tells of one that is not."""
    is_start = event.action is EventAction.START
    ended_at = attempt.died_at or attempt.finished_at
    if is_start and attempt.start_told and attempt.looked_at_end:
        # The `die` that seemed to be its own may have overtaken this very `start`. FinishedAt is that of the run.
        ended_at = attempt.finished_at or ended_at
    if ended_at is None or event.action is EventAction.DESTROY:
        return False
    return event.at > after(ended_at, _TOLD_TOO_LATE_S if is_start else _ABOUT_ITS_END_S)


def is_start_of(attempt: Attempt, event: EngineEvent) -> bool:
    """Whether a `start` is that of a run that is known already; if it is not, a look will tell.

    An engine may tell an end that follows at once before the start, but starts nothing again as quickly as that.
    """
    if attempt.start_told or attempt.started_at is None:
        return False
    known_over_at = over_at(attempt)
    # An end before the start is that of a clock that was set back: it says nothing of which came first.
    is_over = attempt.ended_at is not None or attempt.died_at is not None
    if is_over and attempt.started_at <= known_over_at < after(event.at, -_TOLD_TOO_LATE_S):
        return False
    return stands_for(event.at, attempt.started_at)


def stands_for(told_at: Instant, started_at: Instant) -> bool:
    """Whether a `start` event of that time can be that of a run with this StartedAt: it is told a little later.

    One that began much earlier is another run, after the engine's clock was set back.
    """
    return 0 <= seconds_between(started_at, told_at) <= START_TOLD_WITHIN_S


def over_at(attempt: Attempt) -> Instant:
    """When a run that has ended was over, as well as that is known."""
    return attempt.died_at or attempt.finished_at or attempt.started_at or Instant(0)


def believed(draft: Draft, event: EngineEvent, label: str, value: int | None) -> int | None:
    """The value, where no label of the container can have put it there."""
    container = draft.session.container
    if container is None or container.id != event.container or label in container.labels:
        return None
    return value


def with_kill(draft: Draft, attempt: Attempt, event: EngineEvent) -> Attempt:
    """The attempt, with one signal more that was sent to it."""
    signal = believed(draft, event, "signal", event.signal)
    continues = attempt.kill_at is not None and seconds_between(attempt.kill_at, event.at) <= _KILL_SERIES_S
    first = attempt.first_kill_signal if continues else signal
    return replace(attempt, kill_signal=signal, kill_at=event.at, first_kill_signal=first)
