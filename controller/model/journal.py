"""What is written once and never changed: journal rows, evidence, gaps."""

from dataclasses import dataclass
from enum import StrEnum

from controller.model.container import LogTail, ProbeResult
from controller.model.exit import Exit
from controller.model.ids import ContainerId, SessionId, SessionName
from controller.model.instant import Instant
from controller.model.phase import Health, Phase
from controller.model.reason import Reason, Source


class RowKind(StrEnum):
    """What a journal row tells; the `event` key of its log line."""

    TRANSITION = "transition"
    ACTION = "action"
    GAP = "gap"
    SNAPSHOT = "snapshot"
    NOTE = "note"
    """A fact that moved nothing: kept so that the journal can be replayed, neither printed nor shown."""


@dataclass(frozen=True, kw_only=True)
class JournalDraft:
    """A journal row before its commit gives it a `seq` and a `committed_at`."""

    kind: RowKind
    session_id: SessionId | None
    """None only for a gap."""
    session: SessionName | None
    attempt: int
    from_phase: Phase | None
    """None when the session was not there before."""
    to_phase: Phase | None
    health_from: Health | None
    health_to: Health | None
    reason: Reason
    message: str
    source: Source
    actor: str
    at: Instant | None
    """The engine's time, where the observation has one."""
    observed_at: Instant
    container_id: ContainerId | None
    exit: Exit | None = None
    evidence: str = ""
    """`attempt/{number}` when evidence rows for that attempt were committed with it or before."""
    action: str = ""
    """Of an action row: `create`, `start`, `stop`, `remove` or `adopt`, and how it ended, as `stop done`."""


@dataclass(frozen=True, kw_only=True)
class JournalRow:
    """A committed journal row."""

    seq: int
    decision: int
    """Rows of one decision share this number; the first of them holds the observation."""
    committed_at: Instant
    draft: JournalDraft


class EvidenceKind(StrEnum):
    """What a piece of evidence is."""

    LOG_TAIL = "log_tail"
    PROBES = "probes"
    INSPECT = "inspect"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What an attempt left behind, kept before it is gone. One row an attempt."""

    session_id: SessionId
    attempt: int
    container_id: ContainerId
    kept_at: Instant
    tail: LogTail
    probes: tuple[ProbeResult, ...]
    state: str
    """The last inspect's state as short text, secrets and environment left out."""


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A stretch of time in which events may have been missed."""

    opened_at: Instant
    """Our clock: the last line, or the orderly end, before it."""
    closed_at: Instant | None
    cause: str
    """`controller down`, `stream cut`, `engine unreachable`, `bad line`, `overflow`, `no overlap`."""
    found: str = ""
    """What the sweep that closed it found, in one phrase."""
