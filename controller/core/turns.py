"""What happens around a session: a deadline comes, the controller starts or stops, the engine goes away."""

from dataclasses import replace
from typing import Final

from controller.core.deadlines import expiry_at, expiry_warning_at, rederived, unhealthy_restart_at
from controller.core.draft import Draft
from controller.core.hindsight import became_engine_restart, became_external
from controller.core.pursuing import may_have_process, pursue, rest_unstarted, restart_for, want_stop
from controller.core.settling import begin, settle
from controller.model.instant import Instant
from controller.model.observation import ControllerStopping, LookCause
from controller.model.phase import Desired, Phase
from controller.model.reason import ACTOR_CONTROLLER, Reason
from controller.model.session import Origin, StopCause
from controller.model.spec import RestartMode

_OURS: Final = (Origin.REQUESTED, Origin.ADOPTED)


def on_deadline(draft: Draft) -> None:
    """Everything that is due by now, each on its own account."""
    session = draft.session
    if session.provisional is not None and _is_due(session.provisional.until, draft.now):
        became_external(draft)
    if session.removed_at is not None:
        return
    if _is_due(draft.session.look_owed_until, draft.now):
        settle(draft)
    if _is_due(draft.session.next_attempt_at, draft.now) and not draft.session.open_actions:
        _next_attempt(draft)
    _on_expiry(draft)
    if _is_due(unhealthy_restart_at(draft.session), draft.now):
        # It may be well by now, and nobody there to be told: what a look shows just now counts.
        draft.look(cause=LookCause.TIMER)
    if _is_due(draft.session.connection_due_at, draft.now):
        restart_for(draft, StopCause.NOT_CONNECTED)
    pursue(draft)


def on_controller_started(draft: Draft) -> None:
    """A new life begins from the ledger: deadlines within their lengths, and what our shutdown stopped comes back."""
    draft.session = rederived(draft.session, now=draft.now, rules=draft.rules)
    _outlive_shutdown(draft)
    session = draft.session
    if session.removed_at is not None or session.open_actions or not session.phase.is_ended:
        return
    was_shut_down = session.reason is Reason.CONTROLLER_SHUTDOWN
    wanted = session.desired is Desired.RUNNING
    if was_shut_down and wanted and session.policy.mode is not RestartMode.NO and draft.rules.may_restart:
        begin(draft, why="the controller started again")
    elif session.look_owed_until is None:
        settle(draft)
    pursue(draft)


def _outlive_shutdown(draft: Draft) -> None:
    """A shutdown that an earlier life could not finish: what was not begun is taken back, the rest comes back after."""
    session, attempt = draft.session, draft.attempt
    if session.removal_wanted or session.desired is not Desired.RUNNING:
        return
    if session.stop_wanted is not None and session.stop_wanted.cause is StopCause.SHUTDOWN:
        draft.session = session = replace(session, stop_wanted=None)
    stopped_by_us = attempt is not None and attempt.intent is not None and attempt.intent.cause is StopCause.SHUTDOWN
    under_way = bool(session.open_actions) or session.phase is Phase.STOPPING
    if stopped_by_us and under_way and session.policy.mode is not RestartMode.NO and draft.rules.may_restart:
        draft.session = replace(session, restart_wanted=True)


def on_controller_stopping(draft: Draft, stopping: ControllerStopping) -> None:
    """We were told to stop: sessions of ours are stopped too, unless they are to be left."""
    session = draft.session
    if session.provisional is not None:
        # The engine may be stopping as well, and we shall not be there to see it.
        became_engine_restart(draft)
    if stopping.leave_running or session.origin not in _OURS or not draft.rules.may_restart:
        return
    if may_have_process(session):
        draft.session = session = replace(draft.session, restart_wanted=False)
        # A stop for good that waits already stays whose it is.
        waits = session.stop_wanted if session.desired is Desired.STOPPED else None
        cause, actor = (waits.cause, waits.actor) if waits is not None else (StopCause.SHUTDOWN, ACTOR_CONTROLLER)
        want_stop(draft, cause, actor=actor, longest_grace_s=stopping.grace_s)


def on_engine_lost(draft: Draft) -> None:
    """The stream broke: a stop in the last half minute that nobody here asked for was the engine's own."""
    if draft.session.provisional is not None:
        became_engine_restart(draft)


def _next_attempt(draft: Draft) -> None:
    if not (draft.rules.may_restart and draft.session.may_act):
        draft.session = replace(draft.session, next_attempt_at=None, desired=Desired.STOPPED)
        return
    begin(draft, why=f"attempt {draft.session.attempt_count + 1}, after its back-off")


def _on_expiry(draft: Draft) -> None:
    session = draft.session
    if _is_due(expiry_at(session), draft.now) and draft.rules.may_restart:
        draft.session = replace(draft.session, desired=Desired.STOPPED, restart_wanted=False)
        if may_have_process(session):
            want_stop(draft, StopCause.EXPIRED, actor=ACTOR_CONTROLLER)
        else:
            rest_unstarted(draft, Reason.EXPIRED, actor=ACTOR_CONTROLLER)
    elif _is_due(expiry_warning_at(session), draft.now):
        draft.session = replace(session, expiry_warned=True)
        draft.tell(reason=Reason.EXPIRING, message="its time is nearly over")


def _is_due(instant: Instant | None, now: Instant) -> bool:
    return instant is not None and instant <= now
