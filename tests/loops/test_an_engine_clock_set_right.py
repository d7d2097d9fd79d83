"""An engine's clock that was ahead leaves its mark on events; once it is right again, nothing goes by that mark."""

from pathlib import Path

import pytest

from controller.model.ids import ContainerId
from controller.model.phase import Phase
from controller.model.reason import Reason, Source
from tests.support.fake_engine import FakeEngine
from tests.support.manual_clock import ManualClock
from tests.support.stage import Stage, on_stage

WATCHED = {"agentd.watch": "true"}


async def _paused(stage: Stage, engine: FakeEngine, container: ContainerId) -> None:
    """It runs, and its pause is the event that came last."""
    await stage.row(lambda row: row.draft.to_phase is Phase.RUNNING)
    engine.pause(container)
    await stage.row(lambda row: row.draft.to_phase is Phase.PAUSED)


@pytest.mark.parametrize("ahead_s", [3_600.0, 315_360_000.0], ids=["an hour", "ten years"])
async def test_an_engine_whose_clock_was_ahead_is_heard_again_once_it_is_set_right(
    tmp_path: Path, *, ahead_s: float
) -> None:
    engine = FakeEngine(ManualClock())
    container = engine.add("web", labels=WATCHED)
    engine.set_clock(ahead_s=ahead_s)
    async with on_stage(tmp_path, engine) as stage:
        await _paused(stage, engine, container)
    engine.set_clock(ahead_s=0)
    async with on_stage(tmp_path, engine) as stage:
        # Long enough for the ledger to forget what it may.
        await stage.clock.advance(700)
        await stage.settle()
    async with on_stage(tmp_path, engine) as stage:
        engine.unpause(container)
        row = await stage.row(lambda row: row.draft.reason is Reason.UNPAUSED)
        assert row.draft.source is Source.EVENT
        await stage.until(lambda: stage.condition.readiness().open_gaps == 0, step_s=0.25)
        await stage.clock.advance(6)
        await stage.settle()
        gaps = await stage.gaps()
        assert {gap.cause for gap in gaps} == {"controller down"}
        cursor = (await stage.ledger.meta()).cursor
        assert cursor is not None
        assert cursor <= stage.clock.now()
    async with on_stage(tmp_path, engine) as stage:
        engine.exit(container, 3)
        row = await stage.row(lambda row: row.draft.to_phase is Phase.FAILED)
        assert row.draft.source is Source.EVENT
        assert await stage.gaps() == gaps, "from the first event on, every life proves again that it missed nothing"


async def test_an_event_that_a_clock_stamped_ahead_is_told_once_though_it_is_repeated_after_a_long_silence(
    tmp_path: Path,
) -> None:
    engine = FakeEngine(ManualClock())
    container = engine.add("web", labels=WATCHED)
    engine.set_clock(ahead_s=900)
    async with on_stage(tmp_path, engine) as stage:
        await _paused(stage, engine, container)
        engine.unpause(container)
        await stage.row(lambda row: row.draft.reason is Reason.UNPAUSED)
    engine.set_clock(ahead_s=0)
    async with on_stage(tmp_path, engine) as stage:
        await stage.clock.advance(700)
        await stage.settle()
        gaps = await stage.gaps()
    async with on_stage(tmp_path, engine) as stage:
        await stage.settle()
        reasons = [row.draft.reason for row in await stage.rows() if row.draft.from_phase is not row.draft.to_phase]
        assert (reasons.count(Reason.PAUSED), reasons.count(Reason.UNPAUSED)) == (1, 1)
        assert await stage.gaps() == gaps, "the engine repeated the last event"


async def test_a_clock_that_is_set_right_under_an_open_stream_leaves_the_next_replay_its_proof(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    container = engine.add("web", labels=WATCHED)
    engine.set_clock(ahead_s=3_600)
    async with on_stage(tmp_path, engine) as stage:
        await _paused(stage, engine, container)
        engine.set_clock(ahead_s=0)
        engine.unpause(container)
        await stage.row(lambda row: row.draft.reason is Reason.UNPAUSED)
        engine.cut()
        await stage.until(lambda: engine.open_streams_count == 0)
        engine.exit(container, 3)
        row = await stage.row(lambda row: row.draft.to_phase is Phase.FAILED, step_s=0.1)
        assert row.draft.source is Source.REPLAY
        [gap] = await stage.gaps()
        assert gap.found.startswith("nothing")
