"""No two sessions that are present have one name, whatever labels ask for and whoever comes back."""

from pathlib import Path

from controller.model.phase import Phase
from tests.support.fake_engine import FakeEngine
from tests.support.manual_clock import ManualClock
from tests.support.stage import Stage, on_stage

WATCHED = {"agentd.watch": "true"}


async def _running(stage: Stage, container: str) -> str:
    """The name of the session that runs in that container."""
    row = await stage.row(lambda row: row.draft.container_id == container and row.draft.to_phase is Phase.RUNNING)
    assert row.draft.session is not None
    return row.draft.session


async def _gone(stage: Stage, container: str) -> None:
    await stage.row(lambda row: row.draft.container_id == container and row.draft.to_phase is Phase.STOPPED)
    await stage.settle()


async def test_a_container_that_comes_back_when_its_name_is_taken_gets_another(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    first = engine.add("web", labels=WATCHED)
    async with on_stage(tmp_path, engine) as stage:
        assert await _running(stage, first) == "web"
        engine.exit(first, 0)
        engine.destroy(first)
        await _gone(stage, first)
        usurper = engine.add("other", labels=WATCHED | {"agentd.session": "web"})
        engine.run(usurper)
        assert await _running(stage, usurper) == "web"

        second = engine.add("web", labels=WATCHED)
        engine.run(second)
        name = await _running(stage, second)
        assert name.startswith("web-")
        engine.exit(second, 0)
        engine.destroy(second)
        await _gone(stage, second)
        third = engine.add("web", labels=WATCHED)
        engine.run(third)
        assert await _running(stage, third) == name

        engine.exit(third, 0)
        engine.exit(usurper, 0)
        engine.destroy(third)
        engine.destroy(usurper)
        await _gone(stage, third)
        await _gone(stage, usurper)
        fourth = engine.add("web", labels=WATCHED)
        engine.run(fourth)
        assert await _running(stage, fourth) == "web"
        assert stage.exit_code is None
