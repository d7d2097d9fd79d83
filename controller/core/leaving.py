"""The container is no more: its attempt ends with it, and so does the session, unless it is to run again."""

from dataclasses import replace
from typing import Final

from controller.core.draft import Draft
from controller.core.ending import end_attempt
from controller.core.event_facts import over_at
from controller.core.hindsight import refine_end
from controller.core.judging import End, known_end
from controller.core.keeping import may_be_our_removal, pruned
from controller.core.opening import open_attempt
from controller.core.settling import settle
from controller.model.instant import Instant, seconds_between
from controller.model.observation import EventSeen
from controller.model.phase import Desired, Phase
from controller.model.reason import ACTOR_CONTROLLER, ACTOR_ENGINE, ACTOR_EXTERNAL, ACTOR_UNKNOWN, Reason, Source
from controller.model.session import Attempt, Origin, Session

_REMOVED_WITH_KILL_S: Final = 2.0
"""`rm -f` is a kill, a die and a destroy in quick succession; a kill and a later `rm` are two deeds."""


def container_gone(draft: Draft, *, source: Source | None = None) -> None:
    """A definite absence of the present container: `destroy`, or a 404 to a look by its id."""
    by_us_perhaps = may_be_our_removal(draft.session, now=draft.now)
    if draft.attempt is not None:
        _had_been_restarted(draft, draft.attempt)
    attempt = draft.attempt
    destroyed_at = draft.observation.event.at if isinstance(draft.observation, EventSeen) else None
    if attempt is not None and attempt.ended_at is None and attempt.started_at is not None:
        end_attempt(draft, End(gone=True, finished_at=destroyed_at), source=source)
    elif attempt is not None and _was_started_unseen(draft.session):
        if attempt.ended_at is None:
            draft.session = replace(draft.session, attempt=replace(attempt, ended_at=draft.now, looked_at_end=True))
        started_and_gone(draft, "it was started")
    elif attempt is not None and attempt.ended_at is None:
        _gone_before_start(draft, attempt)
    elif attempt is not None:
        if not draft.session.open_actions and _is_forced_removal(draft.session, attempt, destroyed_at):
            refine_end(draft, replace(known_end(attempt), removed_with_kill=True))
            by_us_perhaps = False
        _look_is_settled(draft)
    if by_us_perhaps:
        pruned(draft)
    else:
        _leave_container(draft, source=source)


def _had_been_restarted(draft: Draft, attempt: Attempt) -> None:
    """Of a run that only its `start` told of, no look can tell any more: it is on record before the container goes."""
    if attempt.restarted_at is None or over_at(attempt) >= attempt.restarted_at:
        return
    if attempt.ended_at is None:
        end_attempt(draft, End(looked=True), source=Source.INFERRED)
    open_attempt(draft, started_at=attempt.restarted_at, provisional=True)


def started_and_gone(draft: Draft, what: str) -> None:
    """It ran, for all that anybody knows, and was removed before anybody looked: made anew, it might run twice."""
    draft.enter(Phase.FAILED, Reason.LOST, f"{what}, and its container is gone: nobody saw how it ended")
    draft.tell(actor=ACTOR_UNKNOWN)
    settle(draft)


def _was_started_unseen(session: Session) -> bool:
    """Whether the engine has carried out a start of ours, and could not be looked at since."""
    return session.phase is Phase.STARTING and not session.open_actions and session.stop_wanted is None


def _is_forced_removal(session: Session, attempt: Attempt, destroyed_at: Instant | None) -> bool:
    if destroyed_at is None or attempt.died_at is None or session.reason is not Reason.KILLED_EXTERNALLY:
        return False
    return seconds_between(attempt.died_at, destroyed_at) <= _REMOVED_WITH_KILL_S


def _look_is_settled(draft: Draft) -> None:
    """No look can tell more of a container that is gone."""
    attempt = draft.attempt
    assert attempt is not None
    if not attempt.looked_at_end:
        draft.session = replace(draft.session, attempt=replace(attempt, looked_at_end=True))
    settle(draft)


def _gone_before_start(draft: Draft, attempt: Attempt) -> None:
    draft.session = replace(
        draft.session,
        attempt=replace(attempt, ended_at=draft.now, looked_at_end=True),
        desired=Desired.STOPPED,
        stop_wanted=None,
    )
    if not draft.session.phase.is_ended:
        reason = Reason.REMOVED_BY_REQUEST if draft.session.removal_wanted else Reason.REMOVED_EXTERNALLY
        draft.enter(Phase.STOPPED, reason, "removed before it was ever started")


def _leave_container(draft: Draft, *, source: Source | None) -> None:
    """The container is no more. A session that is to run again lives on without it; any other is removed."""
    session = draft.session
    waits = session.next_attempt_at is not None or session.restart_wanted or bool(session.open_actions)
    end_unseen = session.reason in (Reason.LOST, Reason.EXIT_UNKNOWN)
    if session.origin is Origin.REQUESTED and not session.removal_wanted and (waits or end_unseen):
        draft.session = replace(session, container=None)
        return
    if session.origin is Origin.ORPHAN and session.removal_wanted:
        draft.enter(session.phase, Reason.ORPHAN_REMOVED, session.message)
    draft.session = replace(
        draft.session,
        removed_at=draft.now,
        desired=Desired.STOPPED,
        next_attempt_at=None,
        look_owed_until=None,
        # `--rm` takes away what the daemon's own stop ended, too.
        provisional=session.provisional if _is_removed_at_its_end(session) else None,
        stop_wanted=None,
        restart_wanted=False,
        removal_wanted=False,
    )
    draft.tell(message="its container is removed", actor=_remover(session), source=source)


def _remover(session: Session) -> str:
    if session.removal_wanted:
        return ACTOR_CONTROLLER
    return ACTOR_ENGINE if _is_removed_at_its_end(session) else ACTOR_EXTERNAL


def _is_removed_at_its_end(session: Session) -> bool:
    by_hand = session.reason in (Reason.KILLED_EXTERNALLY, Reason.REMOVED_EXTERNALLY)
    return session.container is not None and session.container.auto_remove and not by_hand
