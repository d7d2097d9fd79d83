"""The last judgement over a world: does the ledger tell what the engine knows, and is everything as it was asked for.

Judged once, when faults and wishes have been over for long enough, and again at the end.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

from controller.core.deadlines import unhealthy_restart_at
from controller.core.replay import replay
from controller.core.why import explain
from controller.interfaces import Meta
from controller.loops.program import rules_of
from controller.model.container import EngineRestart
from controller.model.ids import ControllerId
from controller.model.instant import NANOS_PER_S, after
from controller.model.journal import JournalRow
from controller.model.phase import Desired, Phase
from controller.model.reason import Reason
from controller.model.session import Origin, Session
from controller.model.spec import RestartMode
from controller.store import codec
from tests.simulation import keeping
from tests.simulation.containers import Container, Status
from tests.simulation.daemon import Truth
from tests.simulation.nemesis import clocks_were_set

if TYPE_CHECKING:
    from tests.simulation.world import World

_PROMISED: Final = re.compile("[Ww]ill be (re)?started|[Ww]ill try again|is started again|agentdctl start")
LONGEST_WAIT_S: Final = 376.0
SWEEP_SLACK_S: Final = 15.0
"""Beyond its interval, until a sweep has looked at what it found."""
_PHASES: Final[dict[Status, tuple[Phase, ...]]] = {
    Status.CREATED: (Phase.PENDING, Phase.FAILED, Phase.STOPPED, Phase.BACKOFF),
    Status.RUNNING: (Phase.RUNNING,),
    Status.PAUSED: (Phase.PAUSED,),
    Status.RESTARTING: (Phase.BACKOFF,),
    Status.EXITED: (Phase.STOPPED, Phase.FAILED, Phase.BACKOFF),
    Status.REMOVING: (Phase.STOPPED, Phase.FAILED),
    Status.DEAD: (Phase.STOPPED, Phase.FAILED),
}


def converged(world: "World") -> None:
    """L1: each session is what its container is, and what was asked for; nothing of ours is unknown."""
    sessions = world.oracle.sessions()
    by_container = {session.container_id: session for session in sessions if session.container_id}
    for session in sessions:
        _as_it_is(world, session)
    for container in world.daemon.containers.values():
        _is_known(world, container, by_container.get(container.id))


def recovered(world: "World") -> None:
    """L7: whatever its ledger and its engine went through, a life that has had its time is ready."""
    if world.alive and world.program is not None and not (told := world.program.condition.readiness()).ready:
        world.violated("L7", f"not ready long after the quiet hour: {told.checks}")


def _as_it_is(world: "World", session: Session) -> None:
    container = world.daemon.containers.get(session.container_id) if session.container_id else None
    if session.removed_at is not None:
        if container is not None:
            world.violated("L1", f"{session.name} is removed, its container {container.name} is there")
        return
    may_act = world.knobs.settings.may_restart
    wanted = session.desired is Desired.RUNNING and not _is_left_down(session) and may_act
    if container is None:
        if session.phase.is_live or session.phase is Phase.STARTING:
            world.violated("L1", f"{session.name} is {session.phase}, and there is no container")
        elif wanted and _is_ours(session) and session.phase is not Phase.BACKOFF:
            world.violated("L1", f"{session.name} is wanted, {session.phase} ({session.reason}), without a container")
        return
    never_ran = container.status is Status.DEAD and container.started_at is None
    if session.phase not in _PHASES[Status.CREATED if never_ran else container.status]:
        world.violated("L1", f"{session.name} is {session.phase}, its container {container.status}")
    _not_stuck(world, session)
    _not_beyond_its_limits(world, session, container)
    keeping.converged(world, session, container)
    if wanted and not container.alive and session.phase is not Phase.BACKOFF and _is_driven(session):
        world.violated("L1", f"{session.name} is wanted and down: {session.phase}, {session.reason}")
    if session.desired is Desired.STOPPED and container.alive and _is_ours(session) and may_act:
        world.violated("L1", f"{session.name} is not wanted and runs")


def _not_stuck(world: "World", session: Session) -> None:
    waits_s = ((session.next_attempt_at or 0) - world.clock.now()) / NANOS_PER_S
    if session.phase is Phase.BACKOFF and waits_s > LONGEST_WAIT_S:
        world.violated("L1", f"{session.name} waits another {waits_s:.0f} s for its next attempt")
    if session.open_actions:
        world.violated("L1", f"{session.name} still has open actions: {session.open_actions}")


def _not_beyond_its_limits(world: "World", session: Session, container: Container) -> None:
    """L3: nothing outlives its time to live, nor its time without a connection or in bad health."""
    settings = world.knobs.settings
    if not (container.alive and settings.may_restart and session.may_act):
        return
    limits = {
        "time to live": session.expires_at,
        "time to connect": session.connection_due_at,
        "time in bad health": unhealthy_restart_at(session),
    }
    longest_s = settings.sweep_interval_s + world.knobs.limits.stop_extra_s + settings.stop_grace_s + SWEEP_SLACK_S
    for what, over_at in limits.items():
        if over_at is not None and after(over_at, longest_s) < world.clock.now():
            world.violated("L3", f"{session.name} runs long after the end of its {what}")


def _is_left_down(session: Session) -> bool:
    """Stopped by our own shutdown, and started again by a restart policy only; what was wanted stays on record."""
    return session.reason is Reason.CONTROLLER_SHUTDOWN and session.policy.mode is RestartMode.NO


def _is_ours(session: Session) -> bool:
    return session.origin in (Origin.REQUESTED, Origin.ADOPTED)


def _is_driven(session: Session) -> bool:
    """Whether it is for the controller to start it: not one that was adopted unstarted, or that the engine restarts."""
    if session.origin is Origin.REQUESTED:
        return True
    by_engine = session.container is not None and session.container.engine_restart is not EngineRestart.NO
    ran = session.attempt is not None and session.attempt.started_at is not None
    return session.origin is Origin.ADOPTED and ran and not by_engine


def _is_known(world: "World", container: Container, session: Session | None) -> None:
    kind = world.bystanders.get(container.id)
    since_s = world.timeline.now - world.oracle.forgot_at
    if since_s < world.knobs.settings.sweep_interval_s + SWEEP_SLACK_S:
        return
    if kind == "external" and session is None and not _has_a_rival(world, container):
        world.violated("L1", f"{container.name} asks to be watched, and no session is its")
    settings = world.knobs.settings
    dealt_with = settings.orphan_policy != "report" and settings.may_manage
    if kind == "orphan" and session is None and dealt_with:
        world.violated("L1", f"{container.name} is an orphan, and nothing was done about it")
    prefix = settings.prefix
    made_by_us = (
        kind is None and "agentd.controller" in container.labels and container.labels.get("agentd.prefix") == prefix
    )
    # What somebody has renamed could as well be a copy of a session's container: it is left alone.
    named = container.name == f"{prefix}-{container.labels.get('agentd.session')}"
    if made_by_us and named and session is None and dealt_with:
        world.violated("L1", f"{container.name} is ours, and no session is its")


def _has_a_rival(world: "World", container: Container) -> bool:
    """Whether another one lives under the same compose key, or did: a session is of one of them at a time.

    What is left of one that was replaced is on record as an attempt of the session, and brings it back only by running.
    """
    if not container.alive and world.oracle.query("SELECT 1 FROM attempts WHERE container_id = ?", container.id):
        return True
    key = [container.labels.get(f"com.docker.compose.{part}") for part in ("project", "service")]
    same = [
        one
        for one in world.daemon.containers.values()
        if key[0] and [one.labels.get(f"com.docker.compose.{part}") for part in ("project", "service")] == key
    ]
    return len(same) > 1


def _only_an_event_told(world: "World", attempt: dict[str, Any]) -> bool:
    """Whether nobody could look at the end, in a world where events get lost without a sign, or come seconds late.

    Then a `die` may be that of a run whose `start` was among those that were lost, or fell into a gap that is closed by
    the time the `die` is there. Behind a half-open stream it is told as likely; or, in the moment between the next
    stream's beginning and the end that it did not have, as certain, and the gap row that follows covers it.
    """
    likely = attempt["exit"]["confidence"] == "likely"
    struck = world.menu.fired["events: dropped"] + world.menu.fired["events: delayed"] > 0
    half_open = world.struck["half-open stream"] > 0 and (likely or _was_half_open(world, attempt["died_at"]))
    return (struck or half_open) and not attempt["evidence_kept"]


def _was_half_open(world: "World", died_at: int | None) -> bool:
    covering = "SELECT 1 FROM gaps WHERE cause = 'stream half open' AND opened_at <= ?1 AND closed_at >= ?1"
    return died_at is not None and bool(world.oracle.query(covering, died_at))


def at_the_end(world: "World") -> None:
    """S13: every exit code on record is the one that the engine knew. And L1 once more."""
    converged(world)
    keeping.at_the_end(world)
    explained(world, world.oracle.sessions())
    replayed(world)
    ends = _ends(world.daemon.history)
    for container, started_at, number, body in world.oracle.query(
        "SELECT container_id, started_at, number, body FROM attempts WHERE ended_at IS NOT NULL"
    ):
        attempt = json.loads(body)
        told = attempt["exit"]
        truth = ends.get((container, started_at))
        if told is None or told["exit_code"] is None or truth is None:
            continue
        # An event belongs to a run by the engine's clock, and cannot be told from another's while that is being set.
        clocks_set = clocks_were_set(world)
        # Behind a half-open stream an engine may have been away without anybody knowing.
        invented = told["exit_code"] == 255 and world.struck["half-open stream"] > 0
        # Such an end is told as likely, with its reason: events were missing, and no look has shown that run since.
        excused = invented or clocks_set or attempt["died_after_gap"] or _only_an_event_told(world, attempt)
        if truth.code != told["exit_code"] and not excused:
            name = container[:12]
            world.violated("S13", f"attempt {number} of {name} ended with {truth.code}, told as {told['exit_code']}")


def explained(world: "World", sessions: Sequence[Session]) -> None:
    """Each of these can be told in words, whatever it has come to."""
    for session in sessions:
        rows = [
            JournalRow(seq=seq, decision=decision, committed_at=at, draft=codec.DRAFT.from_text(body))
            for seq, decision, at, body in world.oracle.query(
                "SELECT seq, decision, committed_at, body FROM journal WHERE session_id = ? ORDER BY seq", session.id
            )
        ]
        kept = world.oracle.query(
            "SELECT body FROM evidence WHERE session_id = ? ORDER BY attempt DESC LIMIT 1", session.id
        )
        evidence = codec.EVIDENCE.from_text(kept[0][0]) if kept else None
        may_restart = world.knobs.settings.may_restart
        told = explain(session=session, rows=rows, evidence=evidence, now=world.clock.now(), may_restart=may_restart)
        promised = _PROMISED.search(told.outlook)
        if promised and not (may_restart and session.may_act):
            world.violated("S13", f"{session.name} is not for us to start or stop, and it says: {told.outlook}")
        if not told.sentence or not told.outlook:
            world.violated("S13", f"{session.name} is {session.phase}, and nothing can be said of it")


def replayed(world: "World") -> None:
    """S18: the journal alone gives every session as it is, from the snapshot on where older rows were pruned."""
    stored = dict(world.oracle.query("SELECT key, value FROM meta"))
    meta = Meta(
        controller_id=ControllerId(stored["controller_id"]),
        engine_id=None,
        key=b"",
        cursor=None,
        seen_until=None,
        published=0,
    )
    rules = rules_of(world.knobs.settings, meta)
    for session in world.oracle.sessions():
        pruned = world.oracle.query(
            "SELECT seq, snapshot FROM journal WHERE session_id = ? AND snapshot IS NOT NULL ORDER BY seq DESC LIMIT 1",
            session.id,
        )
        since, start = (pruned[0][0], codec.SESSION.from_text(pruned[0][1])) if pruned else (0, None)
        observed = [
            codec.OBSERVATION.from_text(text)
            for (text,) in world.oracle.query(
                "SELECT observation FROM journal WHERE session_id = ? AND seq > ? AND observation IS NOT NULL"
                " ORDER BY seq",
                session.id,
                since,
            )
        ]
        again = replay(start, observed, rules=rules)
        if again != session:
            differing = [f.name for f in fields(session) if getattr(again, f.name, None) != getattr(session, f.name)]
            world.violated("S18", f"{session.name}: its journal gives other {', '.join(differing)}")


def _ends(history: list[Truth]) -> dict[tuple[str, int], Truth]:
    """How each run really ended, by container and StartedAt."""
    began: dict[str, int] = {}
    ends: dict[tuple[str, int], Truth] = {}
    for truth in history:
        if truth.what == "started":
            began[truth.container] = truth.engine_at
        elif truth.what == "ended" and truth.container in began:
            ends[truth.container, began[truth.container]] = truth
    return ends
