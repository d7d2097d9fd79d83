"""A ledger decided once more from its journal: what stands in it is what its observations lead to."""

from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from controller.core.replay import replay
from controller.interfaces import JournalFilter
from controller.loops.program import rules_of
from controller.model.reason import Reason
from controller.model.session import Session
from controller.settings import Settings, load
from controller.store.ledger import open_readonly
from tests.support.controller_process import ControllerProcess

Differences = dict[str, dict[str, tuple[object, object]]]


def assert_replays(controller: ControllerProcess) -> None:
    """The whole ledger that this controller keeps or has left behind gives the same sessions again."""
    found = differences(controller.db, load(controller.environment))
    assert not found, found


def differences(db: Path, settings: Settings) -> Differences:
    """Session -> field -> (stored, replayed), of every session that a replay does not give exactly. Empty is good."""
    return anyio.run(_of_a_copy, db, settings)


async def _of_a_copy(db: Path, settings: Settings) -> Differences:
    """Of one moment: the ledger's controller may be writing to it."""
    with TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.db"
        async with open_readonly(db) as ledger:
            await ledger.backup(str(copy))
        return await _differences(copy, settings)


async def _differences(db: Path, settings: Settings) -> Differences:
    found: Differences = {}
    async with open_readonly(db) as ledger:
        meta = await ledger.meta()
        rules = rules_of(settings, meta)
        for stored in await ledger.sessions(include_removed=True):
            start = await ledger.replay_start(stored.id)
            rows = await ledger.journal(JournalFilter(session_id=stored.id, limit=10_000))
            # Nothing was decided on what a defect kept as its evidence.
            undecided = {row.decision for row in rows if row.draft.reason is Reason.DEFECT}
            told = await ledger.observations(stored.id)
            seen = [observation for decision, observation in told if decision not in undecided]
            replayed = replay(start, seen, rules=rules)
            assert replayed is not None, f"{stored.name}: a journal without its beginning"
            if replayed != stored:
                found[f"{stored.name} {stored.id}"] = _differing(stored, replayed)
    return found


def _differing(stored: Session, replayed: Session) -> dict[str, tuple[object, object]]:
    pairs = {field.name: (getattr(stored, field.name), getattr(replayed, field.name)) for field in fields(Session)}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
