"""A stop that was asked for happens, whatever is under way when it is asked for."""

from dataclasses import replace

import pytest

from controller.model.action import ActionKind, OutcomeKind
from controller.model.container import ContainerState, EventAction
from controller.model.observation import DeadlineReached, Verb
from controller.model.phase import Desired, Phase
from controller.model.reason import Reason
from controller.model.spec import RestartMode
from tests.support import builders as make
from tests.support.story import Story, running_session

_CREATED = make.snapshot(ContainerState.CREATED, started_s=None)


def _started_and_not_looked_at() -> Story:
    story = Story()
    story(make.requested(make.spec(ttl_s=100.0)))
    story(make.outcome(story.action, 0.5, shot=_CREATED))
    story(make.outcome(story.action, 1))
    assert story.session.phase is Phase.STARTING
    return story


@pytest.mark.parametrize("expired", [False, True])
def test_a_stop_before_anybody_saw_what_came_of_the_start_stops_what_came_of_it(*, expired: bool) -> None:
    story = _started_and_not_looked_at()
    story(DeadlineReached(observed_at=make.at(101)) if expired else make.verb(Verb.STOP, 2))
    story(make.seen(make.running(), seconds=102))
    assert story.action.kind is ActionKind.STOP
    assert story.session.desired is Desired.STOPPED
    story(make.outcome(story.action, 103, shot=make.exited(143, finished_s=103)))
    assert story.session.phase is Phase.STOPPED
    assert story.session.reason is (Reason.EXPIRED if expired else Reason.STOPPED_BY_REQUEST)


def test_a_stop_that_got_no_certain_answer_is_decided_anew_as_long_as_it_is_wanted() -> None:
    story = running_session()
    story(make.verb(Verb.STOP, 5))
    story(make.outcome(story.action, 140, kind=OutcomeKind.DROPPED))
    assert (story.session.phase, story.action.kind) == (Phase.STOPPING, ActionKind.STOP)
    story(make.outcome(story.action, 141, shot=make.exited(143, finished_s=141)))
    assert (story.session.phase, story.session.reason) == (Phase.STOPPED, Reason.STOPPED_BY_REQUEST)


@pytest.mark.parametrize("verb", [Verb.STOP, Verb.REMOVE])
def test_a_stop_of_our_own_that_got_no_certain_answer_is_decided_anew_for_who_has_asked_meanwhile(verb: Verb) -> None:
    story = running_session(make.spec(expect_connection=True))
    due_at = story.session.connection_due_at
    assert due_at is not None
    story(DeadlineReached(observed_at=due_at))
    assert story.action.kind is ActionKind.STOP
    story(make.verb(verb, 70, force=verb is Verb.REMOVE))
    story(make.outcome(story.action, 200, kind=OutcomeKind.DROPPED))
    story(make.seen(make.running(), seconds=201))
    assert (story.session.phase, story.action.kind) == (Phase.STOPPING, ActionKind.STOP)
    assert story.session.desired is Desired.STOPPED


def test_a_persons_stop_within_the_time_out_that_the_container_was_created_with_is_told_as_such() -> None:
    story = running_session(make.spec(RestartMode.ALWAYS), rules=replace(make.RULES, stop_grace_s=60))
    story(make.event(EventAction.KILL, 10, signal=15))
    story(make.event(EventAction.DIE, 50, exit_code=0))
    assert story.session.reason is Reason.STOPPED_EXTERNALLY


def test_a_controller_that_only_observes_stops_nothing_whose_time_is_over() -> None:
    story = running_session(make.spec(ttl_s=100.0))
    story.rules = replace(make.RULES, may_restart=False, may_manage=False)
    story(DeadlineReached(observed_at=make.at(101)))
    assert story.actions == []
    assert story.session.phase is Phase.RUNNING
