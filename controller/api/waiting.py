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
            # Only from `stopping` can it be seen running without having been started since.
            return _begun(before=before, now=now, anew=before.phase is Phase.STOPPING)
        case Verb.STOP:
            return now.phase in (Phase.STOPPED, Phase.FAILED)
        case Verb.RESTART:
            return _begun(before=before, now=now, anew=before.phase.is_live)
        case Verb.REMOVE:
            return False
        case Verb.RENEW | Verb.ADOPT:
            return True
        case _:
            assert_never(verb)


def creation_settled(now: Session, *, start: bool) -> bool:
    """Whether a new session runs, or only exists if it is not to start, or has ended."""
    wanted = _runs(now) if start else now.container is not None
    return wanted or now.removed_at is not None or now.phase.is_ended


def _begun(*, before: Session, now: Session, anew: bool) -> bool:
    """Whether it runs, in an attempt after the one before if `anew`; or has ended, with no start to follow."""
    if _runs(now):
        return not anew or now.attempt_count > before.attempt_count
    return now.phase.is_ended and now.since > before.since and not now.restart_wanted


def _runs(session: Session) -> bool:
    return session.phase in (Phase.RUNNING, Phase.PAUSED)
