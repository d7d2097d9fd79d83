"""How an attempt ends: one transition, and what is owed from then on. `settling.py` says what follows.

The end is told at once, from what is known; `hindsight.py` has what is learnt of it later.
"""

from dataclasses import replace

from controller.core.diagnosis import Diagnosis
from controller.core.draft import Draft
from controller.core.judging import (
    EXTERNAL_STOPS,
    End,
    actor_of,
    ended_in_a_gap,
    is_unproven,
    judge,
    kill_explains,
    message_of,
)
from controller.core.rules import LOOK_OWED_S, PROVISIONAL_S, STABLE_AFTER_S
from controller.core.settling import settle
from controller.model.container import EngineRestart
from controller.model.instant import after, seconds_between
from controller.model.phase import Phase
from controller.model.reason import Reason, Source
from controller.model.session import Attempt, ProvisionalEnd, Session


def end_attempt(draft: Draft, end: End, *, source: Source | None = None) -> None:
    """The present attempt is over: one transition, and what is owed from then on. Each attempt ends once."""
    attempt = draft.attempt
    assert attempt is not None, f"{draft.session.name}: an end without an attempt"
    assert attempt.ended_at is None, f"{draft.session.name}: attempt {attempt.number} ended twice"
    # A daemon that stops sends the same events as a person who does: read in a replay that proves nothing about
    # what came before, they are taken for the daemon's.
    unproven = is_unproven(draft) or ended_in_a_gap(draft, attempt)
    engine_stopped = unproven and attempt.intent is None and kill_explains(draft, attempt, end)
    diagnosis = judge(draft, attempt, end, engine_stopped=engine_stopped)
    ran_s = seconds_between(attempt.started_at, end.finished_at) if attempt.started_at and end.finished_at else 0.0
    draft.session = replace(
        draft.session,
        attempt=replace(
            attempt,
            finished_at=end.finished_at,
            ended_at=draft.now,
            exit=diagnosis.exit,
            looked_at_end=end.looked or end.gone,
        ),
        backoff_step=0 if ran_s >= STABLE_AFTER_S else draft.session.backoff_step,
        next_attempt_at=None,
        stop_wanted=None,
    )
    draft.enter(_phase_after(draft.session, attempt, end, diagnosis), diagnosis.reason, message_of(diagnosis))
    if diagnosis.reason in EXTERNAL_STOPS:
        draft.session = replace(draft.session, provisional=ProvisionalEnd(until=after(draft.now, PROVISIONAL_S)))
    draft.tell(actor=actor_of(diagnosis.reason, attempt), at=end.finished_at, source=source)
    if end.gone or end.looked:
        settle(draft)
    else:
        draft.session = replace(draft.session, look_owed_until=after(draft.now, LOOK_OWED_S))
        draft.look(tail=True)


def restarts_by_engine(session: Session, attempt: Attempt, exit_code: int | None) -> bool:
    """Whether the engine's own policy will start the container again. Then nobody else does."""
    facts = session.container
    if facts is None or exit_code is None:
        return False
    match facts.engine_restart:
        case EngineRestart.ALWAYS | EngineRestart.UNLESS_STOPPED:
            return True
        case EngineRestart.ON_FAILURE:
            budget_left = facts.engine_restart_limit == 0 or attempt.restart_count < facts.engine_restart_limit
            return exit_code != 0 and budget_left
        case EngineRestart.NO:
            return False


def _phase_after(session: Session, attempt: Attempt, end: End, diagnosis: Diagnosis) -> Phase:
    by_itself = attempt.intent is None and diagnosis.reason not in (*EXTERNAL_STOPS, Reason.ENGINE_RESTART)
    # The engine sets `restarting` together with the end, so that `exited` is its last word.
    expected = restarts_by_engine(session, attempt, diagnosis.exit.exit_code)
    waits = expected if end.engine_waits is None else end.engine_waits
    return Phase.BACKOFF if by_itself and waits else diagnosis.phase
