"""When a request has come true: what must be seen in a session before the client is told that it is done.

Pure. Each predicate compares the session as it was before the request with the session as it is now. They ask for
what was observed; that the request was accepted is never enough.
"""

from typing import assert_never

from controller.model.observation import Verb
from controller.model.phase import Phase
from controller.model.session import Session


def is_settled(verb: Verb, *, before: Session, now: Session) -> bool:
    """Whether what `verb` asked for, or an end that makes it impossible, has been observed."""
    if now.id != before.id or now.removed_at is not None:
        return True
    match verb:
        case Verb.START:
            return _start_settled(before=before, now=now)
        case Verb.STOP:
            return now.phase in (Phase.STOPPED, Phase.FAILED)
        case Verb.RESTART:
            return _restart_settled(before=before, now=now)
        case Verb.REMOVE:
            return False
        case Verb.RENEW:
            return True
        case _:
            assert_never(verb)


def creation_settled(now: Session, *, start: bool) -> bool:
    """Whether a new session runs or has ended; one that is not to start is done as soon as it is recorded."""
    return not start or now.removed_at is not None or _runs(now) or now.phase.is_ended


def _start_settled(*, before: Session, now: Session) -> bool:
    if _runs(now):
        return _runs(before) or _is_newer(before=before, now=now)
    return _ended_since(before=before, now=now)


def _restart_settled(*, before: Session, now: Session) -> bool:
    if now.restart_wanted:
        return False
    return (_runs(now) and _is_newer(before=before, now=now)) or _ended_since(before=before, now=now)


def _runs(session: Session) -> bool:
    return session.phase in (Phase.RUNNING, Phase.PAUSED)


def _is_newer(*, before: Session, now: Session) -> bool:
    return now.attempt_count > before.attempt_count


def _ended_since(*, before: Session, now: Session) -> bool:
    return now.phase.is_ended and now.since > before.since
