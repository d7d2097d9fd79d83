"""Evidence -> verdict, confidence and the facts that decided: a published truth table (`docs/diagnosis.md`).

Pure. It never guesses: what the engine did not tell stays unknown, and 137 alone is never out of memory.
"""

from dataclasses import dataclass

from controller.model.exit import Exit
from controller.model.instant import Instant
from controller.model.phase import Phase
from controller.model.reason import Reason
from controller.model.session import Intent


@dataclass(frozen=True, kw_only=True)
class EndFacts:
    """Everything that is known of one attempt's end. Instants are the engine's, except in `intent`."""

    exit_code: int | None
    """None when nobody could tell; the event's code, or the inspect's where one was made."""
    code_may_be_invented: bool = False
    """A 255 without a `die` event, with FinishedAt not before the engine was last seen up."""
    started_at: Instant | None = None
    finished_at: Instant | None = None
    died_at: Instant | None = None
    """Time of the `die` event; None when nobody saw one."""
    oom_flag: bool = False
    """State.OOMKilled, when an inspect told."""
    oom_at: Instant | None = None
    """Time of the latest `oom` event of this attempt."""
    memory_limit_bytes: int = 0
    intent: Intent | None = None
    """Our own stop of this attempt, committed before the engine was called."""
    first_kill_signal: int | None = None
    kill_signal: int | None = None
    kill_at: Instant | None = None
    """Only kills that can explain the end are passed in (`DESIGN.md`, Whose stop was it)."""
    stop_at: Instant | None = None
    engine_stopped: bool = False
    """The stop turned out to be the engine's own."""
    gone: bool = False
    """A definite 404 or a `destroy`."""
    destroyed_with_kill: bool = False
    """`destroy` followed the kill at once: `rm -f`."""
    auto_remove: bool = False
    never_started: bool = False
    error: str = ""
    """The engine's own words. Untrusted text."""
    last_probe: str = ""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What follows from the facts."""

    exit: Exit
    reason: Reason
    phase: Phase
    """STOPPED or FAILED; the restart policy may make it BACKOFF."""


def diagnose(facts: EndFacts) -> Diagnosis:
    """Apply the truth table; the first row that fits decides."""
    raise NotImplementedError
