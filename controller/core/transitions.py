"""(session, observation, now) -> Decision: the one function that every road leads through.

Total and pure. What fits nothing gives a row with reason `unexpected` and a look.
"""

from controller.core.rules import Rules
from controller.model.decision import Decision
from controller.model.instant import Instant
from controller.model.observation import Observation
from controller.model.session import Session


def decide(session: Session | None, observation: Observation, *, now: Instant, rules: Rules) -> Decision:
    """What follows from one observation. `session` is None only for the first one of a new session."""
    raise NotImplementedError
