"""What follows once an attempt is over and looked at: another attempt after its back-off, or rest.

Also the one place where an attempt is begun. Both are decided from the session as it stands, so that a new life of
the controller comes to the same answer.
"""

from dataclasses import replace
from typing import Final

from controller.core.draft import Draft
from controller.core.restart_policy import RestartVerdict, consider, still_counting
from controller.model.action import ActionKind
from controller.model.container import EngineRestart
from controller.model.instant import after
from controller.model.phase import Desired, Phase
from controller.model.reason import ACTOR_CONTROLLER, Reason
from controller.model.session import Origin, Session
from controller.model.spec import RestartMode

_STOPPED_TO_RESTART: Final = (Reason.NOT_CONNECTED, Reason.UNHEALTHY_RESTART)
"""Stops of ours that a start has to follow: an engine's own policy starts nothing that was stopped through its API."""


def settle(draft: Draft) -> None:
    """The attempt has ended, and nothing more is awaited: grant another one, or none. Safe to repeat."""
    session = draft.session = replace(draft.session, look_owed_until=None)
    if session.removed_at is not None or session.removal_wanted or session.open_actions:
        return
    waits = session.next_attempt_at is not None or session.provisional is not None
    if session.restart_wanted:
        begin(draft, why="restart")
    elif waits or session.reason is Reason.CONTROLLER_SHUTDOWN:
        return
    elif _is_engines(session) and session.reason not in _STOPPED_TO_RESTART:
        _leave_to_engine(draft)
    elif session.desired is Desired.RUNNING:
        _apply_policy(draft)


def begin(draft: Draft, *, why: str, actor: str = ACTOR_CONTROLLER) -> None:
    """Begin an attempt: start the container, or create it anew when it is gone."""
    session = draft.session = replace(
        draft.session, desired=Desired.RUNNING, next_attempt_at=None, restart_wanted=False, look_owed_until=None
    )
    assert not session.open_actions, f"{session.name}: begun while {session.open_actions} is open"
    if session.container is not None:
        draft.enter(Phase.STARTING, Reason.START_REQUESTED, why)
        draft.act(ActionKind.START, why=why, actor=actor)
    elif session.spec is not None:
        draft.enter(Phase.PENDING, Reason.START_REQUESTED, why)
        draft.act(ActionKind.CREATE, why=why, actor=actor)
    else:
        draft.session = replace(session, desired=Desired.STOPPED)
        draft.enter(Phase.FAILED, Reason.START_FAILED, "its container is gone, and there is no spec to make it anew")
    draft.tell(actor=actor)


def retry_later(draft: Draft, *, message: str) -> None:
    """Nobody could tell the engine to start it: try again after a back-off, which is not counted."""
    verdict = consider(
        replace(draft.session.policy, mode=RestartMode.ALWAYS, max_attempts=None),
        session_id=draft.session.id,
        granted_at=(),
        step=draft.session.backoff_step,
        failed=True,
        now=draft.now,
    )
    draft.session = replace(draft.session, next_attempt_at=after(draft.now, verdict.delay_s))
    draft.enter(Phase.BACKOFF, Reason.BACKOFF, message)
    draft.tell()


def _apply_policy(draft: Draft) -> None:
    session = draft.session
    wanted = session.reason in _STOPPED_TO_RESTART
    policy = replace(session.policy, mode=RestartMode.ALWAYS) if wanted else session.policy
    failed = session.phase is Phase.FAILED or session.reason in (*_STOPPED_TO_RESTART, Reason.ENGINE_RESTART)
    verdict = consider(
        policy,
        session_id=session.id,
        granted_at=session.granted_at,
        step=session.backoff_step,
        failed=failed,
        now=draft.now,
    )
    if not (verdict.granted and session.may_act and draft.rules.may_restart):
        _rest(draft, verdict)
        return
    next_attempt_at = after(draft.now, verdict.delay_s)
    step = session.backoff_step + (0 if session.reason is Reason.ENGINE_RESTART else 1)
    first_time = verdict.budget_spent and not session.crash_looping
    draft.session = replace(
        session,
        next_attempt_at=next_attempt_at,
        granted_at=still_counting(policy, (*session.granted_at, next_attempt_at), draft.now),
        backoff_step=step,
        crash_looping=verdict.budget_spent,
    )
    draft.enter(Phase.BACKOFF, Reason.CRASH_LOOPING if first_time else Reason.BACKOFF, verdict.explanation)
    draft.tell()


def _leave_to_engine(draft: Draft) -> None:
    """The engine's own policy decides, and has decided once the container is neither restarted nor about to be."""
    session = draft.session
    if session.phase is not Phase.BACKOFF and session.reason is not Reason.ENGINE_RESTART:
        draft.session = replace(session, desired=Desired.STOPPED)


def _rest(draft: Draft, verdict: RestartVerdict) -> None:
    """No further attempt: the session stays as it ended."""
    spent = verdict.budget_spent and not verdict.granted
    draft.session = replace(draft.session, desired=Desired.STOPPED, crash_looping=spent)
    if spent:
        draft.enter(Phase.FAILED, Reason.CRASH_LOOPING, verdict.explanation)
        draft.tell()


def _is_engines(session: Session) -> bool:
    """Whether the engine's own policy restarts it: then we record, and never restart.

    What we made has none; where somebody has given it one since (`docker update`), it counts while it is at work.
    """
    engine_restarts = session.container is not None and session.container.engine_restart is not EngineRestart.NO
    return engine_restarts and (session.origin is not Origin.REQUESTED or session.engine_backs_off)
