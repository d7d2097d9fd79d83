"""One inspect of one container, or its definite absence: which run it shows, against those that the session knows.

An inspect is the fullest observation there is, and as old as its request. It opens an attempt that no event told,
ends one that ended unseen, and completes what an event told in part. It never takes an attempt back. What the state
of the present run means, `standing.py` says.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from controller.core.deadlines import unhealthy_restart_at
from controller.core.draft import Draft
from controller.core.ending import end_attempt
from controller.core.event_facts import stands_for
from controller.core.hindsight import complete_earlier, disown_end
from controller.core.judging import End, end_of
from controller.core.keeping import is_kept_long_enough
from controller.core.leaving import container_gone
from controller.core.opening import change_container, open_attempt
from controller.core.pursuing import pursue, restart_for
from controller.core.settling import retry_later
from controller.core.standing import (
    NEVER_STARTED,
    apply_state,
    end_shown,
    keep_evidence,
    source_of,
    start_did_not_happen,
    tells_of_a_later_start,
)
from controller.model.container import ContainerState, Snapshot
from controller.model.observation import ContainerAbsent, ContainerSeen
from controller.model.phase import Desired, Health, Phase
from controller.model.reason import ACTOR_ENGINE, Reason, Source
from controller.model.session import Attempt, StopCause

_OVER: Final = (ContainerState.EXITED, ContainerState.DEAD)


def on_seen(draft: Draft, seen: ContainerSeen) -> None:
    """What an inspect of the session's container shows."""
    snapshot = seen.snapshot
    if not _is_its_container(draft, seen):
        return
    _take_facts(draft, snapshot)
    attempt = draft.attempt
    if snapshot.started_at is None:
        _never_started(draft, seen)
    elif attempt is None or attempt.started_at is None:
        if attempt is None or not _is_the_run_before(draft, attempt, snapshot):
            _a_run_nobody_knew(draft, seen)
        else:
            _the_run_before(draft, seen)
    elif _is_same_run(attempt, draft.session.earlier, snapshot):
        _confirm(draft, attempt, snapshot)
        apply_state(draft, seen)
    elif snapshot.started_at < attempt.started_at or _known_earlier(draft, snapshot) is not None:
        # Known by its own StartedAt, too: an engine's clock that was set back gives a later run an earlier one.
        _an_earlier_run(draft, seen)
    else:
        _a_run_nobody_knew(draft, seen)
    if seen.orphan_still:
        draft.session = replace(draft.session, removal_wanted=True, desired=Desired.STOPPED)
        draft.tell(reason=Reason.ORPHAN_FOUND, message="it was spared before, and nothing speaks for it any more")
    if _stays_unhealthy(draft, seen):
        restart_for(draft, StopCause.UNHEALTHY)
    pursue(draft)


def on_absent(draft: Draft, absent: ContainerAbsent) -> None:
    """A 404. Only of the present container, and only if it is not being made just now, does it mean anything."""
    if draft.session.container_id != absent.container or draft.session.removed_at is not None:
        return
    container_gone(draft, source=source_of(absent))
    pursue(draft)


def _stays_unhealthy(draft: Draft, seen: ContainerSeen) -> bool:
    """Whether the time for which it may be unhealthy was over when this was asked, and it is so still."""
    due_at, shown = unhealthy_restart_at(draft.session), seen.snapshot
    present = draft.attempt is not None and draft.attempt.started_at == shown.started_at
    return present and shown.health is Health.UNHEALTHY and due_at is not None and due_at <= seen.asked_at


def _is_its_container(draft: Draft, seen: ContainerSeen) -> bool:
    """Whether the inspect is of the session's container, once a successor has been taken over as such."""
    session, snapshot = draft.session, seen.snapshot
    if session.container_id == snapshot.facts.id:
        return True
    attempt = session.attempt
    over = attempt is None or attempt.ended_at is not None
    created_at, known_at = snapshot.facts.created_at, session.container.created_at if session.container else None
    newer = known_at is None or created_at is None or created_at > known_at
    # What is there after ours was gone for certain is a successor, whatever the engine's clock says of its age.
    after_it = session.removed_at is not None and seen.asked_at > session.removed_at
    if session.is_external and over and (newer or after_it):
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
    # the event came shows the run before, which is known by its own StartedAt, or by a `start` event of its own.
    of_one_before = any(
        one.container == attempt.container
        and one.started_at is not None
        and snapshot.started_at <= one.started_at < attempt.started_at
        for one in earlier
    )
    return attempt.provisional and stands_for(attempt.started_at, snapshot.started_at) and not of_one_before


def _is_the_run_before(draft: Draft, refused: Attempt, snapshot: Snapshot) -> bool:
    """Whether a start that was refused has left the container with the instants of an earlier run."""
    known = _known_earlier(draft, snapshot) is not None
    return known or shows_a_run_before(refused, snapshot, earlier=draft.session.earlier)


def shows_a_run_before(refused: Attempt, snapshot: Snapshot, *, earlier: Sequence[Attempt]) -> bool:
    """Whether a refused start has left its container with the instants of a run that is not known by them.

    `earlier` are the attempts before it, newest first. Another run than the latest of these came after the refusal; by
    the clocks, which may have been set, it is judged only where no run of that container is remembered any more.
    """
    if refused.started_at is not None or refused.ended_at is None or snapshot.started_at is None:
        return False
    if snapshot.state not in _OVER:
        return False
    for one in earlier:
        if one.container == refused.container and one.started_at is not None:
            return one.provisional and stands_for(one.started_at, snapshot.started_at)
    return snapshot.started_at < refused.opened_at


def _the_run_before(draft: Draft, seen: ContainerSeen) -> None:
    if _is_to_go(draft):
        keep_evidence(draft, replace(seen, tail=NEVER_STARTED))
    if draft.session.phase is Phase.STARTING and not draft.session.open_actions:
        start_did_not_happen(draft, seen)


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
        keep_evidence(draft, seen)
        end_attempt(draft, end, source=source_of(seen))
        return
    if _is_to_go(draft):
        keep_evidence(draft, seen)
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
        source=source_of(seen),
    )
    if missed > 1:
        draft.tell(actor=ACTOR_ENGINE, message=f"{missed - 1} runs in between were not seen", source=Source.INFERRED)
    apply_state(draft, seen)


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


def _told_earlier(draft: Draft, present: Attempt, snapshot: Snapshot) -> Attempt | None:
    """The attempt before the present one that an inspect shows, where both are known by their `start` events alone."""
    assert snapshot.started_at is not None
    for one in draft.session.earlier:
        if one.container == snapshot.facts.id and one.started_at is not None:
            both = one.provisional and present.provisional
            return one if both and stands_for(one.started_at, snapshot.started_at) else None
    return None


def _an_earlier_run(draft: Draft, seen: ContainerSeen) -> None:
    snapshot, present = seen.snapshot, draft.attempt
    assert present is not None
    match = _known_earlier(draft, snapshot) or _told_earlier(draft, present, snapshot)
    if match is None and seen.asked_at > present.opened_at:
        # Asked for after the present run was known, and another one: the engine's clock was set back in between.
        _a_run_nobody_knew(draft, seen)
    elif match is not None and snapshot.state in _OVER:
        if not tells_of_a_later_start(match, snapshot):
            shown = replace(match, started_at=snapshot.started_at, provisional=False, died_after_gap=False)
            complete_earlier(draft, shown, end=end_shown(match, seen))
        if present.started_at is not None and seen.asked_at > present.opened_at:
            # An engine that was killed may have forgotten its latest run; or an event told of a run that never was.
            if present.ended_at is None:
                end_attempt(draft, End(looked=True), source=Source.INFERRED)
            keep_evidence(draft, seen)
    if draft.session.phase is Phase.STARTING and not draft.session.open_actions and snapshot.state in _OVER:
        # It shows the run before, and will not start it.
        start_did_not_happen(draft, seen)
