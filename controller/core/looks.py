"""One inspect of one container, or its definite absence, against what the session says.

An inspect is the fullest observation there is, and as old as its request. It opens an attempt that no event told,
ends one that ended unseen, and completes what an event told in part. It never takes an attempt back.
"""

from dataclasses import replace
from typing import Final, assert_never

from controller.core.draft import Draft
from controller.core.ending import (
    End,
    complete_earlier,
    container_gone,
    disown_end,
    end_attempt,
    end_of,
    refine_end,
    restarts_by_engine,
)
from controller.core.keeping import is_kept_long_enough
from controller.core.opening import change_container, open_attempt
from controller.core.pursuing import pursue
from controller.core.settling import retry_later, settle
from controller.model.container import ContainerState, LogTail, Snapshot
from controller.model.observation import ContainerAbsent, ContainerSeen, LookCause
from controller.model.phase import Desired, Health, Phase
from controller.model.reason import ACTOR_ENGINE, ACTOR_EXTERNAL, Reason, Source
from controller.model.session import Attempt

_LOOK_AGAIN_S: Final = 2.0
_INVENTED_CODE: Final = 255
_OVER: Final = (ContainerState.EXITED, ContainerState.DEAD)
_NEVER_STARTED: Final = LogTail(lines=(), truncated=False, absent="never started")
_ADRIFT: Final = (Phase.STARTING, Phase.PENDING)


def on_seen(draft: Draft, seen: ContainerSeen) -> None:
    """What an inspect of the session's container shows."""
    snapshot = seen.snapshot
    if not _is_its_container(draft, snapshot):
        return
    _take_facts(draft, snapshot)
    attempt = draft.attempt
    if snapshot.started_at is None:
        _never_started(draft, seen)
    elif attempt is None or attempt.started_at is None:
        if attempt is None or not _is_the_run_before(draft, attempt, snapshot):
            _a_run_nobody_knew(draft, seen)
        elif _is_to_go(draft):
            _keep(draft, replace(seen, tail=_NEVER_STARTED))
    elif _is_same_run(attempt, draft.session.earlier, snapshot):
        _confirm(draft, attempt, snapshot)
        _apply_state(draft, seen)
    elif snapshot.started_at < attempt.started_at or _known_earlier(draft, snapshot) is not None:
        # Known by its own StartedAt, too: an engine's clock that was set back gives a later run an earlier one.
        _an_earlier_run(draft, seen)
    else:
        _a_run_nobody_knew(draft, seen)
    if seen.orphan_still:
        draft.session = replace(draft.session, removal_wanted=True, desired=Desired.STOPPED)
        draft.tell(reason=Reason.ORPHAN_FOUND, message="it was spared before, and nothing speaks for it any more")
    pursue(draft)


def on_absent(draft: Draft, absent: ContainerAbsent) -> None:
    """A 404. Only of the present container, and only if it is not being made just now, does it mean anything."""
    if draft.session.container_id != absent.container or draft.session.removed_at is not None:
        return
    container_gone(draft, source=_hindsight(absent))
    pursue(draft)


def _is_its_container(draft: Draft, snapshot: Snapshot) -> bool:
    """Whether the inspect is of the session's container, once a successor has been taken over as such."""
    session = draft.session
    if session.container_id == snapshot.facts.id:
        return True
    attempt = session.attempt
    over = attempt is None or attempt.ended_at is not None
    created_at, known_at = snapshot.facts.created_at, session.container.created_at if session.container else None
    newer = known_at is None or created_at is None or created_at > known_at
    if session.is_external and over and newer:
        change_container(draft, snapshot.facts)
        return True
    return False


def _take_facts(draft: Draft, snapshot: Snapshot) -> None:
    session = draft.session
    renamed = session.container is not None and session.container.name != snapshot.facts.name
    draft.session = replace(session, container=snapshot.facts)
    if renamed and session.container is not None:
        draft.tell(
            reason=Reason.RENAMED, message=f"from {session.container.name} to {snapshot.facts.name}", actor="external"
        )


def _is_same_run(attempt: Attempt, earlier: tuple[Attempt, ...], snapshot: Snapshot) -> bool:
    assert attempt.started_at is not None
    assert snapshot.started_at is not None
    if attempt.container != snapshot.facts.id:
        return False
    if attempt.started_at == snapshot.started_at:
        return True
    # A `start` event's time is a little later than the StartedAt it stands for. An inspect that was under way when
    # the event came shows the run before, which is known by its own StartedAt.
    known_before = any(one.started_at == snapshot.started_at for one in earlier)
    return attempt.provisional and snapshot.started_at < attempt.started_at and not known_before


def _is_the_run_before(draft: Draft, refused: Attempt, snapshot: Snapshot) -> bool:
    """Whether a start that was refused has left the container with the instants of an earlier run."""
    if _known_earlier(draft, snapshot) is not None:
        return True
    # After many refusals in a row the run itself is not among the few that are remembered.
    assert snapshot.started_at is not None
    return refused.ended_at is not None and snapshot.state in _OVER and snapshot.started_at < refused.opened_at


def _tells_of_a_later_start(attempt: Attempt, snapshot: Snapshot) -> bool:
    """Whether an error stands beside the instants of an ended run that is that of a start which failed after it."""
    known = attempt.exit
    if not snapshot.error or attempt.ended_at is None or known is None or known.error == snapshot.error:
        return False
    return attempt.looked_at_end or (known.exit_code is not None and known.exit_code != snapshot.exit_code)


def _confirm(draft: Draft, attempt: Attempt, snapshot: Snapshot) -> None:
    draft.session = replace(
        draft.session,
        attempt=replace(
            attempt,
            started_at=snapshot.started_at,
            provisional=False,
            restart_count=snapshot.restart_count,
            died_after_gap=False,
        ),
    )


def _never_started(draft: Draft, seen: ContainerSeen) -> None:
    session, attempt, snapshot = draft.session, draft.attempt, seen.snapshot
    if attempt is None:
        return
    if snapshot.error and attempt.started_at is None and attempt.ended_at is None:
        end = replace(end_of(snapshot, died_at=None), never_started=True)
        _keep(draft, seen)
        end_attempt(draft, end, source=_hindsight(seen))
        return
    if _is_to_go(draft):
        _keep(draft, seen)
    if session.phase is Phase.STARTING and not session.open_actions:
        retry_later(draft, message="the engine did not start it")


def _is_to_go(draft: Draft) -> bool:
    """Whether its container is to be removed, for which there must be evidence even of what never ran."""
    return draft.session.removal_wanted or is_kept_long_enough(draft)


def _a_run_nobody_knew(draft: Draft, seen: ContainerSeen) -> None:
    """The container has been started since: the attempt before it ended, if it had one, without being seen."""
    snapshot, attempt = seen.snapshot, draft.attempt
    assert snapshot.started_at is not None
    if attempt is not None and attempt.started_at is not None and attempt.ended_at is None:
        end_attempt(draft, End(looked=True), source=Source.INFERRED)
    elif attempt is not None and _is_disowned(draft, attempt, snapshot):
        disown_end(draft)
    missed = snapshot.restart_count - attempt.restart_count if attempt is not None else 0
    open_attempt(
        draft,
        started_at=snapshot.started_at,
        provisional=False,
        restart_count=snapshot.restart_count,
        source=_hindsight(seen),
    )
    if missed > 1:
        draft.tell(actor=ACTOR_ENGINE, message=f"{missed - 1} runs in between were not seen", source=Source.INFERRED)
    _apply_state(draft, seen)


def _is_disowned(draft: Draft, attempt: Attempt, snapshot: Snapshot) -> bool:
    """Whether the `die` that was told is that of a later run, because the `start` in between was not told.

    Of the run that is seen now, or of one that the engine counts in between. A start of our own came after that end
    for certain, whatever the engine's clock says.
    """
    if attempt.died_at is None or snapshot.started_at is None or draft.session.phase is Phase.STARTING:
        return False
    runs_between = snapshot.restart_count - attempt.restart_count > 1
    return snapshot.started_at <= attempt.died_at or (attempt.died_after_gap and runs_between)


def _known_earlier(draft: Draft, snapshot: Snapshot) -> Attempt | None:
    """The attempt before the present one that an inspect shows, by container and StartedAt."""
    return next(
        (
            one
            for one in draft.session.earlier
            if one.container == snapshot.facts.id and one.started_at == snapshot.started_at
        ),
        None,
    )


def _an_earlier_run(draft: Draft, seen: ContainerSeen) -> None:
    snapshot, present = seen.snapshot, draft.attempt
    assert present is not None
    match = _known_earlier(draft, snapshot)
    if match is None and seen.asked_at > present.opened_at:
        # Asked for after the present run was known, and another one: the engine's clock was set back in between.
        _a_run_nobody_knew(draft, seen)
    elif match is not None and snapshot.state in _OVER and not _tells_of_a_later_start(match, snapshot):
        complete_earlier(draft, replace(match, died_after_gap=False), end=_end_shown(match, seen))
    if draft.session.phase is Phase.STARTING and not draft.session.open_actions and snapshot.state in _OVER:
        # An engine that was killed may have forgotten its latest run: it shows the one before, and will not start it.
        _start_did_not_happen(draft, seen)


def _apply_state(draft: Draft, seen: ContainerSeen) -> None:
    snapshot, attempt = seen.snapshot, draft.attempt
    assert attempt is not None
    match snapshot.state:
        case ContainerState.RUNNING | ContainerState.PAUSED:
            if attempt.ended_at is not None:
                # The answer is older than the end that an event told. Ask again, unless it cannot be older.
                if seen.asked_at <= attempt.ended_at:
                    draft.look(delay_s=_LOOK_AGAIN_S, cause=seen.cause, tail=True)
            else:
                _is_alive(draft, seen)
        case ContainerState.RESTARTING | ContainerState.EXITED | ContainerState.DEAD:
            _is_over(draft, attempt, seen)
        case ContainerState.CREATED:
            pass
        case ContainerState.REMOVING | ContainerState.UNKNOWN:
            draft.look(delay_s=_LOOK_AGAIN_S, cause=seen.cause)
        case _:
            assert_never(snapshot.state)


def _is_alive(draft: Draft, seen: ContainerSeen) -> None:
    session, snapshot = draft.session, seen.snapshot
    paused = snapshot.state is ContainerState.PAUSED
    source = _hindsight(seen)
    if _may_be_older(draft, seen) and session.phase is (Phase.RUNNING if paused else Phase.PAUSED):
        # Than the pause, or its end, that an event told. Ask again.
        draft.look(delay_s=_LOOK_AGAIN_S, cause=seen.cause)
        return
    if paused and session.phase is not Phase.PAUSED and session.phase is not Phase.STOPPING:
        draft.enter(Phase.PAUSED, Reason.PAUSED)
        draft.tell(actor="external", source=source)
    elif not paused and session.phase is Phase.PAUSED:
        draft.enter(Phase.RUNNING, Reason.UNPAUSED)
        draft.tell(actor="external", source=source)
    elif session.phase in _ADRIFT:
        draft.enter(Phase.RUNNING, Reason.STARTED)
        draft.tell(source=source)
    if draft.session.phase is Phase.RUNNING and not paused:
        note_health(draft, snapshot.health, source=source)


def _may_be_older(draft: Draft, seen: ContainerSeen) -> bool:
    """Whether it was asked before the session came to its phase, other than by this very answer."""
    return seen.asked_at <= draft.session.since != draft.now


def note_health(draft: Draft, health: Health, *, source: Source | None = None) -> None:
    """Health as it is now: the level, so that a container that was unhealthy before we came counts too."""
    session = draft.session
    if health in (session.health, Health.UNKNOWN):
        return
    since = (session.unhealthy_since or draft.now) if health is Health.UNHEALTHY else None
    draft.session = replace(session, health=health, unhealthy_since=since)
    if health is Health.HEALTHY:
        draft.tell(actor=ACTOR_ENGINE, reason=Reason.HEALTHY, message="", source=source)
    elif health is Health.UNHEALTHY:
        draft.tell(actor=ACTOR_ENGINE, reason=Reason.UNHEALTHY, message=_probe_text(draft), source=source)


def _end_shown(attempt: Attempt, seen: ContainerSeen) -> End:
    """The end that an inspect shows. The 255 of an engine that was killed never replaces the code of a `die` event."""
    end = end_of(seen.snapshot, died_at=attempt.died_at)
    known = attempt.exit.exit_code if attempt.exit is not None else None
    if end.exit_code != _INVENTED_CODE or attempt.died_at is None or known is None:
        return end
    return replace(end, exit_code=known, finished_at=attempt.finished_at)


def _is_over(draft: Draft, attempt: Attempt, seen: ContainerSeen) -> None:
    end = _end_shown(attempt, seen)
    _keep(draft, seen)
    if attempt.ended_at is None:
        end_attempt(draft, end, source=_hindsight(seen))
        return
    if not _tells_of_a_later_start(attempt, seen.snapshot):
        refine_end(draft, end)
    if draft.session.phase is Phase.STARTING and not draft.session.open_actions:
        _start_did_not_happen(draft, seen)
        return
    _back_off_with_engine(draft, seen)
    settle(draft)


def _start_did_not_happen(draft: Draft, seen: ContainerSeen) -> None:
    """Nobody got an answer to a start, and the container stands as it did before it."""
    if seen.cause is LookCause.ACTION:
        retry_later(draft, message="the engine did not start it")
    else:
        # This answer may be older than the start; one that was asked for after it is not.
        draft.look(cause=LookCause.ACTION)


def _back_off_with_engine(draft: Draft, seen: ContainerSeen) -> None:
    """The engine's own back-off may begin, or be over, without an event."""
    session, attempt = draft.session, draft.attempt
    assert attempt is not None
    waits = seen.snapshot.state is ContainerState.RESTARTING
    if waits and session.phase is not Phase.BACKOFF and _may_be_older(draft, seen):
        draft.look(delay_s=_LOOK_AGAIN_S, cause=seen.cause)  # Than the stop that an event told.
    elif waits and session.phase is not Phase.BACKOFF:
        draft.enter(Phase.BACKOFF, session.reason, "the engine's own restart policy will start it")
        draft.tell(actor=ACTOR_ENGINE)
    elif not waits and session.phase is Phase.BACKOFF and session.next_attempt_at is None and not session.open_actions:
        # The engine sets `restarting` together with the end, so that `exited` is its last word.
        code = attempt.exit.exit_code if attempt.exit is not None else None
        if restarts_by_engine(session, attempt, code) and not seen.snapshot.error:
            # Its policy would have gone on: only a stop ends that, and the event of it is still to come or was lost.
            draft.enter(Phase.STOPPED, Reason.STOPPED_EXTERNALLY, "stopped while the engine was to start it again")
            draft.tell(actor=ACTOR_EXTERNAL)
            return
        failed = attempt.exit is None or attempt.exit.exit_code != 0
        phase = Phase.FAILED if failed else Phase.STOPPED
        draft.enter(phase, session.reason, "the engine will not start it again")
        draft.tell(actor=ACTOR_ENGINE)


def _keep(draft: Draft, seen: ContainerSeen) -> None:
    attempt = draft.attempt
    if attempt is None:
        return
    if attempt.evidence_kept:
        # Lines that could not be had at its end may be told now, and never after.
        if seen.tail is not None and seen.tail.lines and is_kept_long_enough(draft):
            draft.keep(seen.snapshot, seen.tail)
    elif seen.tail is not None:
        draft.keep(seen.snapshot, seen.tail)
    elif seen.snapshot.started_at is None:
        draft.keep(seen.snapshot, _NEVER_STARTED)
    else:
        draft.look(cause=seen.cause, tail=True)


def _hindsight(seen: ContainerSeen | ContainerAbsent) -> Source | None:
    """What a sweep's look, or one after a gap, shows has happened while nobody was watching."""
    return Source.INFERRED if seen.cause is LookCause.SWEEP or seen.in_gap else None


def _probe_text(draft: Draft) -> str:
    seen = draft.observation
    probes = seen.snapshot.probes if isinstance(seen, ContainerSeen) else ()
    return f"its probe said: {probes[-1].output.strip()[:200]}" if probes and probes[-1].output.strip() else ""
