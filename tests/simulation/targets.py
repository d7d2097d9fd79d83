"""Judges each request that changes the engine, in the moment before it leaves.

What leaves has been committed (S3), aims at the very run that it was decided on and at nobody else's container (S7),
comes from the holder of the lock (S9), is not early (S6), and takes nothing away that was not written down before
(S17).
"""

import json
from typing import TYPE_CHECKING, Any, Final

from controller.model.ids import ContainerId
from tests.simulation import keeping
from tests.simulation.containers import Container
from tests.simulation.exchange import Request
from tests.simulation.neighbour import is_neighbours
from tests.simulation.nemesis import clocks_were_set

if TYPE_CHECKING:
    from tests.simulation.oracle import Oracle
    from tests.simulation.world import World

MOVED_ON_S: Final = 15.0
"""A target that was started again this long ago must not be stopped for what was decided about its earlier run."""
EARLY_SLACK_S: Final = 1.0
SHORTEST_BACKOFF_S: Final = 10.0
_NEVER: Final = ("foreign", "controller", "plain", "copy")
_ON_OUR_OWN: Final = ("the controller stops", "its time is over", "no record knows it")
"""Reasons for which nothing is ever done to an external container."""


def judge(world: "World", oracle: "Oracle", request: Request) -> None:
    """All that can be said of one request before it leaves."""
    if world.holder is not world.loop:
        world.violated("S9", f"{request.kind} without the lock")
    action = _open_action(world, oracle, request)
    container = world.daemon.containers.get(ContainerId(request.container))
    name = container.name if container is not None else request.container[:20]
    if action is None:
        world.violated("S3", f"{request.kind} {name} without an open action in the ledger")
        return
    request.action, request.reason = action["id"], action["reason"]
    _allowed(world, request, name)
    world.tell(f"request: {request.kind} {name} [{request.reason}] {request.fault.value}")
    _owner(world, request, container)
    if container is None:
        return
    _same_run(world, request, action, container)
    _not_early(world, oracle, request, container)
    if request.kind == "remove":
        _evidence_first(world, oracle, request, container)
        keeping.judge(world, oracle, request, container)


def _allowed(world: "World", request: Request, name: str) -> None:
    """The mode: `observe` changes nothing, `restart` neither creates nor removes."""
    settings = world.knobs.settings
    manages = request.kind in ("create", "remove")
    if not (settings.may_manage if manages else settings.may_restart):
        world.violated("S7", f"{request.kind} {name} in mode {settings.mode}")


def _open_action(world: "World", oracle: "Oracle", request: Request) -> dict[str, Any] | None:
    rows = oracle.query(
        "SELECT a.body, s.name FROM actions a JOIN sessions s ON s.id = a.session_id"
        " WHERE a.state = 'open' AND a.kind = ?",
        request.kind,
    )
    for body, name in rows:
        action: dict[str, Any] = json.loads(body)
        target = f"{world.knobs.settings.prefix}-{name}" if request.kind == "create" else action["container"]
        if target == request.container:
            return action
    return None


def _owner(world: "World", request: Request, container: Container | None) -> None:
    kind = world.bystanders.get(request.container)
    if kind is None and container is not None and not container.labels:
        kind = "plain"
    if kind is None and container is not None and is_neighbours(container.labels):
        kind = "foreign"
    if kind in _NEVER:
        world.violated("S7", f"{request.kind} of a container that is {kind}")
    if kind != "external":
        return
    if request.kind in ("create", "remove"):
        world.violated("S7", f"{request.kind} of an external container")
    if request.reason in _ON_OUR_OWN:
        world.violated("S7", f"{request.kind} of an external container, because {request.reason}")
    if container is not None and container.labels.get("agentd.watch") == "other":
        world.violated("S7", f"{request.kind} of a container that another controller may act on")


def _same_run(world: "World", request: Request, action: dict[str, Any], container: Container) -> None:
    if request.kind not in ("stop", "remove") or container.process is None:
        return
    decided_on, runs = action["started_at"], container.started_at
    same = decided_on is not None and runs is not None and abs(decided_on - runs) < 5_000_000_000
    started_s_ago = world.timeline.now - container.process.started
    if not same and container.alive and started_s_ago > MOVED_ON_S:
        world.violated("S7", f"{request.kind} of {container.name} was decided on another run of it")


def _not_early(world: "World", oracle: "Oracle", request: Request, container: Container) -> None:
    """Only where no clock was set: a set clock may make it early across lives, and the engine's its objects' ages."""
    if clocks_were_set(world):
        return
    if request.reason == "no record knows it" and world.bystanders.get(container.id) == "orphan":
        age_s = world.timeline.now - world.oracle.created_at(container.id)
        asked_for = any(wish.what == "sweep orphans" for wish in world.wishes)
        if age_s < world.knobs.settings.orphan_grace_s - EARLY_SLACK_S and not asked_for:
            world.violated("S6", f"{container.name} is {age_s:.1f} s old, and removed as an orphan")
    if "after its back-off" in request.reason and container.process is not None and world.script is not None:
        waited_s = world.timeline.now - container.process.ended
        if waited_s < SHORTEST_BACKOFF_S - EARLY_SLACK_S:
            world.violated("S6", f"{container.name} is started again {waited_s:.1f} s after its end")
    if request.reason == "its time is over":
        ttl_s, since = oracle.time_to_live(request.action.partition("/")[0])
        if ttl_s is not None and world.timeline.now - since < ttl_s - EARLY_SLACK_S:
            world.violated(
                "S6", f"{container.name} had {ttl_s:g} s, and is stopped after {world.timeline.now - since:.1f}"
            )


def _evidence_first(world: "World", oracle: "Oracle", request: Request, container: Container) -> None:
    session_id = request.action.partition("/")[0]
    if not oracle.query("SELECT 1 FROM evidence WHERE session_id = ?", session_id):
        world.violated("S17", f"{container.name} is removed, and nothing of it is kept")
