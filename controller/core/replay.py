"""A session's journal, decided once more: the same observations in the same order give the same session.

Pure. The journal keeps the observation behind each decision; its `observed_at` was the decision's `now`, and jitter is
a hash, so nothing else is needed. For tests and for whoever wants to know how a session came to stand where it stands.
"""

from collections.abc import Iterable

from controller.core.rules import Rules
from controller.core.transitions import decide
from controller.model.observation import Observation
from controller.model.session import Session


def replay(start: Session | None, observations: Iterable[Observation], *, rules: Rules) -> Session | None:
    """The session after all of them. `start` is the journal's snapshot, or None when the journal is whole.

    `rules` must be those that were in force; a controller that ran under other settings decided otherwise.
    """
    session = start
    for observation in observations:
        decided = decide(session, observation, now=observation.observed_at, rules=rules).session
        session = session if decided is None else decided
    return session
