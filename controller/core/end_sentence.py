"""How an attempt ended, told in one plain sentence to somebody who has never seen the program.

Pure. It only puts the verdict of `diagnosis` into words, and never claims more than its confidence carries.
"""

from typing import Final, assert_never

from controller.core.diagnosis import SIGKILL_UNEXPLAINED
from controller.core.signals import SIGKILL, signal_name
from controller.core.untrusted import one_line
from controller.core.wording import between, length, memory, person
from controller.model.exit import Confidence, Exit, Verdict
from controller.model.reason import Reason
from controller.model.session import Attempt, Intent, StopCause

ERROR_MAX_CHARS: Final = 300


def end_sentence(subject: str, *, attempt: Attempt, exit_: Exit, reason: Reason, memory_limit_bytes: int) -> str:
    """The sentence, with its full stop. `reason` tells apart the ends that nobody saw."""
    after = _after(attempt)
    if attempt.intent is not None and exit_.verdict is not Verdict.START_FAILED:
        return _ours(f"{subject} was stopped{after}{_because(attempt.intent)}", exit_=exit_, intent=attempt.intent)
    match exit_.verdict:
        case Verdict.OUT_OF_MEMORY | Verdict.SURVIVED_CHILD_OOM | Verdict.ERROR_AFTER_CHILD_OOM:
            return f"{subject} {_memory(exit_, after=after, memory_limit_bytes=memory_limit_bytes)}."
        case Verdict.AUTO_REMOVED | Verdict.UNKNOWN:
            return f"{subject} {_unseen(exit_, reason=reason)}."
        case Verdict.CLEAN_EXIT | Verdict.ERROR_EXIT | Verdict.APPLICATION_SIGNAL | Verdict.SIGKILL_UNEXPLAINED:
            return f"{subject} {_by_itself(exit_, after=after)}."
        case _:
            return f"{subject} {_by_others(exit_, after=after)}."


def _by_itself(exit_: Exit, *, after: str) -> str:
    match exit_.verdict:
        case Verdict.CLEAN_EXIT:
            return f"ended well{after} (exit code 0)"
        case Verdict.APPLICATION_SIGNAL:
            return (
                f"crashed{after}: its program was probably ended by {_signal(exit_)} (exit code {exit_.exit_code}), "
                "which nobody sent through the engine"
            )
        case Verdict.SIGKILL_UNEXPLAINED:
            return f"ended with exit code 137{after}: {SIGKILL_UNEXPLAINED}"
        case _:
            return f"ended with an error{after}: its program returned exit code {exit_.exit_code}"


def _memory(exit_: Exit, *, after: str, memory_limit_bytes: int) -> str:
    limit = f"limit {memory(memory_limit_bytes)}" if memory_limit_bytes > 0 else "no limit of its own"
    if exit_.verdict is Verdict.SURVIVED_CHILD_OOM:
        return f"ended well{after} (exit code 0), although a process in it ran out of memory ({limit})"
    if exit_.verdict is Verdict.ERROR_AFTER_CHILD_OOM:
        return (
            f"ended with an error{after}: its program returned exit code {exit_.exit_code}, after a process in it had "
            f"run out of memory ({limit})"
        )
    if exit_.confidence is not Confidence.CERTAIN:
        return (
            f"probably ran out of memory{after}: it was killed, and the engine says that something in it ran out of "
            f"memory ({limit})"
        )
    at = f"at its limit of {memory(memory_limit_bytes)}" if memory_limit_bytes > 0 else "to free memory"
    return f"ran out of memory{after}: the kernel killed it {at}"


def _unseen(exit_: Exit, *, reason: Reason) -> str:
    if exit_.verdict is Verdict.AUTO_REMOVED:
        return "ended and the engine removed its container at once (--rm): how it ended is not known"
    if reason is Reason.LOST:
        return "is lost: its container is gone, and nobody saw how it ended"
    return "ended, and how is not known: no exit code that can be trusted was left"


def _by_others(exit_: Exit, *, after: str) -> str:
    code = "" if exit_.exit_code is None else f" (exit code {exit_.exit_code})"
    match exit_.verdict:
        case Verdict.START_FAILED:
            return f"could not be started: {_error(exit_)}"
        case Verdict.ENGINE_STOPPED:
            return f"was ended by a stop or restart of the engine itself{after}{code}"
        case Verdict.KILLED_EXTERNALLY:
            return f"was killed by somebody else{after}, through the engine (SIGKILL)"
        case Verdict.REMOVED_EXTERNALLY:
            return f"was killed and removed by somebody else{after}, through the engine"
        case _:
            who = " by somebody else" if exit_.verdict is Verdict.STOPPED_EXTERNALLY else ""
            forced = exit_.verdict is Verdict.STOPPED_BY_FORCE or exit_.signal == SIGKILL
            return f"was stopped{who}{after}" + (": it did not end in time and was killed" if forced else code)


def _ours(opening: str, *, exit_: Exit, intent: Intent) -> str:
    grace = f"{intent.grace_s:g} s" if intent.grace_s < 1 else length(intent.grace_s)
    match exit_.verdict:
        case Verdict.STOPPED_BY_FORCE:
            return f"{opening}: it did not end within its {grace} of grace and was killed."
        case Verdict.STOPPED_IN_TIME:
            return f"{opening}: it ended within its {grace} of grace (exit code {exit_.exit_code})."
        case _:
            return f"{opening}: how it ended is not known."


def _because(intent: Intent) -> str:
    who = person(intent.actor)
    match intent.cause:
        case StopCause.REQUEST:
            return f" on request of {who}"
        case StopCause.RESTART:
            return f" to be restarted, on request of {who}"
        case StopCause.REMOVE:
            return f" to be removed, on request of {who}"
        case StopCause.SHUTDOWN:
            return " because the controller itself was shutting down"
        case StopCause.EXPIRED:
            return " because its time to live was over"
        case StopCause.NOT_CONNECTED:
            return " because its agent did not connect in time"
        case StopCause.UNHEALTHY:
            return " because it had been unhealthy for too long"
        case StopCause.ORPHAN:
            return " to be removed"
        case _:
            assert_never(intent.cause)


def _after(attempt: Attempt) -> str:
    end = attempt.finished_at if attempt.finished_at is not None else attempt.died_at
    if attempt.started_at is None or end is None:
        return ""
    return f" after {between(attempt.started_at, end)}"


def _signal(exit_: Exit) -> str:
    return "a signal" if exit_.signal is None else signal_name(exit_.signal)


def _error(exit_: Exit) -> str:
    said = one_line(exit_.error, limit=ERROR_MAX_CHARS).rstrip(".")
    return f"the engine said “{said}”" if said else f"exit code {exit_.exit_code}"
