"""The rows of the truth table, in its order: each looks at the facts of an end and either fits or passes.

Each row may rely on all rows before it having passed. The line under its head says why it stands where it stands.
`diagnosis.py` takes the first that fits; nothing here writes sentences, but for the two that a verdict needs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from controller.core.end_facts import EndFacts
from controller.core.signals import SIGKILL, SIGNAL_BASE, from_exit_code
from controller.model.exit import Confidence, Verdict
from controller.model.instant import seconds_between
from controller.model.phase import Phase
from controller.model.reason import Reason
from controller.model.session import StopCause

SIGKILL_UNEXPLAINED: Final = "SIGKILL from outside the engine, or the program's own exit(137)"
"""The whole of what a bare 137 tells."""

OOM_NEAR_END_S: Final = 5.0
"""An `oom` event this close to the end belongs to it. Before containerd 2.3 it can come after the `die`."""

_CODE_OF_SIGKILL: Final = SIGNAL_BASE + SIGKILL
_START_CODES: Final = frozenset({126, 127, 128})
"""What an engine sets when it could not start the command. Without its error text they are the program's own."""

_REASON_OF_OURS: Final = {
    StopCause.REQUEST: Reason.STOPPED_BY_REQUEST,
    StopCause.RESTART: Reason.STOPPED_BY_REQUEST,
    StopCause.REMOVE: Reason.STOPPED_BY_REQUEST,
    StopCause.SHUTDOWN: Reason.CONTROLLER_SHUTDOWN,
    StopCause.EXPIRED: Reason.EXPIRED,
    StopCause.NOT_CONNECTED: Reason.NOT_CONNECTED,
    StopCause.UNHEALTHY: Reason.UNHEALTHY_RESTART,
    StopCause.ORPHAN: Reason.ORPHAN_FOUND,
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one row of the table says."""

    verdict: Verdict
    confidence: Confidence
    reason: Reason
    phase: Phase
    signal: int | None = None
    sentence: str = ""
    """Stands before the evidence, where the verdict's name alone would promise too much."""


def _start_failed(facts: EndFacts) -> Finding | None:
    # First: what never ran was neither stopped nor killed. A die with an ordinary code proves that it did run, and
    # then the engine's words are about something later.
    if not facts.error:
        return None
    unseen = facts.died_at is None and not facts.gone and facts.intent is None and not facts.somebody_stopped_it
    if not (facts.never_started or facts.code in _START_CODES or unseen):
        return None
    return Finding(
        verdict=Verdict.START_FAILED, confidence=Confidence.CERTAIN, reason=Reason.START_FAILED, phase=Phase.FAILED
    )


def _ours_by_force(facts: EndFacts) -> Finding | None:
    # Our intent explains any end, whatever its code: it was committed before the engine was called. A code other than
    # 137 proves that the program ended before our kill reached it.
    killed = facts.code == _CODE_OF_SIGKILL or (facts.code is None and facts.kill_signal == SIGKILL)
    if facts.intent is None or not killed:
        return None
    return Finding(
        verdict=Verdict.STOPPED_BY_FORCE,
        confidence=Confidence.CERTAIN if facts.code is not None and facts.kill_signal == SIGKILL else Confidence.LIKELY,
        reason=_REASON_OF_OURS[facts.intent.cause],
        phase=Phase.STOPPED,
        signal=SIGKILL,
    )


def _ours_in_time(facts: EndFacts) -> Finding | None:
    # Without a code nobody knows whether it was in time; whose stop it was is known all the same.
    if facts.intent is None:
        return None
    reason = _REASON_OF_OURS[facts.intent.cause]
    if facts.code is None:
        return Finding(verdict=Verdict.UNKNOWN, confidence=Confidence.UNKNOWN, reason=reason, phase=Phase.STOPPED)
    return Finding(
        verdict=Verdict.STOPPED_IN_TIME,
        # A die without a kill before it means that it may have ended by itself in the same moment.
        confidence=Confidence.CERTAIN if facts.kill_signal not in {None, SIGKILL} else Confidence.LIKELY,
        reason=reason,
        phase=Phase.STOPPED,
        signal=_signal_of(facts),
    )


def _engine_stopped(facts: EndFacts) -> Finding | None:
    # Before the external rows: a daemon that stops sends the same kill, die and stop events as a person does. Never
    # certain: only what happened to the stream around it tells the two apart.
    if not facts.engine_stopped:
        return None
    well = facts.somebody_stopped_it or facts.code == 0
    return Finding(
        verdict=Verdict.ENGINE_STOPPED,
        confidence=Confidence.LIKELY,
        reason=Reason.ENGINE_RESTART,
        phase=Phase.STOPPED if well else Phase.FAILED,
        signal=_signal_of(facts),
    )


def _removed_externally(facts: EndFacts) -> Finding | None:
    # Before the kill: `rm -f` is a kill that a removal follows, and the removal is what was meant.
    if not facts.destroyed_with_kill:
        return None
    return Finding(
        verdict=Verdict.REMOVED_EXTERNALLY,
        confidence=Confidence.CERTAIN,
        reason=Reason.REMOVED_EXTERNALLY,
        phase=Phase.STOPPED,
        signal=_signal_of(facts),
    )


def _killed_externally(facts: EndFacts) -> Finding | None:
    # A series that begins with 9 asked nobody: a stop begins with its own signal and kills only after the grace. Where
    # that signal is 9 (`--stop-signal`), the stop event tells.
    if facts.first_kill != SIGKILL or facts.stop_at is not None:
        return None
    return Finding(
        verdict=Verdict.KILLED_EXTERNALLY,
        confidence=Confidence.CERTAIN if facts.code == _CODE_OF_SIGKILL else Confidence.LIKELY,
        reason=Reason.KILLED_EXTERNALLY,
        phase=Phase.STOPPED,
        signal=SIGKILL,
    )


def _stopped_externally(facts: EndFacts) -> Finding | None:
    # Before memory: somebody wanted it to end, and it did. Memory, if any, stands in the evidence.
    if not facts.somebody_stopped_it:
        return None
    forced = facts.kill_signal == SIGKILL and facts.code in {_CODE_OF_SIGKILL, None}
    matches = facts.kill_signal is not None and facts.code == SIGNAL_BASE + facts.kill_signal
    return Finding(
        verdict=Verdict.STOPPED_EXTERNALLY,
        confidence=Confidence.CERTAIN if facts.stop_at is not None or matches else Confidence.LIKELY,
        reason=Reason.STOPPED_EXTERNALLY,
        phase=Phase.STOPPED,
        signal=SIGKILL if forced else _signal_of(facts),
        sentence="It did not end in time and was killed" if forced else "",
    )


def _gone_by_itself(facts: EndFacts) -> Finding | None:
    # Nothing but the absence is known. `--rm` explains the absence, never the end.
    if not facts.gone or facts.code is not None:
        return None
    return Finding(
        verdict=Verdict.AUTO_REMOVED if facts.auto_remove else Verdict.UNKNOWN,
        confidence=Confidence.LIKELY if facts.auto_remove else Confidence.UNKNOWN,
        reason=Reason.LOST if facts.died_at is None else Reason.EXIT_UNKNOWN,
        phase=Phase.FAILED,
    )


def _code_unknown(facts: EndFacts) -> Finding | None:
    # An end without a code that anybody can vouch for. All rows below read the code.
    return UNKNOWN if facts.code is None else None


def _out_of_memory(facts: EndFacts) -> Finding | None:
    # Only 137 can be the kernel's kill of the main process. An oom event long before the end was some child's, and so
    # may the flag be that it left behind; then the row of the bare 137 follows.
    if facts.code != _CODE_OF_SIGKILL or not facts.had_oom or _oom_was_earlier(facts):
        return None
    both = facts.oom_flag and facts.oom_at is not None and facts.ended_at is not None
    return Finding(
        verdict=Verdict.OUT_OF_MEMORY,
        confidence=Confidence.CERTAIN if both else Confidence.LIKELY,
        reason=Reason.OOM_KILLED,
        phase=Phase.FAILED,
        signal=SIGKILL,
    )


def _sigkill_unexplained(facts: EndFacts) -> Finding | None:
    # 137 and nobody to name. Before the children's rows: an earlier oom does not make it an ordinary error.
    if facts.code != _CODE_OF_SIGKILL:
        return None
    return Finding(
        verdict=Verdict.SIGKILL_UNEXPLAINED,
        confidence=Confidence.UNKNOWN,
        reason=Reason.SIGNALLED,
        phase=Phase.FAILED,
        sentence=SIGKILL_UNEXPLAINED,
    )


def _survived_child_oom(facts: EndFacts) -> Finding | None:
    # The flag counts any process and stays until the next start; the program itself ended well.
    if facts.code != 0 or not facts.had_oom:
        return None
    return Finding(
        verdict=Verdict.SURVIVED_CHILD_OOM, confidence=Confidence.CERTAIN, reason=Reason.EXITED, phase=Phase.STOPPED
    )


def _error_after_child_oom(facts: EndFacts) -> Finding | None:
    # It ended by itself, not by the kernel; that the loss of its child led to it is probable but not shown.
    if not facts.had_oom:
        return None
    signal = _signal_of(facts)
    return Finding(
        verdict=Verdict.ERROR_AFTER_CHILD_OOM,
        confidence=Confidence.CERTAIN if signal is None else Confidence.LIKELY,
        reason=Reason.ERROR_EXIT,
        phase=Phase.FAILED,
        signal=signal,
    )


def _application_signal(facts: EndFacts) -> Finding | None:
    # 128 + n is a convention: a program may return such a code itself, so it is never certain.
    signal = _signal_of(facts)
    if signal is None:
        return None
    return Finding(
        verdict=Verdict.APPLICATION_SIGNAL,
        confidence=Confidence.LIKELY,
        reason=Reason.SIGNALLED,
        phase=Phase.FAILED,
        signal=signal,
    )


def _clean_exit(facts: EndFacts) -> Finding | None:
    # Nobody asked, nothing happened, and the program says that it ended well.
    if facts.code != 0:
        return None
    return Finding(verdict=Verdict.CLEAN_EXIT, confidence=Confidence.CERTAIN, reason=Reason.EXITED, phase=Phase.STOPPED)


def _error_exit(facts: EndFacts) -> Finding | None:
    # Every other code, however odd, is the program's own word.
    del facts
    return Finding(
        verdict=Verdict.ERROR_EXIT, confidence=Confidence.CERTAIN, reason=Reason.ERROR_EXIT, phase=Phase.FAILED
    )


UNKNOWN: Final = Finding(
    verdict=Verdict.UNKNOWN, confidence=Confidence.UNKNOWN, reason=Reason.EXIT_UNKNOWN, phase=Phase.FAILED
)

ROWS: Final[tuple[Callable[[EndFacts], Finding | None], ...]] = (
    _start_failed,
    _ours_by_force,
    _ours_in_time,
    _engine_stopped,
    _removed_externally,
    _killed_externally,
    _stopped_externally,
    _gone_by_itself,
    _code_unknown,
    _out_of_memory,
    _sigkill_unexplained,
    _survived_child_oom,
    _error_after_child_oom,
    _application_signal,
    _clean_exit,
    _error_exit,
)


def _signal_of(facts: EndFacts) -> int | None:
    return None if facts.code is None else from_exit_code(facts.code)


def _oom_was_earlier(facts: EndFacts) -> bool:
    if facts.oom_at is None or facts.ended_at is None:
        return False
    return abs(seconds_between(facts.oom_at, facts.ended_at)) > OOM_NEAR_END_S
