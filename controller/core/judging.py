"""What is known of one attempt's end, put to the truth table: the facts are gathered here, `diagnosis.py` decides.

Also what depends on how the observation came: read after a gap, in a replay that proves nothing, or live.
"""

from dataclasses import dataclass
from typing import Final

from controller.core.diagnosis import Diagnosis, EndFacts, diagnose
from controller.core.draft import Draft
from controller.core.rules import KILL_SLACK_S
from controller.core.signals import can_end, from_exit_code
from controller.model.container import ContainerState, Snapshot
from controller.model.instant import Instant, seconds_between
from controller.model.observation import ContainerSeen, EventSeen
from controller.model.reason import ACTOR_ENGINE, ACTOR_EXTERNAL, ACTOR_UNKNOWN, Reason
from controller.model.session import Attempt

EXTERNAL_STOPS: Final = (Reason.STOPPED_EXTERNALLY, Reason.KILLED_EXTERNALLY, Reason.REMOVED_EXTERNALLY)
INVENTED_CODE: Final = 255
"""What a daemon that comes back says of what it lost sight of."""
_ENGINES_GRACE_S: Final = 10.0
"""An engine's own stop time-out, where neither the container nor the caller names one."""


@dataclass(frozen=True, kw_only=True)
class End:
    """What an observation tells about an end. Instants are the engine's."""

    exit_code: int | None = None
    finished_at: Instant | None = None
    oom_flag: bool = False
    error: str = ""
    gone: bool = False
    removed_with_kill: bool = False
    may_be_invented: bool = False
    last_probe: str = ""
    never_started: bool = False
    looked: bool = False
    """An inspect told it: nothing better will come."""
    engine_waits: bool | None = None
    """Whether the engine is about to start it again, where an inspect told."""


def end_of(snapshot: Snapshot, *, died_at: Instant | None) -> End:
    """What an inspect of an ended container tells."""
    # FinishedAt proves nothing: clocks are set, and behind a half-open stream a daemon can restart unseen. Only a
    # `die` vouches for a program's own 255.
    invented = snapshot.exit_code == INVENTED_CODE and died_at is None
    # A start that failed since has left its words and its code in the place of those of the run.
    spoilt = bool(snapshot.error) and snapshot.started_at is not None
    return End(
        exit_code=None if spoilt else snapshot.exit_code,
        finished_at=snapshot.finished_at,
        oom_flag=snapshot.oom_killed,
        error=snapshot.error,
        may_be_invented=invented,
        last_probe=snapshot.probes[-1].output if snapshot.probes else "",
        looked=True,
        engine_waits=snapshot.state is ContainerState.RESTARTING,
    )


def judge(draft: Draft, attempt: Attempt, end: End, *, engine_stopped: bool) -> Diagnosis:
    """What an end is called, by everything that is known of its attempt."""
    session = draft.session
    explains = kill_explains(draft, attempt, end)
    signal = _signal_sent(attempt, end) if explains else None
    return diagnose(
        EndFacts(
            exit_code=end.exit_code,
            code_may_be_invented=end.may_be_invented,
            started_at=attempt.started_at,
            finished_at=end.finished_at,
            died_at=attempt.died_at,
            died_after_gap=attempt.died_after_gap,
            oom_flag=end.oom_flag,
            oom_at=attempt.oom_at,
            memory_limit_bytes=session.container.memory_limit_bytes if session.container is not None else 0,
            intent=attempt.intent,
            first_kill_signal=attempt.first_kill_signal if explains else None,
            kill_signal=signal,
            kill_unnamed=signal is not None and attempt.kill_signal is None,
            kill_at=attempt.kill_at if explains else None,
            stop_at=attempt.stop_at,
            engine_stopped=engine_stopped,
            gone=end.gone,
            destroyed_with_kill=end.removed_with_kill,
            auto_remove=session.container.auto_remove if session.container is not None else False,
            never_started=end.never_started,
            error=end.error,
            last_probe=end.last_probe,
        )
    )


def known_end(attempt: Attempt) -> End:
    """The end that is on record."""
    known = attempt.exit
    return End(
        exit_code=known.exit_code if known is not None else None,
        finished_at=attempt.finished_at,
        oom_flag=known.oom_killed if known is not None else False,
        error=known.error if known is not None else "",
        looked=attempt.looked_at_end,
    )


def actor_of(reason: Reason, attempt: Attempt | None) -> str:
    """Who ended it, as far as anybody can tell."""
    if attempt is not None and attempt.intent is not None:
        return attempt.intent.actor
    if reason in EXTERNAL_STOPS:
        return ACTOR_EXTERNAL
    if reason in (Reason.LOST, Reason.EXIT_UNKNOWN, Reason.SIGNALLED):
        return ACTOR_UNKNOWN
    return ACTOR_ENGINE


def message_of(diagnosis: Diagnosis) -> str:
    """The facts that decided, in one line."""
    return "; ".join(diagnosis.exit.evidence)


def was_engine_stop(attempt: Attempt) -> bool:
    """Whether the end on record is the engine's own doing."""
    return attempt.exit is not None and attempt.exit.verdict.value == "engine_stopped"


def is_unproven(draft: Draft) -> bool:
    """Whether the event was read in a replay that proves nothing about what came before it."""
    seen = draft.observation
    return isinstance(seen, EventSeen) and seen.replayed and not seen.continuous


def ended_in_a_gap(draft: Draft, attempt: Attempt) -> bool:
    """A kill was seen, then the stream broke, and nobody saw the end: as likely as not the engine was going down."""
    seen = draft.observation
    return isinstance(seen, ContainerSeen) and seen.in_gap and attempt.died_at is None


def kill_explains(draft: Draft, attempt: Attempt, end: End) -> bool:
    """A kill explains an end only if its signal can end a process and the end follows within the stop time-out."""
    if attempt.stop_at is not None:
        return True
    signal, killed_at = _signal_sent(attempt, end), attempt.kill_at
    ended_at = attempt.died_at or end.finished_at
    if signal is None or killed_at is None or not can_end(signal):
        return False
    limit_s = max(draft.rules.grace_of(draft.session.spec), _ENGINES_GRACE_S) + KILL_SLACK_S
    # Not before the kill, give or take the engine's own jitter between FinishedAt and its events.
    return ended_at is None or -KILL_SLACK_S <= seconds_between(killed_at, ended_at) <= limit_s


def _signal_sent(attempt: Attempt, end: End) -> int | None:
    """The signal of the latest kill: by the code of the end, where the kill is known and its signal is not."""
    # Podman names none, and no label called `signal` is believed. A `stop` needs no signal to explain an end.
    unnamed = attempt.kill_at is not None and attempt.kill_signal is None and attempt.stop_at is None
    return from_exit_code(end.exit_code) if unnamed and end.exit_code is not None else attempt.kill_signal
