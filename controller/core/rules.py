"""What decisions are bound by: the settings that `decide` may know, and the limits that are not settings."""

from dataclasses import dataclass
from typing import Final

from controller.model.ids import ControllerId
from controller.model.spec import SessionSpec

PROVISIONAL_S: Final = 30.0
"""How long an unmatched stop may still turn out to be the engine's own."""

LOOK_OWED_S: Final = 2.0
"""How long restart, verdict and notification wait for the look at an ended attempt."""

KILL_SLACK_S: Final = 5.0
"""A `kill` explains a `die` within the stop time-out and this much more."""

STABLE_AFTER_S: Final = 600.0
"""An attempt that ran this long was a good one: the next back-off begins anew."""

ACTION_LIMIT_S: Final = 120.0
"""An action without a certain answer for this long (beyond its own grace) is dropped, and the session decided anew."""

EXPIRY_WARNING_S: Final = 60.0
"""A session with a TTL is warned of its end this long before, or at half of a shorter TTL."""

REMOVAL_AGAIN_S: Final = 300.0
"""A container that was kept for long enough and could not be removed is removed so much later, if it can be then."""

START_TOLD_WITHIN_S: Final = 5.0
"""A `start` event is told with a time a little after the StartedAt that it stands for; this much after, of another."""

BEFORE_OUR_TIME_S: Final = 300.0
"""An external container that ended this long before it was first seen did so before anybody watched it."""

EARLIER_ATTEMPTS: Final = 3
"""Attempts kept in the session beside the present one, for observations that come late."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The settings that decisions depend on. Lengths are seconds."""

    controller_id: ControllerId
    prefix: str
    engine: str
    """The engine's name in our settings."""
    stop_grace_s: float = 10.0
    connect_grace_s: float = 60.0
    orphan_policy: str = "remove"
    orphan_grace_s: float = 300.0
    keep_failed_s: float | None = 604_800.0
    """How long the container of a session that failed is kept; None for ever."""
    keep_stopped_s: float | None = 86_400.0
    """The same for one that ended well, or was stopped."""
    may_restart: bool = True
    may_manage: bool = True

    def grace_of(self, spec: SessionSpec | None) -> float:
        """Between the stop signal and the kill, for a session of that spec. Its container is created with it."""
        asked = spec.stop_grace_s if spec is not None else None
        return self.stop_grace_s if asked is None else asked
