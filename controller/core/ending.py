"""How an attempt ends: whose stop it was, and what it is called. `settling.py` says what follows.

The end is told at once, from what is known; a look that comes later may refine reason and exit, and never moves
stopped to failed or back.
"""

from dataclasses import dataclass, replace
from typing import Final

from controller.core.diagnosis import Diagnosis, EndFacts, diagnose
from controller.core.draft import Draft
from controller.core.keeping import is_pruning, pruned
from controller.core.rules import KILL_SLACK_S, LOOK_OWED_S, PROVISIONAL_S, STABLE_AFTER_S
from controller.core.settling import settle
from controller.core.signals import can_end
from controller.model.container import ContainerState, EngineRestart, Snapshot
from controller.model.instant import Instant, after, seconds_between
from controller.model.observation import ContainerSeen, EventSeen
from controller.model.phase import Desired, Phase
from controller.model.reason import ACTOR_CONTROLLER, ACTOR_ENGINE, ACTOR_EXTERNAL, ACTOR_UNKNOWN, Reason, Source
from controller.model.session import Attempt, Origin, ProvisionalEnd, Session

EXTERNAL_STOPS: Final = (Reason.STOPPED_EXTERNALLY, Reason.KILLED_EXTERNALLY, Reason.REMOVED_EXTERNALLY)
_NOT_ENDS: Final = (Reason.BACKOFF, Reason.CRASH_LOOPING)
_ENGINES_GRACE_S: Final = 10.0
"""An engine's own stop time-out, where neither the container nor the caller names one."""
_REMOVED_WITH_KILL_S: Final = 2.0
"""`rm -f` is a kill, a die and a destroy in quick succession; a kill and a later `rm` are two deeds."""


@dataclass(frozen=True, kw_only=True)
class End:
    """What an observation tells about an end. Instants are the engine's."""

    exit_code: int | None = None
    finished_at: Instant | None = None
    oom_flag: bool = False
    error: str = ""
    gone: bool = False
    removed_with_kill: bool = False
    may_be_invented: bool = False
    last_probe: str = ""
    never_started: bool = False
    looked: bool = False
    """An inspect told it: nothing better will come."""
    engine_waits: bool | None = None
    """Whether the engine is about to start it again, where an inspect told."""


def end_of(snapshot: Snapshot, *, died_at: Instant | None) -> End:
    """What an inspect of an ended container tells."""
    # A daemon that comes back says 255 of what it lost sight of. FinishedAt proves nothing: clocks are set, and behind
    # a half-open stream a daemon can restart unseen. Only a `die` vouches for a program's own 255.
    invented = snapshot.exit_code == 255 and died_at is None
    return End(
        exit_code=snapshot.exit_code,
        finished_at=snapshot.finished_at,
        oom_flag=snapshot.oom_killed,
        error=snapshot.error,
        may_be_invented=invented,
        last_probe=snapshot.probes[-1].output if snapshot.probes else "",
        looked=True,
        engine_waits=snapshot.state is ContainerState.RESTARTING,
    )


def end_attempt(draft: Draft, end: End, *, source: Source | None = None) -> None:
    """The present attempt is over: one transition, and what is owed from then on. Each attempt ends once."""
    attempt = draft.attempt
    assert attempt is not None, f"{draft.session.name}: an end without an attempt"
    assert attempt.ended_at is None, f"{draft.session.name}: attempt {attempt.number} ended twice"
    # A daemon that stops sends the same events as a person who does: read in a replay that proves nothing about
    # what came before, they are taken for the daemon's.
    unproven = is_unproven(draft) or _ended_in_a_gap(draft, attempt)
    engine_stopped = unproven and attempt.intent is None and _kill_explains(draft, attempt, end)
    diagnosis = _diagnose(draft, attempt, end, engine_stopped=engine_stopped)
    ran_s = seconds_between(attempt.started_at, end.finished_at) if attempt.started_at and end.finished_at else 0.0
    draft.session = replace(
        draft.session,
        attempt=replace(
            attempt,
            finished_at=end.finished_at,
            ended_at=draft.now,
            exit=diagnosis.exit,
            looked_at_end=end.looked or end.gone,
        ),
        backoff_step=0 if ran_s >= STABLE_AFTER_S else draft.session.backoff_step,
        next_attempt_at=None,
        stop_wanted=None,
    )
    draft.enter(_phase_after(draft.session, attempt, end, diagnosis), diagnosis.reason, _message(diagnosis))
    if diagnosis.reason in EXTERNAL_STOPS:
        draft.session = replace(draft.session, provisional=ProvisionalEnd(until=after(draft.now, PROVISIONAL_S)))
    draft.tell(actor=actor_of(diagnosis.reason, attempt), at=end.finished_at, source=source)
    if end.gone:
        settle(draft)
        _leave_container(draft, source=source)
    elif end.looked:
        settle(draft)
    else:
        draft.session = replace(draft.session, look_owed_until=after(draft.now, LOOK_OWED_S))
        draft.look(tail=True)


def refine_end(draft: Draft, end: End) -> None:
    """A later observation of the same end: it may better the reason and the exit, never the phase."""
    attempt = draft.attempt
    assert attempt is not None
    was_engine = draft.session.reason is Reason.ENGINE_RESTART or _was_engine_stop(attempt)
    diagnosis = _diagnose(draft, attempt, end, engine_stopped=was_engine)
    better = attempt.exit != diagnosis.exit
    draft.session = replace(
        draft.session,
        attempt=replace(
            attempt,
            exit=diagnosis.exit,
            finished_at=end.finished_at or attempt.finished_at,
            looked_at_end=attempt.looked_at_end or end.looked,
        ),
    )
    says = draft.session.reason
    if says not in _NOT_ENDS and draft.session.phase in (diagnosis.phase, Phase.BACKOFF):
        draft.session = replace(draft.session, reason=diagnosis.reason, message=_message(diagnosis))
    if better or draft.session.reason is not says:
        draft.tell(actor=actor_of(diagnosis.reason, attempt), reason=diagnosis.reason, message=_message(diagnosis))


def disown_end(draft: Draft) -> None:
    """The end on record turns out to be that of a later run: how this attempt ended, nobody saw."""
    attempt = draft.attempt
    assert attempt is not None
    bare = replace(
        attempt,
        died_at=None,
        died_after_gap=False,
        kill_at=None,
        kill_signal=None,
        first_kill_signal=None,
        stop_at=None,
    )
    diagnosis = _diagnose(draft, bare, End(looked=True), engine_stopped=False)
    draft.session = replace(draft.session, attempt=replace(bare, exit=diagnosis.exit, finished_at=None))
    draft.tell(reason=Reason.EXIT_UNKNOWN, message=_message(diagnosis), source=Source.INFERRED)


def complete_earlier(draft: Draft, earlier: Attempt, *, end: End | None = None) -> None:
    """A late observation of an attempt before the present one completes that record, and moves nothing else."""
    if end is not None or earlier.exit is not None:
        told = end or _known_end(earlier)
        diagnosis = _diagnose(draft, earlier, told, engine_stopped=_was_engine_stop(earlier))
        earlier = replace(earlier, exit=diagnosis.exit, finished_at=told.finished_at or earlier.finished_at)
    known = tuple(earlier if one.number == earlier.number else one for one in draft.session.earlier)
    if known != draft.session.earlier:
        draft.session = replace(draft.session, earlier=known)
        draft.tell(message=f"attempt {earlier.number} is told more exactly", reason=draft.session.reason)


def renew_diagnosis(draft: Draft) -> None:
    """An event that belongs to an end came after it (`stop`, `oom`, `kill`): judge the end again.

    An end of which no code is known stays as it was told: there is nothing that the event could explain.
    """
    attempt = draft.attempt
    assert attempt is not None
    if attempt.exit is not None and attempt.exit.exit_code is not None:
        refine_end(draft, _known_end(attempt))


def learn_of_stop(draft: Draft) -> None:
    """A `stop` came after the `die` that it explains, where no kill did: somebody stopped it, with a long time-out."""
    attempt, session = draft.attempt, draft.session
    assert attempt is not None
    diagnosis = _diagnose(draft, attempt, _known_end(attempt), engine_stopped=_was_engine_stop(attempt))
    if session.reason in EXTERNAL_STOPS or diagnosis.reason not in EXTERNAL_STOPS or session.open_actions:
        renew_diagnosis(draft)
        return
    granted = tuple(one for one in session.granted_at if one != session.next_attempt_at)
    draft.session = replace(
        session,
        attempt=replace(attempt, exit=diagnosis.exit),
        next_attempt_at=None,
        granted_at=granted,
        provisional=ProvisionalEnd(until=after(draft.now, PROVISIONAL_S)),
    )
    draft.enter(Phase.STOPPED, diagnosis.reason, _message(diagnosis))
    draft.tell(actor=ACTOR_EXTERNAL)


def learn_of_death(draft: Draft, code: int | None, *, at: Instant) -> None:
    """The `die` event of an end that something else told first: it may bring the code that nobody knew."""
    attempt = draft.attempt
    assert attempt is not None
    if attempt.exit is not None and attempt.exit.exit_code is None and code is not None:
        refine_end(draft, replace(_known_end(attempt), exit_code=code, finished_at=at))
    else:
        renew_diagnosis(draft)


def became_engine_restart(draft: Draft) -> None:
    """The engine went away right after a stop that nobody here asked for: it was the engine's own."""
    attempt = draft.attempt
    assert attempt is not None
    diagnosis = _diagnose(draft, attempt, _known_end(attempt), engine_stopped=True)
    draft.session = replace(
        draft.session,
        provisional=None,
        reason=diagnosis.reason,
        message=_message(diagnosis),
        attempt=replace(attempt, exit=diagnosis.exit),
    )
    draft.tell(actor=ACTOR_ENGINE, source=Source.INFERRED)
    settle(draft)


def became_external(draft: Draft) -> None:
    """Nothing happened to the engine: it was somebody's stop, and the session stays down."""
    draft.session = replace(draft.session, provisional=None, desired=Desired.STOPPED, look_owed_until=None)
    draft.tell(actor=ACTOR_EXTERNAL, message="somebody stopped it: it stays down")


def container_gone(draft: Draft, *, source: Source | None = None) -> None:
    """A definite absence of the present container: `destroy`, or a 404 to a look by its id."""
    attempt = draft.attempt
    destroyed_at = draft.observation.event.at if isinstance(draft.observation, EventSeen) else None
    if attempt is not None and attempt.ended_at is None and attempt.started_at is not None:
        end_attempt(draft, End(gone=True, finished_at=destroyed_at), source=source)
        return
    if attempt is not None and attempt.ended_at is None:
        _gone_before_start(draft, attempt)
    elif attempt is not None:
        if not draft.session.open_actions and _is_forced_removal(draft.session, attempt, destroyed_at):
            refine_end(draft, replace(_known_end(attempt), removed_with_kill=True))
        _look_is_settled(draft)
    _leave_container(draft, source=source)


def actor_of(reason: Reason, attempt: Attempt | None) -> str:
    """Who ended it, as far as anybody can tell."""
    if attempt is not None and attempt.intent is not None:
        return attempt.intent.actor
    if reason in EXTERNAL_STOPS:
        return ACTOR_EXTERNAL
    if reason in (Reason.LOST, Reason.EXIT_UNKNOWN, Reason.SIGNALLED):
        return ACTOR_UNKNOWN
    return ACTOR_ENGINE


def restarts_by_engine(session: Session, attempt: Attempt, exit_code: int | None) -> bool:
    """Whether the engine's own policy will start the container again. Then nobody else does."""
    facts = session.container
    if facts is None or exit_code is None:
        return False
    match facts.engine_restart:
        case EngineRestart.ALWAYS | EngineRestart.UNLESS_STOPPED:
            return True
        case EngineRestart.ON_FAILURE:
            budget_left = facts.engine_restart_limit == 0 or attempt.restart_count < facts.engine_restart_limit
            return exit_code != 0 and budget_left
        case EngineRestart.NO:
            return False


def _diagnose(draft: Draft, attempt: Attempt, end: End, *, engine_stopped: bool) -> Diagnosis:
    session = draft.session
    explains = _kill_explains(draft, attempt, end)
    return diagnose(
        EndFacts(
            exit_code=end.exit_code,
            code_may_be_invented=end.may_be_invented,
            started_at=attempt.started_at,
            finished_at=end.finished_at,
            died_at=attempt.died_at,
            died_after_gap=attempt.died_after_gap,
            oom_flag=end.oom_flag,
            oom_at=attempt.oom_at,
            memory_limit_bytes=session.container.memory_limit_bytes if session.container is not None else 0,
            intent=attempt.intent,
            first_kill_signal=attempt.first_kill_signal if explains else None,
            kill_signal=attempt.kill_signal if explains else None,
            kill_at=attempt.kill_at if explains else None,
            stop_at=attempt.stop_at,
            engine_stopped=engine_stopped,
            gone=end.gone,
            destroyed_with_kill=end.removed_with_kill,
            auto_remove=session.container.auto_remove if session.container is not None else False,
            never_started=end.never_started,
            error=end.error,
            last_probe=end.last_probe,
        )
    )


def _kill_explains(draft: Draft, attempt: Attempt, end: End) -> bool:
    """A kill explains an end only if its signal can end a process and the end follows within the stop time-out."""
    if attempt.stop_at is not None:
        return True
    signal, killed_at = attempt.kill_signal, attempt.kill_at
    ended_at = attempt.died_at or end.finished_at
    if signal is None or killed_at is None or not can_end(signal):
        return False
    limit_s = max(draft.rules.grace_of(draft.session.spec), _ENGINES_GRACE_S) + KILL_SLACK_S
    # Not before the kill, give or take the engine's own jitter between FinishedAt and its events.
    return ended_at is None or -KILL_SLACK_S <= seconds_between(killed_at, ended_at) <= limit_s


def _known_end(attempt: Attempt) -> End:
    known = attempt.exit
    return End(
        exit_code=known.exit_code if known is not None else None,
        finished_at=attempt.finished_at,
        oom_flag=known.oom_killed if known is not None else False,
        error=known.error if known is not None else "",
        looked=attempt.looked_at_end,
    )


def _was_engine_stop(attempt: Attempt) -> bool:
    return attempt.exit is not None and attempt.exit.verdict.value == "engine_stopped"


def is_unproven(draft: Draft) -> bool:
    """Whether the event was read in a replay that proves nothing about what came before it."""
    seen = draft.observation
    return isinstance(seen, EventSeen) and seen.replayed and not seen.continuous


def _ended_in_a_gap(draft: Draft, attempt: Attempt) -> bool:
    """A kill was seen, then the stream broke, and nobody saw the end: as likely as not the engine was going down."""
    seen = draft.observation
    return isinstance(seen, ContainerSeen) and seen.in_gap and attempt.died_at is None


def _phase_after(session: Session, attempt: Attempt, end: End, diagnosis: Diagnosis) -> Phase:
    by_itself = attempt.intent is None and diagnosis.reason not in (*EXTERNAL_STOPS, Reason.ENGINE_RESTART)
    # The engine sets `restarting` together with the end, so that `exited` is its last word.
    expected = restarts_by_engine(session, attempt, diagnosis.exit.exit_code)
    waits = expected if end.engine_waits is None else end.engine_waits
    return Phase.BACKOFF if by_itself and waits else diagnosis.phase


def _message(diagnosis: Diagnosis) -> str:
    return "; ".join(diagnosis.exit.evidence)


def _is_forced_removal(session: Session, attempt: Attempt, destroyed_at: Instant | None) -> bool:
    if destroyed_at is None or attempt.died_at is None or session.reason is not Reason.KILLED_EXTERNALLY:
        return False
    return seconds_between(attempt.died_at, destroyed_at) <= _REMOVED_WITH_KILL_S


def _look_is_settled(draft: Draft) -> None:
    """No look can tell more of a container that is gone."""
    attempt = draft.attempt
    assert attempt is not None
    if not attempt.looked_at_end:
        draft.session = replace(draft.session, attempt=replace(attempt, looked_at_end=True))
    settle(draft)


def _gone_before_start(draft: Draft, attempt: Attempt) -> None:
    draft.session = replace(
        draft.session,
        attempt=replace(attempt, ended_at=draft.now, looked_at_end=True),
        desired=Desired.STOPPED,
        stop_wanted=None,
    )
    if not draft.session.phase.is_ended:
        reason = Reason.REMOVED_BY_REQUEST if draft.session.removal_wanted else Reason.REMOVED_EXTERNALLY
        draft.enter(Phase.STOPPED, reason, "removed before it was ever started")


def _leave_container(draft: Draft, *, source: Source | None) -> None:
    """The container is no more. A session that is to run again lives on without it; any other is removed."""
    session = draft.session
    if session.removal_again_at is not None and is_pruning(session):
        # A removal of ours that the engine gave no certain answer to has been done after all.
        pruned(draft)
        return
    waits = session.next_attempt_at is not None or session.restart_wanted or bool(session.open_actions)
    end_unseen = session.reason in (Reason.LOST, Reason.EXIT_UNKNOWN)
    if session.origin is Origin.REQUESTED and not session.removal_wanted and (waits or end_unseen):
        draft.session = replace(session, container=None)
        return
    if session.origin is Origin.ORPHAN and session.removal_wanted:
        draft.enter(session.phase, Reason.ORPHAN_REMOVED, session.message)
    draft.session = replace(
        draft.session,
        removed_at=draft.now,
        desired=Desired.STOPPED,
        next_attempt_at=None,
        look_owed_until=None,
        # `--rm` takes away what the daemon's own stop ended, too.
        provisional=session.provisional if _is_removed_at_its_end(session) else None,
        stop_wanted=None,
        restart_wanted=False,
        removal_wanted=False,
    )
    draft.tell(message="its container is removed", actor=_remover(session), source=source)


def _remover(session: Session) -> str:
    if session.removal_wanted:
        return ACTOR_CONTROLLER
    return ACTOR_ENGINE if _is_removed_at_its_end(session) else ACTOR_EXTERNAL


def _is_removed_at_its_end(session: Session) -> bool:
    by_hand = session.reason in (Reason.KILLED_EXTERNALLY, Reason.REMOVED_EXTERNALLY)
    return session.container is not None and session.container.auto_remove and not by_hand
