"""The bounded queue before `react`: every road into the ledger ends here.

`offer` never waits (the stream's reader must not); everybody else may. Whoever asks something gets the answer through
a Slot, which `react` fills after the commit and which is filled with a refusal when the controller ends first.
"""

from dataclasses import dataclass
from typing import Final

import anyio

from controller.interfaces import Answer
from controller.model.ids import EngineId, SessionId
from controller.model.instant import Instant
from controller.model.observation import Observation

INBOX_SIZE: Final = 4096
BATCH_SIZE: Final = 100
"""Observations that one transaction may hold."""
_CLOSED: Final = (anyio.ClosedResourceError, anyio.BrokenResourceError)
_ENDING: Final = Answer(accepted=False, message="the controller is stopping")


class Slot:
    """Where the answer to one request will be."""

    def __init__(self) -> None:
        self._filled = anyio.Event()
        self._answer = _ENDING

    def fill(self, answer: Answer) -> None:
        """Give the answer. The first one counts."""
        if not self._filled.is_set():
            self._answer = answer
            self._filled.set()

    async def wait(self) -> Answer:
        """The answer, once it is there."""
        await self._filled.wait()
        return self._answer


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """One observation and whom it concerns. Without a session, `react` finds out."""

    observation: Observation
    session_id: SessionId | None = None
    slot: Slot | None = None
    adopted_by: str = ""
    """Who asked to take over this container; empty when nobody did."""
    remove_orphan: bool = False
    """Somebody asked for it, whatever the orphan policy says."""


@dataclass(frozen=True, kw_only=True)
class Note:
    """Something to commit that concerns no session. An empty one only makes `react` look around."""

    engine_id: EngineId | None = None
    prune_before: Instant | None = None
    last: bool = False
    """Whatever is known of the stream and the log is to be committed now: no other commit may follow."""
    slot: Slot | None = None


Item = Envelope | Note


class Inbox:
    """First in, first out, and never longer than its size."""

    def __init__(self, size: int = INBOX_SIZE) -> None:
        self._send, self._receive = anyio.create_memory_object_stream[Item](size)
        self._open_slots: dict[int, Slot] = {}
        self._ended = False

    @property
    def is_empty(self) -> bool:
        """Whether all that was put in has been taken."""
        return self._receive.statistics().current_buffer_used == 0

    def offer(self, item: Item) -> bool:
        """Put it in if there is room just now; never waits."""
        try:
            self._send.send_nowait(item)
        except (anyio.WouldBlock, *_CLOSED):
            return False
        return True

    async def put(self, item: Item) -> None:
        """Put it in, waiting for room."""
        await self._send.send(item)

    async def ask(self, item: Envelope | Note, slot: Slot) -> Answer:
        """Put in an item that holds this slot, and wait for the answer."""
        if self._ended:
            return _ENDING
        self._open_slots[id(slot)] = slot
        try:
            await self.put(item)
            return await slot.wait()
        except _CLOSED:
            return _ENDING
        finally:
            self._open_slots.pop(id(slot), None)

    async def take(self) -> list[Item]:
        """Wait for one item; return it with those behind it, at most a batch of them."""
        items = [await self._receive.receive()]
        while len(items) < BATCH_SIZE:
            try:
                items.append(self._receive.receive_nowait())
            except anyio.WouldBlock:
                break
        return items

    def end(self) -> None:
        """Refuse all that is still waiting, and everything to come."""
        self._ended = True
        for slot in list(self._open_slots.values()):
            slot.fill(_ENDING)
        self._send.close()
        self._receive.close()
