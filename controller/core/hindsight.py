"""What is learnt of an end after it was told: by a look, by events that come late, by what the engine did next.

It may better the reason and the exit of an attempt; it never moves stopped to failed or back.
"""

from dataclasses import replace
from typing import Final

from controller.core.draft import Draft
from controller.core.judging import EXTERNAL_STOPS, End, actor_of, judge, known_end, message_of, was_engine_stop
from controller.core.rules import PROVISIONAL_S
from controller.core.settling import settle
from controller.model.instant import Instant, after
from controller.model.phase import Desired, Phase
from controller.model.reason import ACTOR_ENGINE, ACTOR_EXTERNAL, Reason, Source
from controller.model.session import Attempt, ProvisionalEnd

_NOT_ENDS: Final = (Reason.BACKOFF, Reason.CRASH_LOOPING)


def refine_end(draft: Draft, end: End) -> None:
    """A later observation of the same end: it may better the reason and the exit, never the phase."""
    attempt = draft.attempt
    assert attempt is not None
    was_engine = draft.session.reason is Reason.ENGINE_RESTART or was_engine_stop(attempt)
    diagnosis = judge(draft, attempt, end, engine_stopped=was_engine)
    better = attempt.exit != diagnosis.exit
    draft.session = replace(
        draft.session,
        attempt=replace(
            attempt,
            exit=diagnosis.exit,
            finished_at=end.finished_at or attempt.finished_at,
            looked_at_end=attempt.looked_at_end or end.looked,
        ),
    )
    says = draft.session.reason
    if says not in _NOT_ENDS and draft.session.phase in (diagnosis.phase, Phase.BACKOFF):
        draft.session = replace(draft.session, reason=diagnosis.reason, message=message_of(diagnosis))
    if better or draft.session.reason is not says:
        draft.tell(actor=actor_of(diagnosis.reason, attempt), reason=diagnosis.reason, message=message_of(diagnosis))


def disown_end(draft: Draft) -> None:
    """The end on record turns out to be that of a later run: how this attempt ended, nobody saw."""
    attempt = draft.attempt
    assert attempt is not None
    bare = replace(
        attempt,
        died_at=None,
        died_after_gap=False,
        kill_at=None,
        kill_signal=None,
        first_kill_signal=None,
        stop_at=None,
    )
    diagnosis = judge(draft, bare, End(looked=True), engine_stopped=False)
    draft.session = replace(draft.session, attempt=replace(bare, exit=diagnosis.exit, finished_at=None))
    draft.tell(reason=Reason.EXIT_UNKNOWN, message=message_of(diagnosis), source=Source.INFERRED)


def complete_earlier(draft: Draft, earlier: Attempt, *, end: End | None = None) -> None:
    """A late observation of an attempt before the present one completes that record, and moves nothing else."""
    if end is not None or earlier.exit is not None:
        told = end or known_end(earlier)
        diagnosis = judge(draft, earlier, told, engine_stopped=was_engine_stop(earlier))
        earlier = replace(earlier, exit=diagnosis.exit, finished_at=told.finished_at or earlier.finished_at)
    known = tuple(earlier if one.number == earlier.number else one for one in draft.session.earlier)
    if known != draft.session.earlier:
        draft.session = replace(draft.session, earlier=known)
        draft.tell(message=f"attempt {earlier.number} is told more exactly", reason=draft.session.reason)


def renew_diagnosis(draft: Draft) -> None:
    """An event that belongs to an end came after it (`stop`, `oom`, `kill`): judge the end again.

    An end of which no code is known stays as it was told: there is nothing that the event could explain.
    """
    attempt = draft.attempt
    assert attempt is not None
    if attempt.exit is not None and attempt.exit.exit_code is not None:
        refine_end(draft, known_end(attempt))


def learn_of_stop(draft: Draft) -> None:
    """A `stop` came after the `die` that it explains, where no kill did: somebody stopped it, with a long time-out."""
    attempt, session = draft.attempt, draft.session
    assert attempt is not None
    diagnosis = judge(draft, attempt, known_end(attempt), engine_stopped=was_engine_stop(attempt))
    if session.reason in EXTERNAL_STOPS or diagnosis.reason not in EXTERNAL_STOPS or session.open_actions:
        renew_diagnosis(draft)
        return
    granted = tuple(one for one in session.granted_at if one != session.next_attempt_at)
    draft.session = replace(
        session,
        attempt=replace(attempt, exit=diagnosis.exit),
        next_attempt_at=None,
        granted_at=granted,
        provisional=ProvisionalEnd(until=after(draft.now, PROVISIONAL_S)),
    )
    draft.enter(Phase.STOPPED, diagnosis.reason, message_of(diagnosis))
    draft.tell(actor=ACTOR_EXTERNAL)


def learn_of_death(draft: Draft, code: int | None, *, at: Instant) -> None:
    """The `die` event of an end that something else told first: it may bring the code that nobody knew."""
    attempt = draft.attempt
    assert attempt is not None
    if attempt.exit is None:
        # It was taken for one that had never been started.
        refine_end(draft, End(exit_code=code, finished_at=at, gone=True))
    elif attempt.exit.exit_code is None and code is not None:
        refine_end(draft, replace(known_end(attempt), exit_code=code, finished_at=at))
    else:
        renew_diagnosis(draft)


def became_engine_restart(draft: Draft) -> None:
    """The engine went away right after a stop that nobody here asked for: it was the engine's own."""
    attempt = draft.attempt
    assert attempt is not None
    diagnosis = judge(draft, attempt, known_end(attempt), engine_stopped=True)
    draft.session = replace(
        draft.session,
        provisional=None,
        reason=diagnosis.reason,
        message=message_of(diagnosis),
        attempt=replace(attempt, exit=diagnosis.exit),
    )
    draft.tell(actor=ACTOR_ENGINE, source=Source.INFERRED)
    settle(draft)


def became_external(draft: Draft) -> None:
    """Nothing happened to the engine: it was somebody's stop, and the session stays down."""
    draft.session = replace(draft.session, provisional=None, desired=Desired.STOPPED, look_owed_until=None)
    draft.tell(actor=ACTOR_EXTERNAL, message="somebody stopped it: it stays down")
