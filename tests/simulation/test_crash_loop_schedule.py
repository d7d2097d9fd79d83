"""A session that crashes at once, twenty times: its schedule is exact, however often the controller is killed.

The whole program in simulated time: an hour and a half of back-offs takes a second or two.
"""

import gc
import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from controller.core.restart_policy import BACKOFF_FIRST_S, BACKOFF_MAX_S, JITTER, backoff_s
from controller.core.rules import Rules
from controller.core.transitions import decide
from controller.model.ids import ControllerId, SessionId
from controller.model.instant import Instant, seconds_between
from controller.model.phase import Phase
from controller.model.session import Session
from controller.model.spec import RestartMode, RestartPolicy
from controller.store import codec
from tests.simulation.complete import knobs_of
from tests.simulation.containers import Program
from tests.simulation.playing import the_dead_are_silent, told
from tests.simulation.scenarios import Scenario, create, spec
from tests.simulation.world import World

CRASHES = 20
POLICY = RestartPolicy(mode=RestartMode.ON_FAILURE, max_attempts=CRASHES - 1, window_s=86_400.0)
QUIET_AT_S = 6_500.0
RULES = Rules(controller_id=ControllerId("any"), prefix="agentd", engine="docker", stop_grace_s=2.0)
DOWN_S = 8.0
"""How late a start can be at most that became due while the controller was dead."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """What one world made of it."""

    session: Session
    delays_s: list[float]
    """Granted, each counted from the end that it follows."""
    late_s: list[float]
    """How long after its due time each attempt was asked for."""
    crash_looping_count: int
    starts_count: int
    """By the engine's own count."""
    lives: int


def crashes(world: World) -> None:
    create(world, 1.0, "loop", spec(Program(runs_s=0.2, code=3), POLICY))


def kill(world: World) -> None:
    world.kill_controller()


def lived(folder: Path, *, kills: int, seed: str, crash_steps: tuple[int, int] | None) -> Schedule:
    """One world from its beginning to its end, with that many kills at random moments, or each after random steps."""
    scenario = Scenario(name="crash loop", story=crashes, quiet_at_s=QUIET_AT_S)
    knobs = replace(knobs_of(scenario, str(folder / "controller.db")), crash_steps=crash_steps)
    world = World(seed, folder, knobs=knobs, script=crashes)
    dice = world.dice("kills")
    for _ in range(kills):
        world.timeline.at(dice.uniform(1.0, QUIET_AT_S - 500.0), lambda: kill(world))
    with the_dead_are_silent():
        world.run()
        gc.collect()
    assert not world.violations, told(world)
    (container,) = world.daemon.containers.values()
    return _read(world, container.starts)


def _read(world: World, starts_count: int) -> Schedule:
    with closing(sqlite3.connect(f"file:{world.path}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT observation FROM journal WHERE observation IS NOT NULL ORDER BY seq")
        seen = [codec.OBSERVATION.from_text(text) for (text,) in rows]
        rows = connection.execute("SELECT body FROM journal WHERE kind = 'transition'")
        reasons = [json.loads(body)["reason"] for (body,) in rows]
    session: Session | None = None
    due: Instant | None = None
    delays_s, late_s = [], []
    for observation in seen:
        before, session = session, decide(session, observation, now=observation.observed_at, rules=RULES).session
        assert session is not None
        if session.next_attempt_at is not None and session.next_attempt_at != due:
            due = session.next_attempt_at
            delays_s.append(seconds_between(observation.observed_at, due))
        if session.phase is Phase.STARTING and before is not None and before.phase is Phase.BACKOFF:
            assert due is not None
            late_s.append(seconds_between(due, observation.observed_at))
    assert session is not None
    return Schedule(
        session=session,
        delays_s=delays_s,
        late_s=late_s,
        crash_looping_count=reasons.count("crash_looping"),
        starts_count=starts_count,
        lives=world.lives,
    )


def exact(session_id: SessionId) -> list[float]:
    """The schedule by the book: 10 s, doubled up to 300 s, and the part of a quarter that the hash gives."""
    return [backoff_s(session_id, step) for step in range(CRASHES - 1)]


@pytest.mark.parametrize(
    ("kills", "crash_steps"),
    [(0, None), (60, None), (0, (100, 1500))],
    ids=["never killed", "killed at random moments", "killed at random steps"],
)
def test_the_schedule_is_exact_and_the_budget_is_spent_once(
    tmp_path: Path, kills: int, crash_steps: tuple[int, int] | None
) -> None:
    schedule = lived(tmp_path / "world", kills=kills, seed="crash loop", crash_steps=crash_steps)

    assert schedule.lives == 1 if kills == 0 and crash_steps is None else schedule.lives > 10
    assert schedule.delays_s == pytest.approx(exact(schedule.session.id), abs=1e-6)
    for step, delay_s in enumerate(schedule.delays_s):
        base_s = min(BACKOFF_FIRST_S * 2**step, BACKOFF_MAX_S)
        assert base_s <= delay_s <= base_s * (1 + JITTER)
    assert all(0 <= late <= (0.1 if schedule.lives == 1 else DOWN_S) for late in schedule.late_s), schedule.late_s
    assert len(schedule.late_s) == CRASHES - 1
    assert schedule.starts_count == schedule.session.attempt_count == CRASHES
    assert schedule.crash_looping_count == 1
    assert (schedule.session.phase, schedule.session.crash_looping) == (Phase.FAILED, True)
