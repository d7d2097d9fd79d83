"""Removing on request: what is lost is kept first, and no look is repeated without a pause."""

from dataclasses import replace

import pytest

from controller.loops.look import has_ended
from controller.model.action import ActionKind, OutcomeKind
from controller.model.container import ContainerState, LogTail
from controller.model.observation import Verb
from controller.model.phase import Phase
from tests.support import builders as make
from tests.support.story import Story, running_session

_CREATED = make.snapshot(ContainerState.CREATED, started_s=None)
_REFUSED = replace(_CREATED, error="no such command", exit_code=127)


def _refused() -> Story:
    story = Story()
    story(make.requested())
    story(make.outcome(story.action, 0.5, shot=_CREATED))
    story(make.outcome(story.action, 1, kind=OutcomeKind.REFUSED, shot=_REFUSED, message="no such command"))
    return story


def test_a_session_whose_start_was_refused_can_be_removed() -> None:
    story = _refused()
    story(make.verb(Verb.REMOVE, 5))
    story(make.seen(_REFUSED, seconds=6))
    assert story.action.kind is ActionKind.REMOVE
    story(make.outcome(story.action, 7))
    assert story.session.removed_at is not None


def test_a_session_whose_second_start_was_refused_can_be_removed() -> None:
    story = running_session()
    ended, refused = make.exited(0, finished_s=3), replace(make.exited(127, finished_s=3), error="no such command")
    story(make.verb(Verb.STOP, 2))
    story(make.outcome(story.action, 3, shot=ended))
    story(make.verb(Verb.START, 4))
    story(make.outcome(story.action, 5, kind=OutcomeKind.REFUSED, shot=refused, message="no such command"))
    story(make.verb(Verb.REMOVE, 6))
    story(replace(make.seen(refused, seconds=7), tail=LogTail(lines=("bye",), truncated=False)))
    assert story.action.kind is ActionKind.REMOVE


@pytest.mark.parametrize("state", [ContainerState.REMOVING, ContainerState.UNKNOWN])
def test_a_look_that_could_not_tell_what_is_lost_is_not_repeated_at_once(state: ContainerState) -> None:
    story = _refused()
    story(make.verb(Verb.REMOVE, 5))
    story(make.seen(make.snapshot(state, finished_s=2), seconds=6))
    assert story.session.removed_at is None
    assert all(wish.delay_s > 0 for wish in story.last.looks)


def test_what_a_container_said_can_be_read_while_the_engine_waits_to_start_it_again() -> None:
    assert has_ended(make.snapshot(ContainerState.RESTARTING, finished_s=2, exit_code=1))


def test_a_start_that_nobody_saw_and_that_did_not_happen_is_over_for_a_session_that_was_never_started() -> None:
    story = _refused()
    story(make.verb(Verb.START, 5))
    story(make.verb(Verb.STOP, 6))
    story(make.outcome(story.action, 130, kind=OutcomeKind.DROPPED))
    story(make.seen(_CREATED, seconds=131))
    assert story.session.phase is Phase.STOPPED
    assert not story.session.open_actions


def test_nothing_is_removed_while_nobody_has_seen_what_came_of_a_start() -> None:
    story = running_session()
    story(make.verb(Verb.STOP, 2))
    story(make.outcome(story.action, 3, shot=make.exited(0, finished_s=3)))
    story(replace(make.seen(make.exited(0, finished_s=3)), tail=LogTail(lines=("bye",), truncated=False)))
    story(make.verb(Verb.START, 4))
    story(make.outcome(story.action, 5))
    story.actions.clear()
    story(make.verb(Verb.REMOVE, 6, force=True))
    assert story.actions == []
    story(make.seen(make.running(started_s=5), seconds=7))
    assert story.action.kind is ActionKind.STOP


@pytest.mark.parametrize("verb", [Verb.START, Verb.RESTART])
def test_what_is_being_removed_is_not_started_again(verb: Verb) -> None:
    story = _refused()
    story(make.verb(Verb.REMOVE, 5))
    reply = story(make.verb(verb, 6)).reply
    assert reply is not None
    assert not reply.accepted
    assert story.session.phase is Phase.FAILED
