"""S5: in no window are a session's automatic restarts more than its policy grants, in however many lives.

Counted from the engine's truth: each action that made the engine start a container after a back-off is one restart,
however often it was sent. What somebody asked for does not count, and clears the budget. Not bound by it, and named
here: a policy with a slow retry; and an attempt after a start to which the engine gave no certain answer, which nobody
could count. Not asked where a wall clock was set: across lives the window is measured on it.
"""

from typing import TYPE_CHECKING, Final

from controller.model.instant import NANOS_PER_S
from controller.model.observation import Verb
from controller.store import codec
from tests.simulation.exchange import Request
from tests.simulation.timeline import EPOCH
from tests.simulation.wishes import Wish

if TYPE_CHECKING:
    from tests.simulation.oracle import Oracle
    from tests.simulation.world import World

LATE_S: Final = 60.0
"""A restart may have come this long after it was granted: it waited for an engine or for the next life."""
CROSSING_S: Final = 5.0
_AUTOMATIC: Final = "after its back-off"
_CLEARING: Final = (Verb.START, Verb.RESTART)


def note(world: "World", oracle: "Oracle", request: Request) -> None:
    """A request has taken effect at the engine."""
    if request.kind != "start" or _AUTOMATIC not in request.reason or not request.action:
        return
    began = [one for one in world.daemon.history[-8:] if one.what == "started" and one.container == request.container]
    if not began or began[-1].by != "client" or began[-1].at != world.timeline.now:
        return
    session_id = request.action.partition("/")[0]
    rows = oracle.query("SELECT body FROM sessions WHERE id = ?", session_id)
    if not rows:
        return
    session = codec.SESSION.from_text(rows[0][0])
    policy = session.policy
    mine = oracle.automatic.setdefault(session_id, {})
    mine.setdefault(request.action, _decided_s(world, session_id, request.reason))
    if policy.max_attempts is None or policy.slow_retry_s is not None or world.struck["wall jumps"]:
        return
    oracle.asked["restarts held against a budget"] += 1
    cleared = max(
        (_taken_at(wish) for wish in world.wishes if wish.session_id == session_id and wish.verb in _CLEARING),
        default=0.0,
    )
    since = max(cleared, world.timeline.now - policy.window_s + LATE_S)
    counted = [at for at in mine.values() if at >= since]
    uncounted = _without_answer(world, session_id)
    if len(counted) - uncounted > policy.max_attempts:
        world.violated(
            "S5", f"{session.name}: {len(counted)} restarts in a window, and its policy grants {policy.max_attempts}"
        )


def _taken_at(wish: Wish) -> float:
    """When it was decided on, at the latest: a restart of ours may have been decided between the asking and that."""
    return min(wish.answered_at if wish.answered_at is not None else wish.at, wish.at + CROSSING_S)


def _decided_s(world: "World", session_id: str, reason: str) -> float:
    """When that attempt was decided, in true time: no clock of ours was set. Its container may have been made first."""
    ((decided_at,),) = world.oracle.query(
        "SELECT min(decided_at) FROM actions WHERE session_id = ? AND json_extract(body, '$.reason') LIKE ?",
        session_id,
        f"{reason.partition(':')[0]}%",
    )
    if decided_at is None:
        return world.timeline.now  # Pruned meanwhile.
    return float(decided_at - EPOCH) / NANOS_PER_S


def _without_answer(world: "World", session_id: str) -> int:
    """Actions on it that were given up for want of a certain answer."""
    ((count,),) = world.oracle.query(
        "SELECT count(*) FROM journal WHERE session_id = ? AND body LIKE '%no certain answer%'",
        session_id,
    )
    return int(count)
