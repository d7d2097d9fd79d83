"""(policy, past grants, this end, now) -> verdict with a delay and a reason.

The budget is counted from instants that were committed with the grants, so that a controller that is killed in a
crash loop grants no extra attempt and shortens no wait. Jitter is a hash, not a die: a replay gets the same one.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from controller.core.specs import LABEL_MAX_ATTEMPTS, LABEL_RESTART, LABEL_RESTART_WINDOW, LABEL_UNHEALTHY_RESTART
from controller.model.ids import SessionId
from controller.model.instant import Instant, after, seconds_between
from controller.model.spec import RestartMode, RestartPolicy

BACKOFF_FIRST_S: Final = 10.0
BACKOFF_MAX_S: Final = 300.0
JITTER: Final = 0.25
"""Up to this part of a back-off is added to it, so that many sessions do not come back in step."""


@dataclass(frozen=True, kw_only=True)
class RestartVerdict:
    """Whether another attempt is granted, and when."""

    granted: bool
    delay_s: float = 0.0
    budget_spent: bool = False
    """The window holds as many restarts as the policy grants; a granted verdict is then the slow retry."""
    explanation: str = ""


def consider(
    policy: RestartPolicy,
    *,
    session_id: SessionId,
    granted_at: Sequence[Instant],
    step: int,
    failed: bool,
    now: Instant,
) -> RestartVerdict:
    """Decide on the next attempt after one that has just ended. `step` counts failures in a row before this one."""
    if policy.mode is RestartMode.NO:
        return RestartVerdict(granted=False, explanation="its restart policy is no")
    if policy.mode is RestartMode.ON_FAILURE and not failed:
        return RestartVerdict(granted=False, explanation="its restart policy is on-failure, and it did not fail")
    delay_s = backoff_s(session_id, step)
    spent = count_in_window(policy, granted_at, start_at=after(now, delay_s))
    if policy.max_attempts is None or spent < policy.max_attempts:
        return RestartVerdict(granted=True, delay_s=delay_s, explanation=f"next attempt in {delay_s:.0f} s")
    explanation = f"{spent} restarts within {policy.window_s:g} s, and its policy grants {policy.max_attempts}"
    if policy.slow_retry_s is None:
        return RestartVerdict(granted=False, budget_spent=True, explanation=explanation)
    return RestartVerdict(granted=True, delay_s=policy.slow_retry_s, budget_spent=True, explanation=explanation)


def backoff_s(session_id: SessionId, step: int) -> float:
    """The wait after `step` failures in a row: 10 s doubling to 300 s, and up to a quarter more."""
    base_s = min(BACKOFF_FIRST_S * 2.0 ** min(step, 16), BACKOFF_MAX_S)
    digest = hashlib.sha256(f"{session_id}\0{step}".encode()).digest()
    return base_s * (1.0 + JITTER * int.from_bytes(digest[:4], "big") / 2**32)


def count_in_window(policy: RestartPolicy, granted_at: Sequence[Instant], *, start_at: Instant) -> int:
    """Restarts that still count when the next attempt begins at `start_at`."""
    return sum(1 for granted in granted_at if seconds_between(granted, start_at) < policy.window_s)


def still_counting(policy: RestartPolicy, granted_at: Sequence[Instant], now: Instant) -> tuple[Instant, ...]:
    """The grants worth keeping: those within the window, and never more than the budget needs."""
    kept = [granted for granted in granted_at if seconds_between(granted, now) < policy.window_s]
    return tuple(kept[-max(policy.max_attempts or 0, 1) :])


def unreachable(policy: RestartPolicy) -> str | None:
    """Why a limit can never be reached, with the arithmetic; None when it can."""
    if policy.mode is RestartMode.NO or policy.max_attempts is None:
        return None
    waits = [min(BACKOFF_FIRST_S * 2.0 ** min(step, 16), BACKOFF_MAX_S) for step in range(1, policy.max_attempts + 1)]
    needed_s = sum(waits) * (1.0 + JITTER)
    if policy.window_s > needed_s:
        return None
    shown = " + ".join(f"{wait:g}" for wait in waits[:6]) + (" + …" if len(waits) > 6 else "")
    return (
        f"max_attempts {policy.max_attempts} can never be reached in a window of {policy.window_s:g} s: "
        f"the back-offs alone take ({shown}) x {1 + JITTER:g} = {needed_s:g} s; use a longer window or fewer attempts"
    )


def from_labels(labels: Mapping[str, str]) -> tuple[RestartPolicy, str]:
    """The policy that an external container asks for, and what was wrong with its labels (empty when nothing was)."""
    default = RestartPolicy()
    asked = labels.get(LABEL_RESTART, RestartMode.NO.value)
    if asked not in set(RestartMode):
        return default, f"{LABEL_RESTART} must be one of {', '.join(RestartMode)}"
    try:
        limit = labels.get(LABEL_MAX_ATTEMPTS)
        unhealthy = labels.get(LABEL_UNHEALTHY_RESTART)
        policy = RestartPolicy(
            mode=RestartMode(asked),
            max_attempts=_count(limit) if limit is not None else None,
            window_s=_length(labels.get(LABEL_RESTART_WINDOW, f"{default.window_s:g}")),
            unhealthy_restart_s=_length(unhealthy) if unhealthy is not None else None,
        )
    except ValueError:
        return default, f"{LABEL_MAX_ATTEMPTS}, {LABEL_RESTART_WINDOW} and {LABEL_UNHEALTHY_RESTART} must be numbers"
    refused = unreachable(policy)
    return (default, refused) if refused else (policy, "")


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 1000:
        raise ValueError(text)
    return number


def _length(text: str) -> float:
    number = float(text)
    if not 0 < number <= 31_536_000:
        raise ValueError(text)
    return number
