"""Two wishes that cross each other: the later one holds, and an earlier one that is under way is not forgotten."""

import pytest

from controller.core.deadlines import expiry_at
from controller.model.action import ActionKind, OutcomeKind
from controller.model.container import EventAction, LogTail
from controller.model.observation import Verb
from controller.model.phase import Desired, Phase
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
