"""S10: what must stay below its cap: queues, caches and tasks of the running program, and the age of the journal.

The caps are the program's own constants, which `knobs.py` draws small as often as not. A cap that is not the program's
is named here.
"""

from typing import TYPE_CHECKING, Final

from controller.loops import act, look, prune, publish, routing, sweep
from controller.loops.prune import DAY_S
from controller.model.instant import after
from controller.model.session import Session

if TYPE_CHECKING:
    from tests.simulation.world import World

TASKS_MAX: Final = 40
"""Loops, edges and what belongs to them. Beside these: each look, each session acted on, each request of somebody."""
TASKS_EACH: Final = 2
LEDGER_CONNECTIONS_MAX: Final = 2
"""A running program writes on one and reads on another."""
STREAMS_MAX: Final = 3
"""A window, the next one while they overlap, and one whose end is on its way."""
REQUESTS_EACH: Final = 2
PRUNE_SLACK_S: Final = 60.0


def judge(world: "World") -> None:
    """The queues and caches, whenever the oracle looks."""
    program = world.program
    if program is None or not world.alive or world.loop is None:
        return
    routes = program.react._routing
    held = [
        ("the inbox", program.inbox._receive.statistics().current_buffer_used, world.knobs.inbox_size),
        ("looks under way", len(program.look._in_flight), look.PARALLEL_MAX),
        ("one container's looks", max(map(len, program.look._wishes.values()), default=0), look.WISHES_MAX),
        ("sessions acted on", len(program.act._busy), act.PARALLEL_MAX),
        ("rows to print", len(program.publish._held), publish.HELD_MAX),
        ("sweeps ordered", len(program.sweep._orders), sweep.ORDERS_MAX),
        ("containers with held events", len(routes._held), routing.HELD_CONTAINERS_MAX),
        ("held events", max(map(len, routes._held.values()), default=0), routing.HELD_EVENTS_MAX),
        ("rivals", len(routes._rivals), routing.HELD_CONTAINERS_MAX),
        ("connections to the ledger", world.disk.open_count(), LEDGER_CONNECTIONS_MAX),
        ("event streams", len(world.daemon.events.readers), STREAMS_MAX * (1 + len(world.beside))),
        ("requests under way", len(world.daemon.on_down), look.PARALLEL_MAX + REQUESTS_EACH * _subjects(world)),
        ("tasks", world.loop.tasks_count(), TASKS_MAX + TASKS_EACH * _under_way(world)),
    ]
    for what, count, most in held:
        if count > most:
            world.violated("S10", f"{what}: {count}, and {most} is the most")


def _under_way(world: "World") -> int:
    """Looks, sessions acted on, and what people wait for in this life."""
    asked = sum(wish.answer is None and wish.at >= world.life_began for wish in world.wishes)
    assert world.program is not None
    return len(world.program.look._in_flight) + len(world.program.act._busy) + asked


def _subjects(world: "World") -> int:
    return len(world.daemon.containers) + len(world.wishes) + world.knobs.sessions_count


def judge_journal(world: "World") -> None:
    """No row is older than the retention and one prune interval.

    But for those that the retention names: the last attempt of a live session and those that it still carries, rows
    within its restart window, snapshots, and a removed session whose last row is young. Not asked where the wall clock
    was set, nor of a life that is younger than an interval: a start has more urgent things to write.
    """
    retain_s = world.knobs.settings.retain_days * DAY_S
    waited_s = world.timeline.now - world.life_began
    if world.struck["wall jumps"] or not world.alive or waited_s < prune.EVERY_S + PRUNE_SLACK_S:
        return
    world.oracle.asked["worlds in which old rows had to go"] += 1
    limit = after(world.clock.now(), -(retain_s + prune.EVERY_S + PRUNE_SLACK_S))
    sessions = {session.id: session for session in world.oracle.sessions()}
    for session_id, attempt, newest in world.oracle.query(
        "SELECT session_id, attempt, max(committed_at) FROM journal WHERE snapshot IS NULL GROUP BY 1, 2"
    ):
        session = sessions.get(session_id)
        if newest >= limit or _is_kept(world, session, attempt):
            continue
        within = session is not None and newest >= after(limit, -session.policy.window_s)
        if not within:
            named = session.name if session is not None else session_id
            world.violated("S10", f"attempt {attempt} of {named} is older than what is to be kept")


def _is_kept(world: "World", session: Session | None, attempt: int) -> bool:
    if session is None:
        return False
    if session.removed_at is not None:
        ((newest,),) = world.oracle.query("SELECT max(committed_at) FROM journal WHERE session_id = ?", session.id)
        retain_s = world.knobs.settings.retain_days * DAY_S
        young = after(world.clock.now(), -(retain_s + prune.EVERY_S + PRUNE_SLACK_S))
        return bool(session.open_actions) or max(session.removed_at, newest) >= young
    return attempt >= session.attempt_count or any(one.number == attempt for one in session.earlier)
