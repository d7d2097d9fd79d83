"""How an attempt ended, and how sure we are."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What ended an attempt. The truth table is `core/diagnosis.py`, published in `docs/diagnosis.md`."""

    CLEAN_EXIT = "clean_exit"
    ERROR_EXIT = "error_exit"
    APPLICATION_SIGNAL = "application_signal"
    OUT_OF_MEMORY = "out_of_memory"
    SURVIVED_CHILD_OOM = "survived_child_oom"
    ERROR_AFTER_CHILD_OOM = "error_after_child_oom"
    STOPPED_IN_TIME = "stopped_in_time"
    STOPPED_BY_FORCE = "stopped_by_force"
    STOPPED_EXTERNALLY = "stopped_externally"
    KILLED_EXTERNALLY = "killed_externally"
    REMOVED_EXTERNALLY = "removed_externally"
    AUTO_REMOVED = "auto_removed"
    START_FAILED = "start_failed"
    ENGINE_STOPPED = "engine_stopped"
    SIGKILL_UNEXPLAINED = "sigkill_unexplained"
    UNKNOWN = "unknown"


class Confidence(StrEnum):
    """How far the evidence carries a verdict."""

    CERTAIN = "certain"
    LIKELY = "likely"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Exit:
    """The contract's `exit` object."""

    exit_code: int | None
    """None when it was lost: an invented code is never stored."""
    signal: int | None = None
    """The signal that ended the process, where the code or an event tells."""
    oom_killed: bool = False
    error: str = ""
    """The engine's own words. Untrusted text."""
    verdict: Verdict = Verdict.UNKNOWN
    confidence: Confidence = Confidence.UNKNOWN
    evidence: tuple[str, ...] = ()
    """The facts that decided, each a short sentence."""
