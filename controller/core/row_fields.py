"""A journal row under the contract's names: its log line and its JSON are made of this."""

from dataclasses import asdict

from controller.model.exit import Exit
from controller.model.instant import Instant, to_rfc3339
from controller.model.journal import JournalRow


def row_fields(row: JournalRow) -> dict[str, object]:
    """Every field of a row, as plain values."""
    draft = row.draft
    return {
        "seq": row.seq,
        "session": draft.session,
        "attempt": draft.attempt,
        "from": draft.from_phase,
        "to": draft.to_phase,
        "health_from": draft.health_from,
        "health_to": draft.health_to,
        "reason": draft.reason,
        "message": draft.message,
        "source": draft.source,
        "actor": draft.actor,
        "at": _time(draft.at),
        "observed_at": to_rfc3339(draft.observed_at),
        "committed_at": to_rfc3339(row.committed_at),
        "container_id": draft.container_id,
        "exit": _exit(draft.exit),
        "evidence": draft.evidence,
        "action": draft.action,
    }


def _exit(end: Exit | None) -> dict[str, object] | None:
    return None if end is None else {**asdict(end), "evidence": list(end.evidence)}


def _time(instant: Instant | None) -> str | None:
    return None if instant is None else to_rfc3339(instant)
