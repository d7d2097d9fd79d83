"""Evidence -> verdict, confidence and the facts that decided: a published truth table (`docs/diagnosis.md`).

`transitions` calls it when an attempt has ended, and again when a look tells more. Pure and total. It never guesses:
what the engine did not tell stays unknown, and 137 alone is never out of memory.
"""

from dataclasses import dataclass

from controller.core.end_evidence import evidence_of
from controller.core.end_facts import EndFacts
from controller.core.end_rows import ROWS, SIGKILL_UNEXPLAINED, UNKNOWN
from controller.model.exit import Confidence, Exit
from controller.model.phase import Phase
from controller.model.reason import Reason

__all__ = ["SIGKILL_UNEXPLAINED", "Diagnosis", "EndFacts", "diagnose"]


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What follows from the facts."""

    exit: Exit
    reason: Reason
    phase: Phase
    """STOPPED or FAILED; the restart policy may make it BACKOFF."""


def diagnose(facts: EndFacts) -> Diagnosis:
    """Apply the truth table; the first row that fits decides."""
    doubtful = facts.died_after_gap or facts.kill_unnamed
    finding = next((found for row in ROWS if (found := row(facts)) is not None), UNKNOWN)
    return Diagnosis(
        exit=Exit(
            exit_code=facts.code,
            signal=finding.signal,
            oom_killed=facts.oom_flag,
            error=facts.error,
            verdict=finding.verdict,
            confidence=_weakened(finding.confidence) if doubtful else finding.confidence,
            evidence=((finding.sentence,) if finding.sentence else ()) + evidence_of(facts),
        ),
        reason=finding.reason,
        phase=finding.phase,
    )


def _weakened(confidence: Confidence) -> Confidence:
    return Confidence.LIKELY if confidence is Confidence.CERTAIN else confidence
