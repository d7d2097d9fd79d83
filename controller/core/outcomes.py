"""What came of an action. Every outcome closes its action and gives one action row; then the state is judged anew."""

from dataclasses import replace
from typing import Final, assert_never

from controller.core.draft import Draft
from controller.core.ending import end_attempt
from controller.core.judging import End
from controller.core.keeping import is_pruning, may_be_our_removal, not_pruned, pruned
from controller.core.leaving import container_gone, started_and_gone
from controller.core.looks import on_seen
from controller.core.opening import expect_attempt
from controller.core.pursuing import pursue, reason_without_process
from controller.core.settling import begin, retry_later, settle
from controller.model.action import Action, ActionKind, Outcome, OutcomeKind
from controller.model.container import ContainerState, LogTail, Snapshot
from controller.model.journal import RowKind
from controller.model.observation import ContainerSeen, LookCause, OutcomeSeen
from controller.model.phase import Desired, Phase
from controller.model.reason import ACTOR_ENGINE, Reason
from controller.model.session import Origin, Session, StopCause

_ASKED_FOR: Final = (StopCause.REQUEST, StopCause.RESTART, StopCause.REMOVE)


def on_outcome(draft: Draft, seen: OutcomeSeen) -> None:
    """Close the action, tell it, and draw the consequences."""
    outcome = seen.outcome
    action = outcome.action
    if action.id not in draft.session.open_actions:
        return  # Told before: after a crash an outcome may come twice.
    draft.close(action.id)
    told = f"{action.kind} {outcome.kind}"
    draft.tell(
        kind=RowKind.ACTION,
        actor=action.actor,
        reason=Reason.SUPERSEDED if outcome.kind is OutcomeKind.SUPERSEDED else None,
        message=": ".join(part for part in (action.reason, outcome.message) if part),
        action=told,
    )
    if _is_of_an_earlier_container(draft.session, action):
        draft.look(cause=LookCause.ACTION)
    else:
        _draw_consequences(draft, outcome, seen)
    pursue(draft)


def _is_of_an_earlier_container(session: Session, action: Action) -> bool:
    """Whether the session has another container by now: whatever became of the earlier one moves nothing."""
    return action.container is not None and session.container_id not in (None, action.container)


def _draw_consequences(draft: Draft, outcome: Outcome, seen: OutcomeSeen) -> None:
    match outcome.action.kind:
        case ActionKind.CREATE:
            _after_create(draft, outcome)
        case ActionKind.START:
            _after_start(draft, outcome, seen)
        case ActionKind.STOP:
            _after_stop(draft, outcome, seen)
        case ActionKind.REMOVE:
            _after_remove(draft, outcome, seen)
        case _:
            assert_never(outcome.action.kind)


def _after_create(draft: Draft, outcome: Outcome) -> None:
    if outcome.kind is OutcomeKind.DONE and outcome.snapshot is not None:
        draft.session = replace(draft.session, container=outcome.snapshot.facts, removal_again_at=None)
        expect_attempt(draft, outcome.snapshot.facts)
        wanted = draft.session.desired is Desired.RUNNING and draft.session.stop_wanted is None
        if wanted and not draft.session.removal_wanted:
            begin(draft, why=outcome.action.reason, actor=outcome.action.actor)
    elif outcome.kind is OutcomeKind.REFUSED:
        _will_never_work(draft, outcome)
    elif draft.session.desired is Desired.RUNNING:
        retry_later(draft, message="the engine gave no certain answer to the create")
    else:
        draft.enter(Phase.FAILED, Reason.START_FAILED, "the engine gave no certain answer to the create")
        draft.tell()


def _after_start(draft: Draft, outcome: Outcome, seen: OutcomeSeen) -> None:
    match outcome.kind:
        case OutcomeKind.DONE if draft.session.container is None and draft.session.phase is Phase.STARTING:
            draft.session = replace(draft.session, container=None)
            started_and_gone(draft, "it was started")
        case OutcomeKind.DONE:
            _seen_after(draft, outcome, seen)
        case OutcomeKind.REFUSED:
            _start_refused(draft, outcome)
        case OutcomeKind.GONE:
            _nothing_to_start(draft, outcome)
        case OutcomeKind.DROPPED | OutcomeKind.SUPERSEDED:
            if draft.session.phase is Phase.STARTING and draft.session.stop_wanted is None:
                retry_later(draft, message="the engine gave no certain answer to the start")
            draft.look(cause=LookCause.ACTION)
        case _:
            assert_never(outcome.kind)


def _nothing_to_start(draft: Draft, outcome: Outcome) -> None:
    """Its container was gone. It is made anew where that cannot run it twice."""
    by_us_perhaps = may_be_our_removal(draft.session, now=draft.now)
    if by_us_perhaps and draft.session.container is not None:
        pruned(draft)
    if _is_to_run_anew(draft.session) and not outcome.maybe_done:
        _make_anew(draft, outcome)
    elif _is_to_run_anew(draft.session):
        draft.session = replace(draft.session, container=None)
        started_and_gone(draft, "it may have been started")
    elif draft.session.removed_at is None and not by_us_perhaps:
        container_gone(draft)


def _is_to_run_anew(session: Session) -> bool:
    """Whether it had ended, was to be started again, and has what it takes to make its container anew."""
    over = session.attempt is not None and session.attempt.ended_at is not None
    wanted = session.desired is Desired.RUNNING and session.stop_wanted is None and not session.removal_wanted
    return over and wanted and session.removed_at is None and session.spec is not None


def _make_anew(draft: Draft, outcome: Outcome) -> None:
    draft.session = replace(draft.session, container=None)
    begin(draft, why=f"{outcome.action.reason}: its container was gone", actor=outcome.action.actor)


def _start_refused(draft: Draft, outcome: Outcome) -> None:
    """It could not be started: an attempt of its own, which ended before it began."""
    session, attempt = draft.session, draft.attempt
    if session.phase is not Phase.STARTING:
        draft.look(cause=LookCause.ACTION)
        return
    if outcome.snapshot is not None and outcome.snapshot.state is ContainerState.DEAD:
        _beyond_use(draft, outcome, outcome.snapshot)
        return
    code = outcome.snapshot.exit_code if outcome.snapshot is not None else None
    error = outcome.message or (outcome.snapshot.error if outcome.snapshot is not None else "")
    if attempt is None or attempt.ended_at is not None:
        if session.container is None:
            # It has been removed since: there is nothing left whose attempt this could have been.
            draft.enter(Phase.FAILED, Reason.START_FAILED, error)
            draft.tell(actor=ACTOR_ENGINE)
            settle(draft)
            return
        expect_attempt(draft, session.container)
    # Whatever its policy: an engine starts nothing again because of a start that it has refused.
    end_attempt(draft, End(exit_code=code, error=error, never_started=True, looked=True, engine_waits=False))


def _beyond_use(draft: Draft, outcome: Outcome, snapshot: Snapshot) -> None:
    """Its container will never be started again. One of our making is removed at last, and made anew."""
    session, attempt = draft.session, draft.attempt
    wanted = session.desired is Desired.RUNNING and session.stop_wanted is None and not session.removal_wanted
    _will_never_work(draft, outcome)
    replaceable = session.origin is Origin.REQUESTED and session.spec is not None and draft.rules.may_manage
    if wanted and replaceable and attempt is not None:
        if not attempt.evidence_kept:
            draft.keep(snapshot, LogTail(lines=(), truncated=False, absent="its container is dead"))
        draft.session = replace(draft.session, desired=Desired.RUNNING, restart_wanted=True)
        draft.act(ActionKind.REMOVE, why="its container is dead")


def _after_stop(draft: Draft, outcome: Outcome, seen: OutcomeSeen) -> None:
    match outcome.kind:
        case OutcomeKind.DONE:
            _call_off_back_off(draft)
            _seen_after(draft, outcome, seen)
            draft.look(cause=LookCause.ACTION, tail=True)
        case OutcomeKind.GONE:
            if draft.session.removed_at is None:
                container_gone(draft)
        case OutcomeKind.DROPPED if _is_still_asked_for(draft.session):
            # Decided anew, against the container as it is known now: what somebody asked for is not given up.
            draft.look(cause=LookCause.ACTION)
        case OutcomeKind.DROPPED if draft.session.phase.is_ended:
            # Whoever ended it, it is down: what was to follow the stop follows.
            draft.look(cause=LookCause.ACTION, tail=True)
            settle(draft)
        case OutcomeKind.REFUSED | OutcomeKind.SUPERSEDED | OutcomeKind.DROPPED:
            _stop_did_not_happen(draft)
            _follow_the_later_start(draft, outcome)
        case _:
            assert_never(outcome.kind)


def _call_off_back_off(draft: Draft) -> None:
    """What was stopped is not started by its own engine's policy any more, whatever its container looks like."""
    session, intent = draft.session, draft.session.stop_wanted
    if session.engine_backs_off and intent is not None:
        draft.session = replace(session, stop_wanted=None)
        draft.enter(Phase.STOPPED, reason_without_process(intent))
        draft.tell(actor=intent.actor)


def _is_still_asked_for(session: Session) -> bool:
    """Whether somebody wishes it, if only since it was decided. Other causes are judged anew, and may have passed."""
    if session.stop_wanted is None:
        return False
    wanted_down = session.desired is Desired.STOPPED and session.origin is not Origin.ORPHAN
    return session.stop_wanted.cause in _ASKED_FOR or wanted_down


def _stop_did_not_happen(draft: Draft) -> None:
    """The intent is taken back: whatever ends the session from now on was not ours."""
    attempt = draft.attempt
    if attempt is not None and attempt.ended_at is None:
        draft.session = replace(draft.session, attempt=replace(attempt, intent=None))
    draft.session = replace(draft.session, stop_wanted=None, restart_wanted=False, removal_wanted=False)
    if draft.session.phase is Phase.STOPPING:
        draft.enter(Phase.RUNNING, Reason.SUPERSEDED, "it was not stopped")
        draft.tell()
    draft.look(cause=LookCause.ACTION)


def _after_remove(draft: Draft, outcome: Outcome, seen: OutcomeSeen) -> None:
    if outcome.kind in (OutcomeKind.DONE, OutcomeKind.GONE):
        if is_pruning(draft.session):
            pruned(draft)
        elif draft.session.removed_at is None:
            container_gone(draft)
        return
    if is_pruning(draft.session) and draft.session.container is None:
        pruned(draft)  # Its `destroy` has come in place of an answer.
        return
    if is_pruning(draft.session) or outcome.maybe_done:
        not_pruned(draft)
    if outcome.kind is OutcomeKind.DROPPED and draft.session.origin is not Origin.ORPHAN:
        # Decided anew, against the container as it is known now: what somebody asked for is not given up.
        draft.look(cause=LookCause.ACTION)
        return
    # It runs again, or the engine will not: it stays, and a sweep may find it again.
    draft.session = replace(draft.session, removal_wanted=False, stop_wanted=None)
    if draft.session.origin is Origin.ORPHAN:
        draft.tell(reason=Reason.ORPHAN_SPARED, message=outcome.message or "it has moved on since it was found")
    if outcome.snapshot is not None:
        _seen_after(draft, outcome, seen)
    _follow_the_later_start(draft, outcome)
    draft.look(cause=LookCause.ACTION)


def _follow_the_later_start(draft: Draft, outcome: Outcome) -> None:
    """Somebody started it after we were told to stop or remove it: the later wish is the one that holds."""
    session = draft.session
    if outcome.kind is OutcomeKind.SUPERSEDED and session.phase.is_live and session.origin is not Origin.ORPHAN:
        draft.session = replace(session, desired=Desired.RUNNING)


def _seen_after(draft: Draft, outcome: Outcome, seen: OutcomeSeen) -> None:
    if outcome.snapshot is None:
        draft.look(cause=LookCause.ACTION)
        return
    on_seen(
        draft,
        ContainerSeen(
            snapshot=outcome.snapshot,
            cause=LookCause.ACTION,
            asked_at=outcome.asked_at or seen.observed_at,
            observed_at=seen.observed_at,
        ),
    )


def _will_never_work(draft: Draft, outcome: Outcome) -> None:
    draft.session = replace(draft.session, desired=Desired.STOPPED, stop_wanted=None, restart_wanted=False)
    message = outcome.message
    if outcome.conflict:
        message = f"{message} (in the way: {outcome.conflict})" if message else f"in the way: {outcome.conflict}"
    draft.enter(Phase.FAILED, Reason.START_FAILED, message)
    draft.tell()
