"""What a target shows before an action is sent: a table."""

from dataclasses import replace

import pytest

from controller.errors import EngineUnavailable
from controller.loops.target import DEAD, already
from controller.model.action import Action, ActionKind, OutcomeKind
from controller.model.container import ContainerFacts, ContainerState, Snapshot
from controller.model.ids import ActionId, ContainerId, SessionId
from controller.model.instant import Instant, after
from controller.model.session import Attempt

BEGAN = Instant(1_000_000_000_000)
START, STOP, REMOVE = ActionKind.START, ActionKind.STOP, ActionKind.REMOVE
RUNNING, EXITED, PAUSED = ContainerState.RUNNING, ContainerState.EXITED, ContainerState.PAUSED
SEND = None


@pytest.mark.parametrize(
    ("kind", "state", "moved_s", "ends"),
    [
        (START, EXITED, 0, SEND),
        (START, RUNNING, 0, OutcomeKind.DONE),
        (START, EXITED, 1, OutcomeKind.DONE),
        (START, EXITED, -30, OutcomeKind.DONE),
        (STOP, RUNNING, 0, SEND),
        (STOP, RUNNING, -0.01, SEND),
        (STOP, PAUSED, 0, SEND),
        (STOP, EXITED, 0, OutcomeKind.DONE),
        (STOP, RUNNING, 1, OutcomeKind.SUPERSEDED),
        (STOP, RUNNING, -30, OutcomeKind.SUPERSEDED),
        (REMOVE, EXITED, 0, SEND),
        (REMOVE, RUNNING, 0, OutcomeKind.SUPERSEDED),
        (REMOVE, EXITED, 1, OutcomeKind.SUPERSEDED),
    ],
)
def test_a_target_that_is_so_or_has_moved_is_sent_nothing(
    kind: ActionKind, state: ContainerState, moved_s: float, ends: OutcomeKind | None
) -> None:
    outcome = already(_action(kind), _snapshot(state, started_at=after(BEGAN, moved_s)))
    assert (outcome.kind if outcome is not None else SEND) is ends


def test_a_container_that_was_only_created_is_started() -> None:
    action = _action(START, started_at=None)
    assert already(action, _snapshot(ContainerState.CREATED, started_at=None)) is SEND
    done = already(action, _snapshot(EXITED, started_at=BEGAN))
    assert done is not None
    assert done.kind is OutcomeKind.DONE


def test_what_had_never_run_when_its_removal_was_decided_and_has_run_since_is_not_removed() -> None:
    never_ran = _action(REMOVE, started_at=None)
    outcome = already(never_ran, _snapshot(EXITED, started_at=BEGAN))
    assert outcome is not None
    assert outcome.kind is OutcomeKind.SUPERSEDED
    # Of what was found lying about no attempt is known, and none was when that was decided.
    assert already(replace(never_ran, attempt=0), _snapshot(EXITED, started_at=BEGAN)) is SEND


def test_what_the_engine_could_not_remove_whole_is_never_started() -> None:
    outcome = already(_action(START), _snapshot(ContainerState.DEAD, started_at=BEGAN))
    assert outcome is not None
    assert (outcome.kind, outcome.message) == (OutcomeKind.REFUSED, DEAD)
    assert already(_action(REMOVE), _snapshot(ContainerState.DEAD, started_at=BEGAN)) is SEND


@pytest.mark.parametrize(("kind", "state"), [(START, EXITED), (STOP, RUNNING), (REMOVE, EXITED)])
def test_an_engine_that_forgot_the_latest_run_shows_nothing_that_has_moved(
    kind: ActionKind, state: ContainerState
) -> None:
    before = after(BEGAN, -30)
    known = [_attempt(2, BEGAN), _attempt(1, before)]
    assert already(_action(kind), _snapshot(state, started_at=before), attempts=known) is SEND


@pytest.mark.parametrize(("kind", "ends"), [(START, OutcomeKind.DONE), (STOP, OutcomeKind.SUPERSEDED)])
def test_once_the_exact_start_is_known_even_one_a_moment_before_it_is_another_run(
    kind: ActionKind, ends: OutcomeKind
) -> None:
    shows = _snapshot(RUNNING, started_at=after(BEGAN, -1))
    outcome = already(_action(kind), shows, attempts=[_attempt(2, BEGAN)])
    assert outcome is not None
    assert outcome.kind is ends


@pytest.mark.parametrize(("kind", "ends"), [(START, OutcomeKind.DONE), (STOP, OutcomeKind.SUPERSEDED)])
def test_a_run_that_is_known_to_have_come_after_it_has_moved_though_the_engines_clock_was_set_back(
    kind: ActionKind, ends: OutcomeKind
) -> None:
    later = after(BEGAN, -0.5)
    known = [_attempt(3, later), _attempt(2, BEGAN)]
    outcome = already(_action(kind), _snapshot(RUNNING, started_at=later), attempts=known)
    assert outcome is not None
    assert outcome.kind is ends


@pytest.mark.parametrize(
    ("kind", "ends"), [(START, OutcomeKind.DONE), (STOP, OutcomeKind.SUPERSEDED), (REMOVE, OutcomeKind.SUPERSEDED)]
)
def test_an_answer_older_than_a_run_that_an_event_has_told_of_does_not_hide_it(
    kind: ActionKind, ends: OutcomeKind
) -> None:
    known = [_attempt(3, after(BEGAN, 30)), _attempt(2, BEGAN)]
    outcome = already(_action(kind), _snapshot(RUNNING if kind is STOP else EXITED, started_at=BEGAN), attempts=known)
    assert outcome is not None
    assert outcome.kind is ends


@pytest.mark.parametrize("remembered", [True, False])
@pytest.mark.parametrize("kind", [START, REMOVE])
def test_after_a_refused_start_the_run_before_it_is_no_move(kind: ActionKind, *, remembered: bool) -> None:
    before = after(BEGAN, -30)
    refused = replace(_attempt(2, None), ended_at=BEGAN)
    known = [refused, _attempt(1, before)] if remembered else [refused]
    decided_on_it = _action(kind, started_at=None)
    assert already(decided_on_it, _snapshot(EXITED, started_at=before), attempts=known) is SEND
    moved = already(decided_on_it, _snapshot(EXITED, started_at=after(BEGAN, 1)), attempts=known)
    assert moved is not None
    assert moved.kind is (OutcomeKind.DONE if kind is START else OutcomeKind.SUPERSEDED)


def test_after_a_refused_start_a_run_that_is_not_the_one_before_it_has_moved_whatever_the_clocks_say() -> None:
    refused = replace(_attempt(2, None), ended_at=BEGAN)
    known = [refused, _attempt(1, after(BEGAN, -60))]
    done = already(_action(START, started_at=None), _snapshot(EXITED, started_at=after(BEGAN, -30)), attempts=known)
    assert done is not None
    assert done.kind is OutcomeKind.DONE


def test_a_start_whose_run_is_known_by_now_is_done() -> None:
    known = [_attempt(2, BEGAN)]
    done = already(_action(START, started_at=None), _snapshot(EXITED, started_at=BEGAN), attempts=known)
    assert done is not None
    assert done.kind is OutcomeKind.DONE


def test_one_that_is_being_removed_gives_no_certain_answer_yet() -> None:
    with pytest.raises(EngineUnavailable):
        already(_action(REMOVE), _snapshot(ContainerState.REMOVING, started_at=BEGAN))


def _action(kind: ActionKind, *, started_at: Instant | None = BEGAN) -> Action:
    return Action(
        id=ActionId("s/1"),
        session_id=SessionId("s"),
        kind=kind,
        container=ContainerId("c"),
        started_at=started_at,
        attempt=2,
        decided_at=BEGAN,
        drop_at=after(BEGAN, 120),
    )


def _attempt(number: int, started_at: Instant | None) -> Attempt:
    return Attempt(number=number, container=ContainerId("c"), started_at=started_at, opened_at=BEGAN)


def _snapshot(state: ContainerState, *, started_at: Instant | None) -> Snapshot:
    facts = ContainerFacts(id=ContainerId("c"), name="c", image="busybox")
    return Snapshot(facts=facts, state=state, started_at=started_at)
