"""Two wishes that cross each other: the later one holds, and an earlier one that is under way is not forgotten."""

from dataclasses import replace

import pytest

from controller.core.deadlines import expiry_at
from controller.model.action import ActionKind, OutcomeKind
from controller.model.container import ContainerState, EngineRestart, EventAction, LogTail
from controller.model.observation import DeadlineReached, LookCause, Verb
from controller.model.phase import Desired, Phase
from controller.model.reason import Reason
from controller.model.session import Origin
from controller.model.spec import RestartMode
from tests.support import builders as make
from tests.support.story import Story, running_session

_STARTED_AGAIN = make.running(started_s=7)


def _being_removed() -> Story:
    """Removed by force, and stopped for it: the removal is on its way."""
    story = running_session()
    story(make.verb(Verb.REMOVE, 3, force=True))
    story(make.outcome(story.action, 5, shot=make.exited(143)))
    story(make.seen(make.exited(143), seconds=6, tail=LogTail(lines=("bye",), truncated=False)))
    assert story.action.kind is ActionKind.REMOVE
    return story


@pytest.mark.parametrize("told_first", [True, False], ids=["its start told first", "the outcome first"])
def test_what_somebody_starts_after_we_were_told_to_remove_it_is_wanted(*, told_first: bool) -> None:
    story = _being_removed()
    if told_first:
        story(make.event(EventAction.START, 7))
    story(make.outcome(story.action, 8, kind=OutcomeKind.SUPERSEDED, shot=_STARTED_AGAIN))
    assert story.session.phase is Phase.RUNNING
    assert story.session.desired is Desired.RUNNING
    assert not story.session.removal_wanted


def test_what_somebody_starts_after_we_were_told_to_stop_it_is_wanted() -> None:
    story = running_session()
    story(make.verb(Verb.STOP, 3))
    stop = story.action
    story(make.event(EventAction.DIE, 4, exit_code=0))
    story(make.event(EventAction.START, 7))
    story(make.outcome(stop, 8, kind=OutcomeKind.SUPERSEDED, shot=_STARTED_AGAIN))
    assert story.session.phase is Phase.RUNNING
    assert story.session.desired is Desired.RUNNING


def test_a_removal_that_somebody_asked_for_outlives_an_engine_that_gives_no_answer() -> None:
    story = _being_removed()
    story(make.outcome(story.action, 130, kind=OutcomeKind.DROPPED))
    assert story.session.removal_wanted
    assert story.action.kind is ActionKind.REMOVE
    story(make.outcome(story.action, 131))
    assert story.session.removed_at is not None


def test_a_start_takes_back_a_stop_that_still_waits_for_its_turn() -> None:
    story = running_session(make.spec(ttl_s=100.0))
    story(make.verb(Verb.RESTART, 2))
    story(make.outcome(story.action, 3, shot=make.exited(0, finished_s=3)))
    story(make.event(EventAction.START, 4))
    story(make.verb(Verb.STOP, 5))
    story(make.verb(Verb.START, 6))
    story(make.outcome(story.action, 7, shot=make.running(started_s=4)))
    assert not story.session.open_actions
    assert story.session.phase is Phase.RUNNING
    assert story.session.desired is Desired.RUNNING
    assert expiry_at(story.session) is not None


def test_an_adopted_session_whose_renewal_is_over_can_be_started_for_good() -> None:
    story = Story()
    story(make.admitted(make.running(), origin=Origin.ADOPTED))
    story(replace(make.verb(Verb.RENEW, 10), ttl_s=60.0))
    story(DeadlineReached(observed_at=make.at(70)))
    story(make.outcome(story.action, 72, shot=make.exited(143, finished_s=72)))
    story(make.seen(make.exited(143, finished_s=72), seconds=72.1, tail=LogTail(lines=(), truncated=False)))
    assert story.session.reason is Reason.EXPIRED
    story(make.verb(Verb.START, 1000))
    story(make.outcome(story.action, 1001, shot=make.running(started_s=1000.5)))
    story(DeadlineReached(observed_at=make.at(5000)))
    assert (story.session.phase, story.session.due_at) == (Phase.RUNNING, None)


@pytest.mark.parametrize("verb", [Verb.STOP, Verb.REMOVE])
def test_what_the_engine_is_to_start_again_by_a_policy_of_its_own_can_be_stopped_and_removed(verb: Verb) -> None:
    # Somebody has given a container of ours a restart policy of the engine's (`docker update`).
    story = running_session(make.spec(RestartMode.ALWAYS))
    updated = replace(make.facts(), engine_restart=EngineRestart.ALWAYS)
    story(make.seen(make.running(facts=updated), seconds=3, cause=LookCause.SWEEP))
    story(make.event(EventAction.DIE, 5, exit_code=3))
    waits = replace(make.exited(3, finished_s=5), state=ContainerState.RESTARTING, facts=updated)
    story(make.seen(waits, seconds=5.1, tail=LogTail(lines=(), truncated=False)))
    assert (story.session.phase, story.session.next_attempt_at) == (Phase.BACKOFF, None)
    story(make.verb(verb, 6, force=True))
    story(make.outcome(story.action, 7, shot=replace(waits, state=ContainerState.EXITED)))
    assert (story.session.phase, story.session.desired) == (Phase.STOPPED, Desired.STOPPED)
    removed = [ActionKind.REMOVE] if verb is Verb.REMOVE else []
    assert [action.kind for action in story.actions] == [ActionKind.STOP, *removed]
