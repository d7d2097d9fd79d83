"""A ledger whose disk is full for as long as a test says."""

import pytest

from controller.errors import LedgerError
from controller.interfaces import Batch
from controller.store.committer import SqliteLedger


class FullDisk:
    """Every commit fails while it is full."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_full = False
        real = SqliteLedger.commit

        async def commit(ledger: SqliteLedger, batch: Batch) -> object:
            if self.is_full:
                raise LedgerError("ledger x: database or disk is full (SQLITE_FULL)")
            return await real(ledger, batch)

        monkeypatch.setattr(SqliteLedger, "commit", commit)
