"""What is known of one attempt's end: the columns of the truth table in `diagnosis`.

`transitions` fills it in from the attempt and its last look; nothing here decides.
"""

from dataclasses import dataclass

from controller.model.instant import Instant
from controller.model.session import Intent


@dataclass(frozen=True, kw_only=True)
class EndFacts:
    """Everything that is known of one attempt's end. Instants are the engine's, except in `intent`."""

    exit_code: int | None
    """None when nobody could tell; the event's code, or the inspect's where one was made."""
    code_may_be_invented: bool = False
    """A 255 without a `die` event."""
    started_at: Instant | None = None
    finished_at: Instant | None = None
    died_at: Instant | None = None
    """Time of the `die` event; None when nobody saw one."""
    died_after_gap: bool = False
    """Events were missing before that one: it may tell of a later run."""
    oom_flag: bool = False
    """State.OOMKilled, when an inspect told."""
    oom_at: Instant | None = None
    """Time of the latest `oom` event of this attempt."""
    memory_limit_bytes: int = 0
    intent: Intent | None = None
    """Our own stop of this attempt, committed before the engine was called."""
    first_kill_signal: int | None = None
    kill_signal: int | None = None
    kill_unnamed: bool = False
    """Nobody named that signal: it is the one that the exit code tells of."""
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

    @property
    def code(self) -> int | None:
        """The exit code, unless it is unknown or possibly invented: an invented code is never used nor stored."""
        return None if self.code_may_be_invented else self.exit_code

    @property
    def ended_at(self) -> Instant | None:
        """The engine's time of the end, as near as anything tells it."""
        return self.died_at if self.died_at is not None else self.finished_at

    @property
    def had_oom(self) -> bool:
        """Whether anything in the container ran out of memory during this attempt."""
        return self.oom_flag or self.oom_at is not None

    @property
    def first_kill(self) -> int | None:
        """The signal that began the series of kills; the only one, where the series was not followed."""
        return self.first_kill_signal if self.first_kill_signal is not None else self.kill_signal

    @property
    def somebody_stopped_it(self) -> bool:
        """Whether a kill or a stop went through the engine, whoever sent it."""
        return self.first_kill is not None or self.stop_at is not None
