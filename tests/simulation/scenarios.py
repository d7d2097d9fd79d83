"""Twenty-one small stories: each thing that the controller does happens at least once. Nothing goes wrong there.

`complete.py` plays each again and again, with one fault at every place where one can be.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from controller.model.container import EngineRestart
from controller.model.ids import ContainerId, SessionId
from controller.model.instant import NANOS_PER_S
from controller.model.observation import Verb
from controller.model.spec import RestartMode, RestartPolicy, SessionSpec
from tests.simulation.containers import Probe, Program
from tests.simulation.exchange import Request
from tests.simulation.neighbour import before_the_lock, beside
from tests.simulation.outage import kill_daemon, start_daemon, stop_daemon
from tests.simulation.wishes import Wish
from tests.simulation.world import World

Story = Callable[[World], None]
DETECTED_WITHIN_S: Final = 2.0
ALWAYS: Final = RestartPolicy(mode=RestartMode.ALWAYS)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A story, and how long its eventful part takes."""

    name: str
    story: Story
    expect: Callable[[World], str] = lambda world: ""
    """What must have come of it when nothing went wrong: a complaint, or nothing."""
    expect_killed: Callable[[World], str] = lambda world: ""
    """What must have come of it also where the controller was killed at any boundary."""
    quiet_at_s: float = 60.0
    keep_s: float | None = 86_400.0
    """How long the container of a session at rest is kept."""
    sweep_s: float = 20.0
    mode: str = "manage"
    small: bool = False
    """Short enough to be stopped and cancelled at every single step."""


def spec(program: Program, policy: RestartPolicy | None = None, *, ttl_s: float | None = None) -> SessionSpec:
    return SessionSpec(
        image="busybox",
        command=program.command(),
        restart=policy or RestartPolicy(),
        ttl_s=ttl_s,
        stop_grace_s=2.0,
    )


def create(world: World, at: float, name: str, wanted: SessionSpec) -> None:
    """Somebody asks for a session."""
    identity = SessionId(f"{world.count('session'):032x}")

    def ask() -> None:
        world.wish((Wish(at=at, what="create", session=name, session_id=identity), wanted))

    world.timeline.at(at, ask)


def ask(world: World, at: float, verb: Verb, name: str, *, force: bool = False) -> None:
    """Somebody asks something of it."""
    what = f"{verb.value} by force" if force else verb.value
    world.timeline.at(at, lambda: world.wish((Wish(at=at, what=what, session=name, verb=verb), None)))


def external(world: World, name: str, program: Program, *, silent: bool = False, **labels: str) -> None:
    """Somebody runs a container that asks to be watched."""
    watched = {"agentd.watch": "true", **{f"agentd.{key}": value for key, value in labels.items()}}
    probe = Probe(interval_s=2.0, silent=silent)
    container = world.daemon.create(name=name, command=program.command(), labels=watched, probe=probe, by="outsider")
    world.bystanders[container] = "external"
    world.daemon.start(world.daemon.containers[container], by="outsider")


def one_that_runs(world: World) -> None:
    create(world, 2.0, "one", spec(Program()))


def one_shot(world: World) -> None:
    create(world, 2.0, "job", spec(Program(runs_s=1.0)))


def crashing(world: World) -> None:
    policy = RestartPolicy(mode=RestartMode.ON_FAILURE, max_attempts=1, window_s=3600.0)
    create(world, 2.0, "crash", spec(Program(runs_s=1.0, code=3), policy))


def stopped_by_request(world: World) -> None:
    create(world, 2.0, "one", spec(Program(ends_after_term_s=None), ALWAYS))
    ask(world, 10.0, Verb.STOP, "one")


def restarted_by_request(world: World) -> None:
    create(world, 2.0, "one", spec(Program()))
    ask(world, 10.0, Verb.RESTART, "one")


def kept_and_removed(world: World) -> None:
    """Its container is removed once its time is over; a start makes a new one, which ends and goes as well."""
    create(world, 2.0, "fails", spec(Program(runs_s=1.0, code=3)))
    ask(world, 15.0, Verb.START, "fails")


def starts_no_more(world: World) -> None:
    """It runs once, and then the engine cannot start it: the run stays what it was, each refusal is an attempt."""
    policy = RestartPolicy(mode=RestartMode.ON_FAILURE, max_attempts=2, window_s=3600.0)
    create(world, 2.0, "one", spec(Program(runs_s=2.0, code=3), policy))

    def spoil() -> None:
        for container in world.daemon.containers.values():
            container.program = Program(start_fails=True)

    world.timeline.at(6.0, spoil)


def removed_by_force(world: World) -> None:
    create(world, 2.0, "one", spec(Program()))
    ask(world, 10.0, Verb.REMOVE, "one", force=True)
    create(world, 20.0, "one", spec(Program(runs_s=300.0)))


def watched(world: World) -> None:
    external(world, "shop-db-1", Program(runs_s=16.0, code=3, sick_at_s=3.0), restart="on-failure")


def stopped_by_somebody(world: World) -> None:
    """And another one ends a moment before, so that there is something to commit when the stop is told."""
    create(world, 2.0, "one", spec(Program(), ALWAYS))
    external(world, "beside", Program(runs_s=9.95), restart="no")

    def stop() -> None:
        container = world.daemon.named("agentd-one")
        if container is not None and container.running and world.daemon.up:
            world.daemon.stop(container, grace_s=1.0, done=lambda _: None, by="outsider")

    world.timeline.at(10.0, stop)


def an_orphan(world: World) -> None:
    """One that is to be removed, and beside it all that must be left alone."""
    labels = {"agentd.prefix": "agentd", "agentd.session": "lost"}
    beside = {
        "orphan": labels,
        "foreign": {**labels, "agentd.controller": "another"},
        "controller": {"agentd.prefix": "agentd", "agentd.role": "controller"},
        "plain": {"app": "database"},
    }
    for kind, carried in beside.items():
        container = world.daemon.create(name=f"agentd-{kind}", labels=carried, by="outsider")
        world.bystanders[container] = kind
        world.daemon.start(world.daemon.containers[container], by="outsider")
    external(world, "shop-db-1", Program())


def orphans_asked_for(world: World) -> None:
    """Somebody starts two of them as they are to be removed, and has them adopted. And one that is watched is none."""
    orphans = {}
    for name, program in (("runs", Program()), ("ends", Program(runs_s=3.0))):
        labels = {"agentd.prefix": "agentd", "agentd.session": name}
        container = world.daemon.create(name=name, command=program.command(), labels=labels, by="outsider")
        world.bystanders[container] = "orphan"
        orphans[name] = container
        world.timeline.at(30.0, partial(_ask_for_adoption, world, container))
    _started_in_the_last_moment(world, set(orphans.values()))
    ask(world, 28.0, Verb.START, "runs")
    hopeless = {"restart": "always", "max-attempts": "9", "restart-window": "60"}
    external(world, "shop-db-1", Program(sick_at_s=3.0), silent=True, prefix="agentd", **hopeless)


def _started_in_the_last_moment(world: World, containers: set[ContainerId]) -> None:
    judge = world.wire.before_request

    def before_request(request: Request) -> None:
        judge(request)
        container = world.daemon.containers.get(ContainerId(request.container))
        if request.kind == "remove" and container is not None and container.id in containers:
            containers.discard(container.id)
            world.daemon.start(container, by="outsider")

    world.wire.before_request = before_request


def only_observed(world: World) -> None:
    """There is much to do, and the mode forbids all of it."""
    an_orphan(world)
    external(world, "fails", Program(runs_s=6.0, code=3), restart="always")
    limited = {"unhealthy-restart-s": "5"}
    external(world, "sickens", Program(sick_at_s=3.0), silent=False, **limited)
    create(world, 10.0, "one", spec(Program()))
    for at, verb in ((12.0, Verb.STOP), (14.0, Verb.RESTART), (16.0, Verb.REMOVE)):
        ask(world, at, verb, "sickens")


def well_for_long(world: World) -> None:
    """Killed from inside three times: its second wait is longer than the first, and after ten minutes it is not."""
    create(world, 2.0, "one", spec(Program(), ALWAYS))

    def fail() -> None:
        container = world.daemon.named("agentd-one")
        if container is not None and container.alive:
            world.daemon.process_ends(container, 3)

    for at in (5.0, 25.0, 680.0):
        world.timeline.at(at, fail)


def waited(world: World) -> str:
    """The waits for the next attempt: they double, and begin anew."""
    rows = world.oracle.query(
        "SELECT json_extract(body, '$.message') FROM journal WHERE kind = 'transition'"
        " AND json_extract(body, '$.to_phase') = 'backoff' ORDER BY seq"
    )
    first, second, third = (int(message.split()[-2]) for (message,) in rows)
    return "" if first < second and third < second else f"it waited {first} s, {second} s and {third} s"


def _ask_for_adoption(world: World, container: ContainerId) -> None:
    world.bystanders[container] = "adopted"
    world.wish((Wish(at=world.timeline.now, what="adopt", session=container), None))


def time_over(world: World) -> None:
    create(world, 2.0, "short", spec(Program(), ALWAYS, ttl_s=8.0))


def daemon_killed(world: World) -> None:
    create(world, 2.0, "one", spec(Program(), ALWAYS))
    external(world, "shop-web-1", Program())
    for container in world.daemon.containers.values():
        container.restart = EngineRestart.ALWAYS
    world.timeline.at(10.0, lambda: kill_daemon(world.daemon))
    world.timeline.at(14.0, lambda: start_daemon(world.daemon))


def daemon_stopped(world: World) -> None:
    """In order: the daemon stops its containers first, and comes back."""
    create(world, 2.0, "one", spec(Program(), ALWAYS))
    world.timeline.at(10.0, lambda: stop_daemon(world.daemon))
    world.timeline.at(14.0, lambda: start_daemon(world.daemon))


def clock_set_back(world: World) -> None:
    """By an hour, between two lives, while a session waits for its next attempt."""
    create(world, 2.0, "crash", spec(Program(runs_s=1.0, code=3), ALWAYS))

    def set_back() -> None:
        world.wall_offset_s -= 3600.0
        world.kill_controller()

    world.timeline.at(6.0, set_back)


def a_label_that_lies(world: World) -> None:
    """An event's attributes are overwritten by labels, and of a container that is gone nothing else tells the code."""
    container = world.daemon.create(
        name="shop-job-1",
        command=Program(runs_s=8.0, code=3).command(),
        labels={"agentd.watch": "true", "exitCode": "0"},
        auto_remove=True,
        by="outsider",
    )
    world.bystanders[container] = "external"
    world.daemon.start(world.daemon.containers[container], by="outsider")


def two_controllers(world: World) -> None:
    """One more on the same engine, with a prefix, a ledger and a session `one` of its own; and one before the lock."""
    world.beside = [lambda world, clock: beside(world, clock, spec(Program(), ALWAYS)), before_the_lock]
    create(world, 2.0, "one", spec(Program(), ALWAYS))
    ask(world, 12.0, Verb.RESTART, "one")


def both_run(world: World) -> str:
    """What is to come of the two."""
    alive = sorted(one.name for one in world.daemon.containers.values() if one.alive)
    if alive != ["agentd-one", "other-one"]:
        return f"there run {', '.join(alive)}"
    return "" if world.count("stayed out") > 1 else "nobody tried the lock"


def stopped_and_started(world: World) -> None:
    create(world, 2.0, "one", spec(Program(), ALWAYS))
    create(world, 2.5, "two", spec(Program(ends_after_term_s=None)))
    world.timeline.at(10.0, lambda: world.tell(f"stop asked: {world.stop_controller()}"))


def _came_to(
    *, starts: int, running: int, reasons: tuple[str, ...] = (), ends_in_time: bool = True
) -> Callable[[World], str]:
    """So many starts of ours, so many of our containers running at the end, and these reasons in the journal."""

    def complaint(world: World) -> str:
        ours = [truth for truth in world.daemon.history if truth.what == "started" and truth.by == "client"]
        alive = [one for one in world.daemon.containers.values() if one.alive]
        missing = [reason for reason in reasons if not world.oracle.reasons[reason]]
        if len(ours) != starts:
            return f"{len(ours)} starts instead of {starts}"
        if len(alive) != running:
            return f"{len(alive)} containers run at the end instead of {running}"
        if missing:
            return f"never told: {', '.join(missing)}"
        return _told_late(world) if ends_in_time else ""

    return complaint


def _stays_down(world: World) -> str:
    """What a person stopped stays down, whoever was there to see it."""
    stopped = any(truth.what == "ended" and truth.by == "outsider" for truth in world.daemon.history)
    alive = [one.name for one in world.daemon.containers.values() if one.alive]
    return f"{', '.join(alive)} runs again, which a person had stopped" if stopped and alive else ""


def _told_late(world: World) -> str:
    """An end that was committed more than two seconds after it came, though a stream was open."""
    for truth in world.daemon.history:
        if truth.what != "ended" or truth.by == "daemon" or truth.container not in _recorded(world):
            continue
        ((committed_at,),) = world.oracle.query(
            "SELECT min(committed_at) FROM journal WHERE container_id = ? AND committed_at >= ?"
            " AND json_extract(body, '$.to_phase') IN ('stopped', 'failed', 'backoff')",
            truth.container,
            truth.engine_at - NANOS_PER_S,
        )
        if committed_at is None or committed_at - truth.engine_at > DETECTED_WITHIN_S * NANOS_PER_S:
            return f"the end at {truth.at:.1f} s was told late, or never"
    return ""


def _recorded(world: World) -> set[str]:
    return {container for (container,) in world.oracle.query("SELECT DISTINCT container_id FROM attempts")}


SCENARIOS: Final = (
    Scenario(
        name="one that runs",
        story=one_that_runs,
        expect=_came_to(starts=1, running=1, reasons=("created", "started")),
        quiet_at_s=10.0,
        small=True,
    ),
    Scenario(
        name="one shot",
        story=one_shot,
        expect=_came_to(starts=1, running=0, reasons=("exited",)),
        quiet_at_s=10.0,
        small=True,
    ),
    Scenario(
        name="crashing",
        story=crashing,
        expect=_came_to(starts=2, running=0, reasons=("error_exit", "backoff", "crash_looping")),
    ),
    Scenario(
        name="stopped by request",
        story=stopped_by_request,
        expect=_came_to(starts=1, running=0, reasons=("stopped_by_request",)),
        quiet_at_s=30.0,
    ),
    Scenario(
        name="restarted by request",
        story=restarted_by_request,
        expect=_came_to(starts=2, running=1),
        quiet_at_s=30.0,
    ),
    Scenario(
        name="removed by force",
        story=removed_by_force,
        expect=_came_to(starts=2, running=1, reasons=("removed_by_request",)),
        quiet_at_s=40.0,
    ),
    Scenario(
        name="kept and removed",
        story=kept_and_removed,
        expect=_came_to(starts=2, running=0, reasons=("error_exit", "container_pruned")),
        quiet_at_s=40.0,
        keep_s=5.0,
    ),
    Scenario(
        name="starts no more",
        story=starts_no_more,
        expect=_came_to(
            starts=1, running=0, reasons=("error_exit", "start_failed", "crash_looping", "container_pruned")
        ),
        quiet_at_s=80.0,
        keep_s=15.0,
    ),
    Scenario(
        name="watched",
        story=watched,
        expect=_came_to(starts=1, running=1, reasons=("error_exit", "backoff")),
        quiet_at_s=40.0,
    ),
    Scenario(
        name="stopped by somebody",
        story=stopped_by_somebody,
        expect=_came_to(starts=1, running=0, reasons=("stopped_externally",)),
        expect_killed=_stays_down,
    ),
    Scenario(
        name="an orphan",
        story=an_orphan,
        expect=_came_to(starts=0, running=4, reasons=("orphan_removed",)),
        quiet_at_s=40.0,
    ),
    Scenario(
        name="orphans asked for",
        story=orphans_asked_for,
        expect=_came_to(starts=0, running=2, reasons=("orphan_found", "adopted", "unhealthy")),
    ),
    Scenario(
        name="only observed",
        story=only_observed,
        expect=_came_to(starts=0, running=6, reasons=("error_exit", "unhealthy")),
        mode="observe",
    ),
    Scenario(
        name="well for long",
        story=well_for_long,
        expect=waited,
        quiet_at_s=720.0,
        sweep_s=300.0,
    ),
    Scenario(
        name="time over",
        story=time_over,
        expect=_came_to(starts=1, running=0, reasons=("expired",)),
        quiet_at_s=30.0,
    ),
    Scenario(
        name="daemon killed",
        story=daemon_killed,
        expect=_came_to(starts=2, running=2, reasons=("engine_restart",)),
    ),
    Scenario(
        name="daemon stopped",
        story=daemon_stopped,
        expect=_came_to(starts=2, running=1, reasons=("engine_restart",)),
    ),
    Scenario(
        name="clock set back",
        story=clock_set_back,
        expect=_came_to(starts=2, running=1, reasons=("error_exit", "backoff"), ends_in_time=False),
        quiet_at_s=30.0,
    ),
    Scenario(
        name="a label that lies",
        story=a_label_that_lies,
        expect=_came_to(starts=0, running=0),
        quiet_at_s=20.0,
    ),
    Scenario(name="two controllers", story=two_controllers, expect=both_run, quiet_at_s=30.0),
    Scenario(
        name="stopped and started",
        story=stopped_and_started,
        expect=_came_to(starts=3, running=1, reasons=("controller_shutdown",)),
        quiet_at_s=40.0,
    ),
)
