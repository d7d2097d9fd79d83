"""Has the ledger forget, once an hour, what is older than its retention. `react` commits it like everything else."""

from typing import Final, Never

from controller.interfaces import Clock
from controller.loops.inbox import Inbox, Note
from controller.loops.waiting import sleep_until
from controller.model.instant import after

EVERY_S: Final = 3600.0
DAY_S: Final = 86_400.0


async def run(*, clock: Clock, inbox: Inbox, retain_days: float) -> Never:
    """Prune for ever, for the first time after an hour: a start has more urgent things to write."""
    while True:
        await sleep_until(clock, after(clock.now(), EVERY_S))
        await inbox.put(Note(prune_before=after(clock.now(), -retain_days * DAY_S)))
