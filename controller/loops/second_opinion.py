"""Asks the engine itself when a call about one container had no answer: it may be the container, or the engine.

An inspect can hang on its container's lock, and a removal can fail on its files, while the engine answers everything
else. One short list decides. What it holds is not looked at.
"""

from typing import Final, Never

from controller.errors import EngineError, EngineUnavailable
from controller.interfaces import Clock, EngineReader
from controller.loops.condition import ControllerCondition
from controller.loops.waiting import within

LIMIT_S: Final = 10.0
PAUSE_S: Final = 1.0
"""Between two of them, however many containers do not answer."""


class SecondOpinion:
    """Waits for doubts, and settles them."""

    def __init__(self, *, clock: Clock, engine: EngineReader, condition: ControllerCondition) -> None:
        self._clock = clock
        self._engine = engine
        self._condition = condition

    async def run(self) -> Never:
        """Ask whenever there is a doubt."""
        while True:
            await self._condition.doubt.wait(clock=self._clock)
            if self._condition.accepted:
                await self._ask()
                await self._clock.sleep(PAUSE_S)

    async def _ask(self) -> None:
        try:
            await within(self._clock, LIMIT_S, self._engine.list_external)
        except EngineError as error:
            failed = error if isinstance(error, EngineUnavailable) else EngineUnavailable(str(error))
            self._condition.could_not_ask(failed)
        else:
            self._condition.answered()
