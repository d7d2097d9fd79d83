"""Deadlines: instants that a session's stored facts give, and what a new life of the controller makes of them.

Nothing here waits. `wake` sleeps until the earliest; after a restart all are clipped to their full length, so that
a clock that was set while we were away neither fires all of them nor postpones them for ever.
"""

from dataclasses import replace
from typing import Final

from controller.core.restart_policy import BACKOFF_MAX_S, JITTER
from controller.core.rules import EXPIRY_WARNING_S, LOOK_OWED_S, PROVISIONAL_S, REMOVAL_AGAIN_S, Rules
from controller.model.instant import Instant, after
from controller.model.phase import Desired, Health, Phase
from controller.model.reason import Reason
from controller.model.session import Attempt, Origin, ProvisionalEnd, Session
from controller.model.spec import RestartMode

_LONGEST_BACKOFF_S: Final = BACKOFF_MAX_S * (1.0 + JITTER)


def earliest(session: Session, *, rules: Rules) -> Instant | None:
    """The next instant at which something is due for a session."""
    if session.removed_at is not None:
        return session.provisional.until if session.provisional is not None else None
    due = [
        session.next_attempt_at,
        session.provisional.until if session.provisional is not None else None,
        session.look_owed_until,
        session.connection_due_at,
        unhealthy_restart_at(session),
        expiry_warning_at(session),
        expiry_at(session),
        kept_until(session, rules=rules),
    ]
    return min((instant for instant in due if instant is not None), default=None)


def unhealthy_restart_at(session: Session) -> Instant | None:
    """When a session that has been unhealthy since then is restarted, where that is asked for."""
    limit_s = session.policy.unhealthy_restart_s
    waiting = session.phase is Phase.RUNNING and session.health is Health.UNHEALTHY and session.may_act
    if limit_s is None or session.unhealthy_since is None or not waiting:
        return None
    return after(session.unhealthy_since, limit_s)


def expiry_warning_at(session: Session) -> Instant | None:
    """When a session is told that its time runs out."""
    if session.expires_at is None or session.expiry_warned or session.phase.is_ended:
        return None
    ttl_s = session.spec.ttl_s if session.spec is not None else None
    return after(session.expires_at, -min(EXPIRY_WARNING_S, (ttl_s or EXPIRY_WARNING_S) / 2))


def expiry_at(session: Session) -> Instant | None:
    """When a session's time is over; None once that has been acted upon."""
    over = session.phase in (Phase.STOPPED, Phase.FAILED, Phase.STOPPING) or session.stop_wanted is not None
    return None if over else session.expires_at


def kept_until(session: Session, *, rules: Rules) -> Instant | None:
    """When the container of a session at rest is removed; None while it may be needed, or if it is kept for ever."""
    keep_s = rules.keep_failed_s if session.phase is Phase.FAILED else rules.keep_stopped_s
    if keep_s is None or not rules.may_manage or not is_at_rest(session):
        return None
    learnt_at = session.attempt.ended_at if session.attempt is not None else None
    # Its phase may have been decided by something older than its end: what came first in the inbox.
    over_at = after(max(session.since, learnt_at or session.since), keep_s)
    return over_at if session.removal_again_at is None else max(over_at, session.removal_again_at)


def is_at_rest(session: Session) -> bool:
    """Whether a session of our making is over, nothing is awaited or wanted any more, and its container is still there.

    Then, and only then, `due_at` is the instant until which that container is kept.
    """
    undecided = (
        session.next_attempt_at,
        session.provisional,
        session.look_owed_until,
        session.stop_wanted,
        session.removed_at,
    )
    # What our own shutdown stopped comes back by a restart policy, and by nothing else.
    left_down = session.reason is Reason.CONTROLLER_SHUTDOWN and session.policy.mode is RestartMode.NO
    return (
        session.origin is Origin.REQUESTED
        and session.container is not None
        and session.phase in (Phase.STOPPED, Phase.FAILED)
        and (session.desired is Desired.STOPPED or left_down)
        and all(instant is None for instant in undecided)
        and not (session.open_actions or session.restart_wanted or session.removal_wanted)
    )


def rederived(session: Session, *, now: Instant, rules: Rules) -> Session:
    """The session with every deadline within its full length from now: what a new life starts from."""
    backoff_s = max(session.policy.slow_retry_s or 0.0, _LONGEST_BACKOFF_S)
    waits_for_connection = (
        session.spec is not None and session.spec.expect_connection and session.phase is Phase.RUNNING
    )
    provisional = session.provisional
    ttl_s = session.spec.ttl_s if session.spec is not None else None
    return replace(
        session,
        since=min(session.since, now),
        next_attempt_at=_clipped(session.next_attempt_at, now, backoff_s),
        provisional=ProvisionalEnd(until=min(provisional.until, after(now, PROVISIONAL_S))) if provisional else None,
        look_owed_until=_clipped(session.look_owed_until, now, LOOK_OWED_S),
        # Whether it was so all the time, nobody was there to see.
        unhealthy_since=now if session.unhealthy_since is not None else None,
        expires_at=_clipped(session.expires_at, now, ttl_s) if ttl_s is not None else session.expires_at,
        removed_at=_clipped(session.removed_at, now, 0.0),
        removal_again_at=_clipped(session.removal_again_at, now, REMOVAL_AGAIN_S),
        granted_at=tuple(min(granted, after(now, backoff_s)) for granted in session.granted_at),
        attempt=_not_after(session.attempt, now) if session.attempt is not None else None,
        connected=False,
        # Nobody is connected to a controller that has just started: everybody gets the whole grace.
        connection_due_at=after(now, rules.connect_grace_s) if waits_for_connection else None,
    )


def _not_after(attempt: Attempt, now: Instant) -> Attempt:
    """The attempt with our own instants not in the future: a look that is asked for now is later than they are."""
    ended_at = attempt.ended_at
    return replace(
        attempt,
        opened_at=min(attempt.opened_at, now),
        ended_at=min(ended_at, now) if ended_at is not None else None,
    )


def _clipped(instant: Instant | None, now: Instant, length_s: float) -> Instant | None:
    return None if instant is None else min(instant, after(now, length_s))
