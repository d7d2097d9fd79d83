"""What the state of the present run means for its session, where an inspect shows that very run.

An answer may be older than what an event has told since: then it is asked for again, and moves nothing back.
"""

from dataclasses import replace
from typing import Final, assert_never

from controller.core.draft import Draft
from controller.core.ending import end_attempt, restarts_by_engine
from controller.core.hindsight import disown_end, refine_end
from controller.core.judging import INVENTED_CODE, End, end_of
from controller.core.keeping import is_kept_long_enough
from controller.core.opening import open_attempt
from controller.core.settling import retry_later, settle
from controller.model.container import ContainerState, LogTail, Snapshot
from controller.model.instant import after
from controller.model.observation import ContainerAbsent, ContainerSeen, LookCause
from controller.model.phase import Health, Phase
from controller.model.reason import ACTOR_ENGINE, ACTOR_EXTERNAL, Reason, Source
from controller.model.session import Attempt, Session

_LOOK_AGAIN_S: Final = 2.0
_SETTLED_S: Final = 10.0
"""So long after an end was told, no answer is older than that end."""
NEVER_STARTED: Final = LogTail(lines=(), truncated=False, absent="never started")
_ADRIFT: Final = (Phase.STARTING, Phase.PENDING)


def apply_state(draft: Draft, seen: ContainerSeen) -> None:
    """Running, paused, over, or about to be: the session follows."""
    snapshot, attempt = seen.snapshot, draft.attempt
    assert attempt is not None
    match snapshot.state:
        case ContainerState.RUNNING | ContainerState.PAUSED:
            if attempt.ended_at is not None:
                # The answer is older than the end that an event told. Ask again, unless it cannot be older.
                if seen.asked_at <= attempt.ended_at:
                    draft.look(delay_s=_LOOK_AGAIN_S, cause=seen.cause, tail=True)
                elif _runs_on(draft.session, attempt, seen):
                    _take_back_end(draft, seen)
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


def _runs_on(session: Session, attempt: Attempt, seen: ContainerSeen) -> bool:
    """Whether a sweep finds the very run alive that was told to have ended long before: then another one's end it was.

    The engine's clock was set back, and an event that came late seemed to be of this run.
    """
    assert attempt.ended_at is not None
    untouched = session.removed_at is None and not session.open_actions and session.phase.is_ended
    return untouched and seen.cause is LookCause.SWEEP and seen.asked_at > after(attempt.ended_at, _SETTLED_S)


def _take_back_end(draft: Draft, seen: ContainerSeen) -> None:
    """Each attempt ends once: what runs on is told as one more."""
    started_at = seen.snapshot.started_at
    assert started_at is not None
    disown_end(draft)
    open_attempt(
        draft,
        started_at=started_at,
        provisional=False,
        restart_count=seen.snapshot.restart_count,
        source=Source.INFERRED,
    )
    _is_alive(draft, seen)


def _is_alive(draft: Draft, seen: ContainerSeen) -> None:
    session, snapshot = draft.session, seen.snapshot
    paused = snapshot.state is ContainerState.PAUSED
    source = source_of(seen)
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


def _is_over(draft: Draft, attempt: Attempt, seen: ContainerSeen) -> None:
    end = end_shown(attempt, seen)
    keep_evidence(draft, seen)
    if attempt.ended_at is None:
        end_attempt(draft, end, source=source_of(seen))
        return
    if not tells_of_a_later_start(attempt, seen.snapshot):
        refine_end(draft, end)
    if draft.session.phase is Phase.STARTING and not draft.session.open_actions:
        start_did_not_happen(draft, seen)
        return
    _back_off_with_engine(draft, seen)
    settle(draft)


def end_shown(attempt: Attempt, seen: ContainerSeen) -> End:
    """The end that an inspect shows. An engine's 255, or a start that failed since, replaces no code that is known.

    Nor does anything replace one that an inspect has shown already: another code is that of a start after this run.
    """
    end = end_of(seen.snapshot, died_at=attempt.died_at)
    told = attempt.exit
    if told is None:
        return end
    if told.exit_code is None:
        # With the words of a start that had failed by then: the code beside them was that start's, and still is.
        was_spoilt = attempt.looked_at_end and bool(told.error) and attempt.started_at is not None
        return replace(end, exit_code=None, error=told.error) if was_spoilt else end
    invented = end.exit_code == INVENTED_CODE and attempt.died_at is not None
    if end.exit_code is not None and not invented and not attempt.looked_at_end:
        return end
    return replace(end, exit_code=told.exit_code, finished_at=attempt.finished_at)


def tells_of_a_later_start(attempt: Attempt, snapshot: Snapshot) -> bool:
    """Whether an error stands beside the instants of an ended run that is that of a start which failed after it."""
    known = attempt.exit
    if not snapshot.error or attempt.ended_at is None or known is None or known.error == snapshot.error:
        return False
    return attempt.looked_at_end or (known.exit_code is not None and known.exit_code != snapshot.exit_code)


def start_did_not_happen(draft: Draft, seen: ContainerSeen) -> None:
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
    elif not waits and session.engine_backs_off and not session.open_actions:
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


def keep_evidence(draft: Draft, seen: ContainerSeen) -> None:
    """Keep what the attempt leaves behind, once; a look that did not bring its last lines is made again with them."""
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
        draft.keep(seen.snapshot, NEVER_STARTED)
    else:
        draft.look(cause=seen.cause, tail=True)


def source_of(seen: ContainerSeen | ContainerAbsent) -> Source | None:
    """What a sweep's look, or one after a gap, shows has happened while nobody was watching."""
    return Source.INFERRED if seen.cause is LookCause.SWEEP or seen.in_gap else None


def _probe_text(draft: Draft) -> str:
    seen = draft.observation
    probes = seen.snapshot.probes if isinstance(seen, ContainerSeen) else ()
    return f"its probe said: {probes[-1].output.strip()[:200]}" if probes and probes[-1].output.strip() else ""
