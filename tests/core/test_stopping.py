"""A stop that was asked for happens, whatever is under way when it is asked for."""

import pytest

from controller.model.action import ActionKind
from controller.model.container import ContainerState
from controller.model.observation import DeadlineReached, Verb
from controller.model.phase import Desired, Phase
from controller.model.reason import Reason
from tests.support import builders as make
from tests.support.story import Story

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
