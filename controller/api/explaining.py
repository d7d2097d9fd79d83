"""The explanation of one session, from the ledger alone: the same over HTTP and on the file, but for the mode."""

from collections import deque
from typing import Final

from controller.api.shapes import WhyView
from controller.core.why import explain
from controller.interfaces import JournalFilter, LedgerReader
from controller.model.ids import SessionId
from controller.model.instant import Instant
from controller.model.journal import JournalRow
from controller.model.session import Session

EXPLAINED_ROWS_MAX: Final = 2_000
"""An explanation rests on the newest rows, no more than these."""
_PAGE: Final = 1_000


async def explained(ledger: LedgerReader, session: Session, *, now: Instant, may_restart: bool) -> WhyView:
    """Why a session is where it is. `may_restart` is whether the mode lets the controller start and stop anything."""
    explanation = explain(
        session=session,
        rows=await _newest_rows(ledger, session.id),
        evidence=await ledger.evidence(session.id),
        now=now,
        may_restart=may_restart,
    )
    return WhyView(sentence=explanation.sentence, facts=list(explanation.facts), outlook=explanation.outlook)


async def _newest_rows(ledger: LedgerReader, session_id: SessionId) -> list[JournalRow]:
    kept: deque[JournalRow] = deque(maxlen=EXPLAINED_ROWS_MAX)
    after = 0
    while True:
        page = await ledger.journal(JournalFilter(after=after, limit=_PAGE, session_id=session_id))
        kept.extend(page)
        if len(page) < _PAGE:
            return list(kept)
        after = page[-1].seq
