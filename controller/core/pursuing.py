"""From what is wanted to the next action: at most one open action a session, each from the state as it stands now."""

from dataclasses import replace
from typing import Final

from controller.core.draft import Draft
from controller.core.keeping import is_kept_long_enough, remove_container, toward_pruning
from controller.core.settling import settle
from controller.model.action import ActionKind
from controller.model.observation import LookCause
from controller.model.phase import Desired, Phase
from controller.model.reason import ACTOR_CONTROLLER, Reason
from controller.model.session import Intent, Origin, Session, StopCause

_LOOK_AGAIN_S: Final = 1.0
_WHY = {
    StopCause.REQUEST: "stop requested",
    StopCause.RESTART: "restart requested",
    StopCause.REMOVE: "removal requested",
    StopCause.SHUTDOWN: "the controller stops",
    StopCause.EXPIRED: "its time is over",
    StopCause.NOT_CONNECTED: "it is not connected",
    StopCause.UNHEALTHY: "it stays unhealthy",
    StopCause.ORPHAN: "no record knows it",
}


def pursue(draft: Draft) -> None:
    """Take the next step towards what is wanted, if none is under way. Safe to repeat."""
    session = draft.session
    if session.open_actions or session.removed_at is not None:
        return
    if session.removal_wanted:
        _toward_removal(draft)
    elif session.stop_wanted is not None:
        _toward_stop(draft, session.stop_wanted)
    elif session.phase.is_ended and session.look_owed_until is None:
        # What could not be settled while an action was open is settled now.
        settle(draft)
        if is_kept_long_enough(draft):
            toward_pruning(draft)


def want_stop(draft: Draft, cause: StopCause, *, actor: str, longest_grace_s: float | None = None) -> None:
    """Commit to a stop. It is carried out at once, or as soon as the open action has ended."""
    grace_s = draft.rules.grace_of(draft.session.spec)
    if longest_grace_s is not None:
        grace_s = min(grace_s, longest_grace_s)
    intent = Intent(cause=cause, actor=actor, at=draft.now, grace_s=grace_s)
    draft.session = replace(draft.session, stop_wanted=intent)
    pursue(draft)


def restart_for(draft: Draft, cause: StopCause) -> None:
    """Stop it for what it lacks, to be started again after a back-off; where that is ours to do."""
    session = draft.session
    draft.session = replace(session, connection_due_at=None, unhealthy_since=None)
    if session.phase is Phase.RUNNING and session.may_act and draft.rules.may_restart:
        want_stop(draft, cause, actor=ACTOR_CONTROLLER)


def has_process(session: Session) -> bool:
    """Whether there is something to stop: a live container, or one that the engine is about to start again."""
    return session.phase.is_live or session.engine_backs_off


def may_have_process(session: Session) -> bool:
    """The same, or there may be one soon: an action is open, or nobody has seen what came of a start."""
    return has_process(session) or bool(session.open_actions) or _is_in_the_dark(session)


def reason_without_process(intent: Intent) -> Reason:
    """Why a session is down that was to be stopped and had nothing that ran."""
    return Reason.CONTROLLER_SHUTDOWN if intent.cause is StopCause.SHUTDOWN else Reason.STOPPED_BY_REQUEST


def rest_unstarted(draft: Draft, reason: Reason, *, actor: str) -> None:
    """A session that has no process, and shall have none."""
    draft.session = replace(
        draft.session, desired=Desired.STOPPED, stop_wanted=None, next_attempt_at=None, restart_wanted=False
    )
    if draft.session.phase not in (Phase.STOPPED, Phase.FAILED):
        draft.enter(Phase.STOPPED, reason)
        draft.tell(actor=actor)


def _toward_stop(draft: Draft, intent: Intent) -> None:
    session, attempt = draft.session, draft.session.attempt
    if _is_in_the_dark(session):
        draft.look(cause=LookCause.ACTION, delay_s=_LOOK_AGAIN_S)
        return
    if not has_process(session):
        desired = session.desired
        rest_unstarted(draft, reason_without_process(intent), actor=intent.actor)
        if intent.cause is StopCause.SHUTDOWN:
            draft.session = replace(draft.session, desired=desired)
        return
    if attempt is not None and attempt.ended_at is None:
        draft.session = replace(session, attempt=replace(attempt, intent=intent))
    if session.phase.is_live:
        draft.enter(Phase.STOPPING, Reason.STOP_REQUESTED, _WHY[intent.cause])
    draft.act(ActionKind.STOP, why=_WHY[intent.cause], actor=intent.actor, grace_s=intent.grace_s)
    draft.tell(actor=intent.actor)


def _toward_removal(draft: Draft) -> None:
    session = draft.session
    if _is_in_the_dark(session):
        draft.look(cause=LookCause.ACTION, delay_s=_LOOK_AGAIN_S)
    elif has_process(session):
        cause = StopCause.ORPHAN if session.origin is Origin.ORPHAN else StopCause.REMOVE
        actor = session.stop_wanted.actor if session.stop_wanted is not None else ACTOR_CONTROLLER
        intent = Intent(cause=cause, actor=actor, at=draft.now, grace_s=draft.rules.grace_of(session.spec))
        draft.session = replace(session, stop_wanted=intent)
        _toward_stop(draft, intent)
    elif session.container is None:
        draft.session = replace(session, removed_at=draft.now, removal_wanted=False, next_attempt_at=None)
        draft.tell(message="removed; it had no container")
    else:
        cause = StopCause.ORPHAN if session.origin is Origin.ORPHAN else StopCause.REMOVE
        remove_container(draft, why=_WHY[cause])


def _is_in_the_dark(session: Session) -> bool:
    """Whether a start was sent and nobody has seen what came of it: there may be something to stop."""
    return session.phase is Phase.STARTING and session.container is not None
