"""Stretches of time in which events may have been missed.

Opened by `watch` without waiting (its reader must not), closed by `sweep` with what it found, committed by `react`
with its next batch.
"""

from dataclasses import replace

from controller.interfaces import Clock
from controller.loops.condition import ControllerCondition
from controller.loops.inbox import Inbox, Note
from controller.model.instant import Instant
from controller.model.journal import Gap


class Gaps:
    """The open ones, and what is to be committed of them."""

    def __init__(self, *, clock: Clock, inbox: Inbox, condition: ControllerCondition) -> None:
        self._clock = clock
        self._inbox = inbox
        self._condition = condition
        self._open: dict[Instant, Gap] = {}
        self._uncommitted: list[Gap] = []
        self.openings_count = 0
        """How often one was opened or has grown in this life: what was missed last is not in an answer asked before."""

    def restore(self, gaps: list[Gap]) -> None:
        """The gaps that an earlier life left open."""
        for gap in gaps:
            self._open[gap.opened_at] = gap
        self._condition.open_gaps_count = len(self._open)

    def open(self, cause: str, *, since: Instant | None = None) -> Gap:
        """Open a gap; while one of the same cause is open, that one grows instead."""
        self.openings_count += 1
        for gap in self._open.values():
            if gap.cause == cause:
                return gap
        opened_at = self._clock.now() if since is None else since
        while opened_at in self._open:
            opened_at = Instant(opened_at + 1)
        gap = Gap(opened_at=opened_at, closed_at=None, cause=cause)
        self._open[opened_at] = gap
        self._commit(gap)
        return gap

    def is_open(self, cause: str) -> bool:
        """Whether one of that cause is open."""
        return any(gap.cause == cause for gap in self._open.values())

    def close(self, gap: Gap, *, found: str) -> None:
        """Close it with what was found, in one phrase."""
        if self._open.pop(gap.opened_at, None) is not None:
            self._commit(replace(gap, closed_at=self._clock.now(), found=found))

    def now_open(self) -> list[Gap]:
        """All that are open, oldest first."""
        return list(self._open.values())

    def uncommitted(self) -> list[Gap]:
        """What has changed since the last commit, in order. They stay until `committed`."""
        return list(self._uncommitted)

    def committed(self, count: int) -> None:
        """The first so many are in the ledger."""
        del self._uncommitted[:count]

    def _commit(self, gap: Gap) -> None:
        self._condition.open_gaps_count = len(self._open)
        self._uncommitted.append(gap)
        # When the inbox is full, `react` is about to commit anyway.
        self._inbox.offer(Note())
