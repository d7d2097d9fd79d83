"""What the event service keeps and what it drops, as scripts: the ring of 256, and a reader that does not read."""

from dataclasses import replace
from typing import Final

import anyio

from tests.contract.outsiders import Options
from tests.contract.scripts import EXITED, OURS, PLAIN, Script, plan
from tests.contract.stage import Stage
from tests.simulation.containers import Program

BUFFERED_MIN: Final = 1024
"""What an engine keeps for one reader; a socket holds a few more."""
_RENAMED: Final = tuple(f"many-{number}" for number in range(8))
_RENAMES: Final = 140
_PADDING: Final = {"padding": "x" * 4000}
"""Each event carries its container's labels: a socket full of these is a few dozen events, not hundreds."""


async def the_ring_forgets(stage: Stage) -> None:
    await stage.outsider.run("first", Program(), PLAIN)
    await stage.identify("first")
    await stage.outsider.rename_often("first", times=40)
    await stage.hear()
    await stage.outsider.make_noise("first-40", 220)
    await stage.hear()
    # Its life from here on fills the ring, too, with more than a reader of containers is told of.
    await stage.outsider.run("second", Program(runs_s=0.1), Options(labels=OURS))
    await stage.identify("second")
    await stage.until("second", EXITED)
    await anyio.sleep(0.2)  # Its network is left a moment after its end.
    await stage.hear()
    await stage.outsider.make_noise("first-40", 256)
    await stage.hear()


async def a_reader_that_does_not_read_loses_events(stage: Stage) -> None:
    labels = {**OURS, **_PADDING}
    for name in _RENAMED:
        await stage.backend.create(replace(plan(stage, name, Program()), labels=labels))
    with stage.unread() as stream:
        await stage.outsider.rename_often(*_RENAMED, times=_RENAMES)
        told = await stream.read(BUFFERED_MIN // 2)
        await stage.outsider.rename(f"{_RENAMED[0]}-{_RENAMES}", "last")
        told += await stream.read_until("last")
    sent = [f"{name}-{number}" for number in range(1, _RENAMES + 1) for name in _RENAMED]
    each = {name: [word for word in told if word.startswith(f"{name}-")] for name in _RENAMED}
    in_order = all(words == [f"{name}-{number}" for number in range(1, len(words) + 1)] for name, words in each.items())
    stage.recording += [
        f"it was told as many as are kept for it: {len(told) > BUFFERED_MIN}",
        f"from the first on, without a hole: {in_order}",
        f"the newest were lost: {len(told) < len(sent)}",
        f"and what comes after them is told as if nothing had been: {told[-1] == 'last'}",
    ]


STREAMS: Final[tuple[Script, ...]] = (the_ring_forgets, a_reader_that_does_not_read_loses_events)
