"""What a world says about containers of sessions at rest: how long they are kept is drawn, and each removal is judged.

A legal one takes a container that we made, whose program is over and has been for its time, after its evidence was
kept (S6, S7, S17); it is told as ours and ends no session (S7). One that should be gone by now is not there (L1).
"""

import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from controller.core.keeping import KEPT_LONG_ENOUGH
from controller.model.instant import NANOS_PER_S
from controller.model.journal import RowKind
from controller.model.phase import Desired, Phase
from controller.model.reason import Reason
from controller.model.session import Origin, Session
from controller.settings import Settings
from tests.simulation.containers import Container
from tests.simulation.exchange import Request
from tests.simulation.nemesis import clocks_were_set

if TYPE_CHECKING:
    from tests.simulation.oracle import Oracle
    from tests.simulation.world import World

KEPT_S: Final = (0.0, 30.0, 120.0, 86_400.0, 86_400.0, None)
MODES: Final = (*["manage"] * 14, "restart", "observe")
EARLY_SLACK_S: Final = 1.0
LATE_SLACK_S: Final = 60.0
_OVER: Final = (Phase.STOPPED, Phase.FAILED)


def kept(settings: Settings, rng: random.Random) -> Settings:
    """The settings, with both times drawn by dice of their own, and now and then a mode that forbids changes."""
    failed_s, stopped_s = rng.choice(KEPT_S), rng.choice(KEPT_S)
    return replace(settings, keep_failed_s=failed_s, keep_stopped_s=stopped_s, mode=rng.choice(MODES))


def judge(world: "World", oracle: "Oracle", request: Request, container: Container) -> None:
    """One removal of a container that was kept for long enough, in the moment before it leaves."""
    if request.kind != "remove" or request.reason != KEPT_LONG_ENOUGH:
        return
    session = _session(oracle, request.action.partition("/")[0])
    if session is None or container.alive:
        return  # The engine refuses to remove what runs.
    if session.origin is not Origin.REQUESTED or container.id in world.bystanders:
        world.violated("S7", f"{container.name} was not made by us, and is removed: {request.reason}")
    if session.next_attempt_at is not None:
        world.violated("S7", f"{container.name} is removed, and a next attempt is due")
    evidence = oracle.query("SELECT body FROM evidence WHERE session_id = ?", session.id)
    if session.attempt is not None and container.id not in [json.loads(body)["container_id"] for (body,) in evidence]:
        world.violated("S17", f"{container.name} is removed, and nothing of that container is kept")
    _not_early(world, session, container)


def _not_early(world: "World", session: Session, container: Container) -> None:
    keep_s = _keep_s(world, session)
    if keep_s is None:
        world.violated("S6", f"{container.name} is to be kept for ever, and is removed")
    elif not clocks_were_set(world) and session.phase in _OVER:
        began = world.oracle.created_at(container.id) if container.process is None else container.process.ended
        if world.timeline.now - began < keep_s - EARLY_SLACK_S:
            world.violated("S6", f"{container.name} is removed {world.timeline.now - began:.1f} s after its end")


def converged(world: "World", session: Session, container: Container) -> None:
    """L1: the container of a session that has been at rest for longer than its time is gone."""
    keep_s = _keep_s(world, session)
    undecided = (session.next_attempt_at, session.provisional, session.removed_at)
    at_rest = session.phase in _OVER and session.desired is Desired.STOPPED and not any(undecided)
    if (
        not world.knobs.settings.may_manage
        or keep_s is None
        or not at_rest
        or session.origin is not Origin.REQUESTED
        or container.alive
    ):
        return
    over_s = (world.clock.now() - session.since) / NANOS_PER_S
    limit_s = keep_s + world.knobs.settings.sweep_interval_s + LATE_SLACK_S
    asked_in_vain = session.removal_again_at is not None and session.removal_again_at > world.clock.now()
    if over_s > limit_s and not asked_in_vain:
        world.violated("L1", f"{container.name} is kept for {keep_s:g} s, and is there {over_s:.0f} s after its end")


def at_the_end(world: "World") -> None:
    """S7: what was removed because its time was over was told so, and ended no session that nobody wanted removed."""
    removed = {one.container for one in world.daemon.history if one.what == "removed" and one.by == "client"}
    ours = {one.container: one for one in world.wire.requests if one.reason == KEPT_LONG_ENOUGH}
    others = {one.container for one in world.wire.requests if one.kind == "remove" and one.reason != KEPT_LONG_ENOUGH}
    for container, request in ours.items():
        if container not in removed or container in others:
            continue
        rows = world.oracle.query(
            "SELECT kind, json_extract(body, '$.reason') FROM journal WHERE session_id = ? ORDER BY seq",
            request.action.partition("/")[0],
        )
        # One that comes late, and after the clock was set ahead, comes later than anybody waits for it.
        if world.struck["wall jumps"] or not rows or RowKind.SNAPSHOT.value in {kind for kind, _ in rows}:
            continue  # Pruned: for want of retention, or by a clock that was set far ahead. It may have been told.
        told = {reason for _, reason in rows}
        if not told & {Reason.CONTAINER_PRUNED.value, Reason.REMOVED_BY_REQUEST.value}:
            world.violated("S7", f"the container {container[:12]} was removed by us, and that is nowhere told")


def _session(oracle: "Oracle", session_id: str) -> Session | None:
    return next((session for session in oracle.sessions() if session.id == session_id), None)


def _keep_s(world: "World", session: Session) -> float | None:
    settings = world.knobs.settings
    return settings.keep_failed_s if session.phase is Phase.FAILED else settings.keep_stopped_s
