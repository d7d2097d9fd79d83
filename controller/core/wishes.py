"""What people ask of a session, and what its agent's connection tells."""

from dataclasses import replace
from typing import assert_never

from controller.core.draft import Draft
from controller.core.pursuing import has_process, may_have_process, pursue, rest_unstarted, want_stop
from controller.core.settling import begin
from controller.model.decision import Reply
from controller.model.instant import after
from controller.model.observation import ConnectionChanged, Verb, VerbRequested
from controller.model.phase import Desired, Phase
from controller.model.reason import ACTOR_EXTERNAL, Reason
from controller.model.session import Origin, Session, StopCause

_OK = Reply(accepted=True)


def on_verb(draft: Draft, asked: VerbRequested) -> Reply:
    """Accept a wish and commit to it, or refuse it with one line."""
    refusal = _refusal(draft, asked)
    if refusal:
        return Reply(accepted=False, message=refusal)
    match asked.verb:
        case Verb.START:
            return _start(draft, asked)
        case Verb.STOP:
            return _stop(draft, asked)
        case Verb.RESTART:
            return _restart(draft, asked)
        case Verb.REMOVE:
            return _remove(draft, asked)
        case Verb.RENEW:
            return _renew(draft, asked)
        case Verb.ADOPT:
            return _adopt(draft, asked)
        case _:
            assert_never(asked.verb)


def on_connection(draft: Draft, changed: ConnectionChanged) -> None:
    """An agent came or went. Who must hold a connection has the grace to come back."""
    session = draft.session
    if session.connected is changed.connected:
        return
    expected = session.spec is not None and session.spec.expect_connection
    waits = expected and not changed.connected and session.phase is Phase.RUNNING
    attempt = session.attempt
    draft.session = replace(
        session,
        connected=changed.connected,
        connection_due_at=after(draft.now, draft.rules.connect_grace_s) if waits else None,
        attempt=replace(attempt, connected_once=True) if attempt is not None and changed.connected else attempt,
    )
    reason = Reason.CONNECTED if changed.connected else Reason.DISCONNECTED
    draft.tell(actor=ACTOR_EXTERNAL, reason=reason, message="")


def _refusal(draft: Draft, asked: VerbRequested) -> str:
    session, rules = draft.session, draft.rules
    if session.removed_at is not None:
        return f"{session.name} is removed"
    if asked.verb is Verb.REMOVE and not rules.may_manage:
        return "the mode forbids to remove sessions"
    if not rules.may_restart:
        return "the mode is observe: nothing may be changed"
    if not session.may_act:
        return f"{session.name} is only watched here: its label lets another controller act"
    if session.origin is Origin.ORPHAN and asked.verb is not Verb.ADOPT:
        return f"{session.name} is an orphan that is being removed"
    if session.removal_wanted and asked.verb in (Verb.START, Verb.RESTART):
        return f"{session.name} is being removed"
    return ""


def _start(draft: Draft, asked: VerbRequested) -> Reply:
    session = draft.session
    if session.phase is Phase.PAUSED:
        return Reply(accepted=False, message=f"{session.name} is paused: unpause it on the engine")
    if session.phase is Phase.STOPPING:
        draft.session = replace(session, restart_wanted=True, desired=Desired.RUNNING)
        draft.tell(actor=asked.actor, reason=Reason.START_REQUESTED, message="start requested while it stops")
        return _OK
    if session.phase is Phase.RUNNING:
        # A stop that still waits for its turn is taken back: the later wish holds.
        draft.session = replace(session, desired=Desired.RUNNING, stop_wanted=None)
        return Reply(accepted=True, message=f"{session.name} runs already")
    draft.session = session = _with_time_left(draft)
    draft.session = replace(
        session, granted_at=(), backoff_step=0, crash_looping=False, provisional=None, stop_wanted=None
    )
    if session.open_actions:
        draft.session = replace(draft.session, desired=Desired.RUNNING, restart_wanted=session.phase.is_ended)
        return _OK
    begin(draft, why="start requested", actor=asked.actor)
    return _failed(draft)


def _with_time_left(draft: Draft) -> Session:
    """A session whose time is over gets it anew with the start: it would be stopped at once otherwise.

    One that was adopted has no other time than the one that somebody gave it once.
    """
    session = draft.session
    ttl_s = session.spec.ttl_s if session.spec is not None else None
    if session.expires_at is None or session.expires_at > draft.now:
        return session
    expires_at = after(draft.now, ttl_s) if ttl_s is not None else None
    return replace(session, expires_at=expires_at, expiry_warned=False)


def _stop(draft: Draft, asked: VerbRequested) -> Reply:
    session = draft.session = replace(draft.session, desired=Desired.STOPPED, restart_wanted=False)
    if session.phase is Phase.STOPPING:
        return _OK
    if may_have_process(session):
        want_stop(draft, StopCause.REQUEST, actor=asked.actor)
    elif session.phase in (Phase.STOPPED, Phase.FAILED):
        draft.session = replace(session, provisional=None, look_owed_until=None)
    else:
        rest_unstarted(draft, Reason.STOPPED_BY_REQUEST, actor=asked.actor)
    return _OK


def _restart(draft: Draft, asked: VerbRequested) -> Reply:
    session = draft.session
    if not has_process(session):
        return _start(draft, asked)
    draft.session = replace(
        session, restart_wanted=True, desired=Desired.RUNNING, granted_at=(), backoff_step=0, crash_looping=False
    )
    if session.phase is Phase.STOPPING:
        draft.tell(actor=asked.actor, reason=Reason.START_REQUESTED, message="restart requested while it stops")
    else:
        want_stop(draft, StopCause.RESTART, actor=asked.actor)
    return _OK


def _remove(draft: Draft, asked: VerbRequested) -> Reply:
    session = draft.session
    if session.is_external:
        return Reply(accepted=False, message=f"{session.name} is external: remove its container on the engine")
    live = has_process(session) or session.phase is Phase.STARTING
    if live and not asked.force:
        return Reply(accepted=False, message=f"{session.name} is {session.phase}: stop it first, or use --force")
    draft.session = replace(
        session,
        removal_wanted=True,
        desired=Desired.STOPPED,
        restart_wanted=False,
        next_attempt_at=None,
        provisional=None,
        look_owed_until=None,
    )
    if session.phase is Phase.BACKOFF and not session.engine_backs_off:
        draft.enter(Phase.STOPPED, Reason.STOPPED_BY_REQUEST, "removal requested")
    draft.tell(actor=asked.actor, reason=Reason.REMOVED_BY_REQUEST, message="removal requested")
    pursue(draft)
    return _OK


def _renew(draft: Draft, asked: VerbRequested) -> Reply:
    session = draft.session
    if asked.ttl_s is None or asked.ttl_s <= 0:
        return Reply(accepted=False, message="a renewal needs a time in seconds")
    if session.is_external:
        return Reply(accepted=False, message=f"{session.name} is external: it has no time to live")
    if session.phase in (Phase.STOPPED, Phase.FAILED):
        return Reply(accepted=False, message=f"{session.name} has ended: there is nothing to renew")
    if session.phase is Phase.STOPPING or session.stop_wanted is not None:
        return Reply(accepted=False, message=f"{session.name} is being stopped: there is nothing to renew")
    spec = replace(session.spec, ttl_s=asked.ttl_s) if session.spec is not None else None
    draft.session = replace(session, spec=spec, expires_at=after(draft.now, asked.ttl_s), expiry_warned=False)
    draft.tell(actor=asked.actor, reason=Reason.RENEWED, message=f"for {asked.ttl_s:g} s")
    return _OK


def _adopt(draft: Draft, asked: VerbRequested) -> Reply:
    session = draft.session
    if session.origin is not Origin.ORPHAN:
        return Reply(accepted=False, message="a session has it already")
    if session.open_actions:
        return Reply(accepted=False, message=f"{session.name} is being removed just now")
    desired = Desired.RUNNING if session.phase.is_live else Desired.STOPPED
    draft.session = replace(
        session, origin=Origin.ADOPTED, desired=desired, removal_wanted=False, stop_wanted=None, look_owed_until=None
    )
    draft.tell(actor=asked.actor, reason=Reason.ADOPTED, message="it was found as an orphan")
    return _OK


def _failed(draft: Draft) -> Reply:
    failed = draft.session.phase is Phase.FAILED
    return Reply(accepted=not failed, message=draft.session.message if failed else "")
