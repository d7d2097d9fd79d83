"""How much of what really happened is on record: the engine's history against the ledger's attempts and gaps.

Counted for containers from the moment they are on record, in worlds where that can be asked: no clock of ours was set,
nothing was pruned, and the engine dropped no event without a sign (against that only the engine could help). One that
was on its way for long, and whose stream ended before it came, is such a one: what others showed meanwhile was the
last sign of that stream.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from controller.model.instant import NANOS_PER_S
from tests.simulation.nemesis import clocks_were_set
from tests.simulation.timeline import EPOCH

if TYPE_CHECKING:
    from tests.simulation.world import World

PROVISIONAL_SLACK_S: Final = 5.0
GAP_SLACK_S: Final = 1.0


@dataclass(kw_only=True)
class Recall:
    """Starts and ends of runs."""

    told: int = 0
    """Each has its attempt in the ledger."""
    covered: int = 0
    """Not told, but a gap row says that events may be missing there, or a row says that it was not seen."""
    lost: int = 0
    invented: int = 0
    """Attempts of runs that never were."""


def can_be_asked(world: "World") -> bool:
    """Whether the count means anything in this world."""
    return not clocks_were_set(world) and world.knobs.settings.retain_days > 1 and not world.menu.drop


def recall(world: "World") -> Recall:
    """Count."""
    found = Recall()
    since = {
        container: (at - EPOCH) / NANOS_PER_S
        for container, at, _ in world.oracle.query(
            # Its first row, not the oldest observation: what was held until somebody looked is told after that.
            "SELECT container_id, observed_at, min(seq) FROM journal WHERE container_id IS NOT NULL"
            " GROUP BY container_id"
        )
    }
    left = _replaced_at(world)
    attempts: dict[str, list[tuple[int, bool]]] = {}
    for container, started_at, ended_at in world.oracle.query(
        "SELECT container_id, started_at, ended_at FROM attempts WHERE started_at IS NOT NULL"
    ):
        attempts.setdefault(container, []).append((started_at, ended_at is not None))
    gaps, dark = _gaps(world), _dark(world)
    unseen_until = {
        container: (at - EPOCH) / NANOS_PER_S
        for container, at in world.oracle.query(
            "SELECT coalesce(json_extract(observation, '$.event.container'), container_id) AS container,"
            " max(observed_at) FROM journal WHERE body LIKE '%in between were not seen%'"
            " OR json_extract(body, '$.reason') IN ('lost', 'unexpected')"
            " GROUP BY container"
        )
    }
    began: dict[str, int] = {}
    real: dict[str, list[int]] = {}
    for truth in world.daemon.history:
        if truth.what == "started":
            began[truth.container] = truth.engine_at
            real.setdefault(truth.container, []).append(truth.engine_at)
        if truth.what not in ("started", "ended") or truth.at < since.get(truth.container, float("inf")):
            continue
        if truth.at > left.get(truth.container, float("inf")):
            continue
        run = began.get(truth.container, 0)
        told = [ended for at, ended in attempts.get(truth.container, []) if _same(at, run)]
        if told and (truth.what == "started" or any(told)):
            found.told += 1
        elif (
            truth.at <= unseen_until.get(truth.container, 0.0)
            or _in_a_gap(truth.at, [*gaps, *dark])
            or any(one == truth.container and _same(at, truth.engine_at) for one, at in world.menu.lost_on_the_way)
        ):
            found.covered += 1
        else:
            found.lost += 1
            world.tell(f"not on record: {truth}")
    for container, known in attempts.items():
        found.invented += sum(1 for at, _ in known if not any(_same(at, run) for run in real.get(container, [])))
    return found


def _replaced_at(world: "World") -> dict[str, float]:
    """When a container's session went to another one under its compose key: what it does from then on is nobody's."""
    rows = world.oracle.query(
        "SELECT session_id, container_id, observed_at, min(seq) AS first FROM journal WHERE container_id IS NOT NULL"
        " GROUP BY session_id, container_id ORDER BY session_id, first"
    )
    pairs = pairwise(rows)
    return {old: (at - EPOCH) / NANOS_PER_S for (one, old, *_), (next_one, _, at, _) in pairs if one == next_one}


def _in_a_gap(at: float, gaps: list[tuple[float, float]]) -> bool:
    return any(opened - GAP_SLACK_S <= at <= closed + GAP_SLACK_S for opened, closed in gaps)


def _same(told_at: int, run: int) -> bool:
    return 0 <= told_at - run <= PROVISIONAL_SLACK_S * NANOS_PER_S


def _gaps(world: "World") -> list[tuple[float, float]]:
    return [
        ((opened - EPOCH) / NANOS_PER_S, (closed - EPOCH) / NANOS_PER_S if closed is not None else world.timeline.now)
        for opened, closed in world.oracle.query("SELECT opened_at, closed_at FROM gaps")
    ]


def _dark(world: "World") -> list[tuple[float, float]]:
    """Where a stream was half open, and its life ended before the end of the window could have shown that."""
    return [
        (since, world.deaths[life])
        for life, since, found_out_at in world.half_open
        if world.deaths.get(life, found_out_at) < found_out_at
    ]
