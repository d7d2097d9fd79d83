"""Committed journal rows become log lines, and wake whoever follows the journal.

The only place that prints transitions. At least once: how far it has printed goes into the ledger with the next commit,
so that after a crash the last lines come again, marked as repeated. What still waits for its reader is not printed yet.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final, Never

import anyio

from controller.core.row_fields import row_fields
from controller.interfaces import Clock, JournalFilter, LedgerReader
from controller.loops.log import Log, Paper
from controller.loops.waiting import Bell, Tide
from controller.model.journal import JournalRow, RowKind

HELD_MAX: Final = 2_000
"""Rows in memory; beyond that they are read back from the ledger."""
PAGE: Final = 500
_PRINTED: Final = (RowKind.TRANSITION, RowKind.ACTION, RowKind.GAP)


class Publish:
    """Prints in the order of `seq`. Implements `Feed`."""

    def __init__(self, *, clock: Clock, ledger: LedgerReader, log: Log, paper: Paper, published: int) -> None:
        self._clock = clock
        self._ledger = ledger
        self._log = log
        self._paper = paper
        self._published = published
        self._on_paper = published
        self._committed = published
        self._repeat_until = published
        self._held: deque[JournalRow] = deque()
        self._printing = anyio.Lock()
        self._bell = Bell()
        self._tide = Tide()

    async def resume(self) -> None:
        """Find the journal's end; what an earlier life may have printed already is marked as repeated."""
        while page := await self._ledger.journal(JournalFilter(after=self._committed, limit=PAGE)):
            self._committed = page[-1].seq
        self._repeat_until = self._committed
        self._bell.ring()

    def give(self, rows: Sequence[JournalRow]) -> None:
        """Rows that were committed just now. Never waits."""
        if not rows:
            return
        self._committed = rows[-1].seq
        self._held.extend(rows)
        while len(self._held) > HELD_MAX:
            self._held.popleft()
        self._bell.ring()
        self._tide.turn()

    def printed(self) -> int:
        """The newest row that is known to have been printed."""
        if not self._paper.is_behind():
            self._on_paper = self._published
        return self._on_paper

    def committed(self) -> int:
        """Highest `seq` that is committed."""
        return self._committed

    async def wait_beyond(self, seq: int) -> int:
        """Return as soon as a row with a higher `seq` is committed, with the highest one."""
        while self._committed <= seq:
            await self._tide.wait(clock=self._clock)
        return self._committed

    async def run(self) -> Never:
        """Print for ever."""
        while True:
            while self._published < self._committed:
                await self.drain()
            await self._bell.wait(clock=self._clock)

    async def drain(self) -> None:
        """Print what is committed and not printed yet."""
        async with self._printing:
            await self._drain()

    async def finish(self) -> None:
        """The same, and leave its reader a moment to take it."""
        await self.drain()
        await self._paper.catch_up()

    async def _drain(self) -> None:
        rows: Sequence[JournalRow] = self._from_memory()
        if not rows and self._published < self._committed:
            rows = await self._ledger.journal(JournalFilter(after=self._published, limit=PAGE))
        for row in rows:
            self._print(row)
            self._published = row.seq
        if not rows:
            # Pruned before it was printed: there is nothing left to print.
            self._published = self._committed

    def _from_memory(self) -> list[JournalRow]:
        while self._held and self._held[0].seq <= self._published:
            self._held.popleft()
        if not self._held or self._held[0].seq != self._published + 1:
            return []
        rows = list(self._held)
        self._held.clear()
        return rows

    def _print(self, row: JournalRow) -> None:
        if row.draft.kind not in _PRINTED:
            return
        fields = row_fields(row)
        if not fields["action"]:
            del fields["action"]  # Only an action's line has one.
        if row.seq <= self._repeat_until:
            fields["repeated"] = True
        self._log.info(row.draft.kind.value, **fields)
