"""A start that fails leaves its words and its code in the inspect of the run before, which is another story."""

from dataclasses import replace

import pytest

from controller.model.action import OutcomeKind
from controller.model.container import ContainerState, EventAction, Snapshot
from controller.model.observation import LookCause, Verb
from controller.model.phase import Phase
from controller.model.reason import Reason
from controller.model.spec import RestartMode
from tests.support import builders as make
from tests.support.story import Story, running_session


def _spoilt() -> Snapshot:
    """What an engine shows after a start of a container whose last run had ended well."""
    return replace(make.exited(128, finished_s=10.0), error="task already exists")


def _ended_and_starting() -> Story:
    story = running_session()
    story(make.event(EventAction.DIE, 10, exit_code=0))
    story(make.seen(make.exited(0, finished_s=10.0), seconds=11))
    story(make.verb(Verb.START, 20))
    assert story.session.phase is Phase.STARTING
    return story


def test_a_start_that_failed_does_not_change_how_the_run_before_it_ended() -> None:
    story = _ended_and_starting()
    ended = story.attempt
    story(make.seen(_spoilt(), seconds=25, cause=LookCause.SWEEP))
    assert story.attempt.exit == ended.exit
    assert story.session.phase is Phase.STARTING
    assert not [row for row in story.rows if row.reason is Reason.START_FAILED]


def test_a_container_that_could_not_be_removed_whole_shows_no_other_end_of_its_last_run() -> None:
    story = running_session()
    story(make.event(EventAction.DIE, 10, exit_code=0))
    story(make.seen(make.exited(0, finished_s=10.0), seconds=11))
    # Somebody's start failed, and then a removal: what that failed for stands where the start's error stood.
    dead = replace(make.exited(127, finished_s=10.0), state=ContainerState.DEAD)
    story(make.seen(dead, seconds=60, cause=LookCause.SWEEP))
    assert story.attempt.exit is not None
    assert (story.attempt.exit.exit_code, story.session.phase) == (0, Phase.STOPPED)


def test_a_start_that_was_refused_opens_no_attempt_for_the_run_before_it() -> None:
    story = _ended_and_starting()
    story(make.outcome(story.action, 25, kind=OutcomeKind.REFUSED, shot=_spoilt(), message="no such command"))
    assert (story.session.phase, story.session.reason) == (Phase.FAILED, Reason.START_FAILED)
    count = story.session.attempt_count
    story(make.seen(_spoilt(), seconds=30, cause=LookCause.SWEEP))
    assert story.session.attempt_count == count
    assert (story.session.phase, story.session.reason) == (Phase.FAILED, Reason.START_FAILED)


def test_a_start_that_left_nothing_to_look_at_after_a_refused_one_is_not_waited_for_for_ever() -> None:
    story = _ended_and_starting()
    story(make.outcome(story.action, 25, kind=OutcomeKind.REFUSED, shot=_spoilt(), message="no such command"))
    story(make.verb(Verb.START, 30))
    story(make.outcome(story.action, 31, kind=OutcomeKind.DONE))
    assert story.session.open_actions == ()
    story(make.seen(_spoilt(), seconds=32, cause=LookCause.ACTION))
    assert story.session.phase is Phase.BACKOFF
    assert story.session.next_attempt_at is not None


def test_many_refused_starts_do_not_make_the_last_run_a_new_one_while_its_container_is_removed() -> None:
    story = _ended_and_starting()
    for number in range(6):
        story(make.outcome(story.action, 25 + number, kind=OutcomeKind.REFUSED, shot=_spoilt(), message="no such file"))
        story(make.verb(Verb.START, 25.5 + number))
    story(make.outcome(story.action, 40, kind=OutcomeKind.REFUSED, shot=_spoilt(), message="no such file"))
    count = story.session.attempt_count
    going = replace(make.exited(0, finished_s=10.0), state=ContainerState.REMOVING)
    story(make.seen(going, seconds=60, cause=LookCause.SWEEP))
    assert (story.session.attempt_count, story.session.phase) == (count, Phase.FAILED)


def test_the_code_of_a_start_that_failed_is_not_told_of_the_run_before_it() -> None:
    story = running_session()
    story(make.seen(_spoilt(), seconds=60, cause=LookCause.SWEEP))
    assert (story.session.phase, story.session.reason) == (Phase.FAILED, Reason.START_FAILED)
    assert story.attempt.exit is not None
    assert (story.attempt.exit.exit_code, story.attempt.exit.error) == (None, "task already exists")


def test_nor_is_it_once_a_removal_that_failed_has_taken_the_words_beside_it() -> None:
    story = running_session()
    story(make.seen(_spoilt(), seconds=60, cause=LookCause.SWEEP))
    story(make.seen(replace(_spoilt(), state=ContainerState.DEAD, error=""), seconds=90, cause=LookCause.SWEEP))
    assert story.attempt.exit is not None
    assert (story.attempt.exit.exit_code, story.attempt.exit.error) == (None, "task already exists")
    assert story.session.reason is Reason.START_FAILED


def test_a_255_that_a_restarted_engine_invents_does_not_replace_the_code_of_the_die_event() -> None:
    story = running_session()
    story(make.event(EventAction.DIE, 10, exit_code=3))
    told = story.attempt.exit
    story(make.seen(make.exited(255, finished_s=15.0), seconds=16, cause=LookCause.SWEEP))
    assert story.attempt.exit is not None
    assert told is not None
    assert story.attempt.exit.exit_code == told.exit_code == 3


@pytest.mark.parametrize("restart", [RestartMode.NO, RestartMode.ALWAYS])
def test_what_was_started_and_removed_before_anybody_looked_is_lost(restart: RestartMode) -> None:
    story = running_session(make.spec(restart))
    story(make.event(EventAction.DIE, 5, exit_code=1))
    story(make.seen(make.exited(1)))
    story(make.verb(Verb.START, 10))
    start = story.action
    story(make.absent(seconds=11))
    story(make.outcome(start, 12))
    assert (Phase.STARTING, Phase.FAILED, Reason.LOST) in story.told()
    assert story.session.phase is (Phase.BACKOFF if restart is RestartMode.ALWAYS else Phase.FAILED)
