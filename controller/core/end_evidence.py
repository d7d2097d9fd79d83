"""The facts of an end as short sentences, in the order in which a reader wants them.

They go into `Exit.evidence` beside the verdict. They only repeat what was seen; the verdict is `diagnosis`'s. Text from
outside enters on one line and cut.
"""

from collections.abc import Iterator
from typing import Final

from controller.core.end_facts import EndFacts
from controller.core.signals import signal_name
from controller.core.untrusted import one_line
from controller.core.wording import memory
from controller.model.instant import seconds_between

QUOTED_MAX_CHARS: Final = 200


def evidence_of(facts: EndFacts) -> tuple[str, ...]:
    """Every fact that is known, each a sentence without its full stop, so that they can be joined."""
    return tuple(sentence for part in (_code, _ours, _stops, _memory, _engine, _words) for sentence in part(facts))


def _code(facts: EndFacts) -> Iterator[str]:
    if facts.code is not None:
        yield f"Exit code {facts.code}"
    elif facts.exit_code is not None:
        yield f"The engine says exit code {facts.exit_code}, which it may have invented"
    else:
        yield "Nobody could tell the exit code"
    yield "A die event was seen" if facts.died_at is not None else "No die event was seen"
    if facts.died_after_gap:
        yield "Events were missing before it: it may be that of a later run"
    if facts.never_started:
        yield "It never started"


def _ours(facts: EndFacts) -> Iterator[str]:
    if facts.intent is not None:
        yield (
            f"We had asked for the stop ({facts.intent.cause.value}, by {one_line(facts.intent.actor, limit=80)}, "
            f"with {facts.intent.grace_s:g} s of grace)"
        )


def _stops(facts: EndFacts) -> Iterator[str]:
    first, last = facts.first_kill_signal, facts.kill_signal
    if last is None:
        last = first
    if last is None:
        yield "No kill event that could explain it"
    elif facts.kill_unnamed:
        yield f"Kill event without a signal's name; the exit code is that of {signal_name(last)}"
    elif first is None or first == last:
        yield f"Kill event with {signal_name(last)}"
    else:
        yield f"Kill events, first with {signal_name(first)}, last with {signal_name(last)}"
    if facts.stop_at is not None:
        yield "A stop event was seen"
    if facts.destroyed_with_kill:
        yield "The container was removed right after the kill"


def _memory(facts: EndFacts) -> Iterator[str]:
    if facts.oom_at is not None:
        yield f"An oom event was seen{_distance(facts)}"
    if facts.oom_flag:
        yield "The engine says OOMKilled, which counts for any process in the container"
    if facts.had_oom:
        yield (
            f"Its memory limit was {memory(facts.memory_limit_bytes)}"
            if facts.memory_limit_bytes > 0
            else ("It had no memory limit of its own")
        )


def _distance(facts: EndFacts) -> str:
    if facts.oom_at is None or facts.ended_at is None:
        return ""
    seconds = seconds_between(facts.oom_at, facts.ended_at)
    if abs(seconds) < 1.0:
        return " at the end"
    return f" {seconds:.1f} s before the end" if seconds > 0 else f" {-seconds:.1f} s after the end"


def _engine(facts: EndFacts) -> Iterator[str]:
    if facts.engine_stopped:
        yield "The engine itself was stopping or had just restarted"
    if facts.gone:
        yield "The container is gone"
    if facts.auto_remove:
        yield "The engine was told to remove it at its end (--rm)"


def _words(facts: EndFacts) -> Iterator[str]:
    if facts.error:
        yield f"The engine said: {one_line(facts.error, limit=QUOTED_MAX_CHARS)}"
    if facts.last_probe:
        yield f"Its last health probe said: {one_line(facts.last_probe, limit=QUOTED_MAX_CHARS)}"
