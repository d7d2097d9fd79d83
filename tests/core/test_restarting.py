"""Restarts with brakes: back-off, budget, and what resets them."""

from dataclasses import replace

import pytest

from controller.core.restart_policy import BACKOFF_MAX_S, JITTER, backoff_s, unreachable
from controller.model.action import ActionKind, OutcomeKind
from controller.model.container import ContainerState, EngineRestart, EventAction
from controller.model.ids import SessionId
from controller.model.observation import ControllerStarted, ControllerStopping, DeadlineReached, Verb
from controller.model.phase import Desired, Phase
from controller.model.reason import Reason
from controller.model.session import Origin
from controller.model.spec import RestartMode, RestartPolicy
from tests.support import builders as make
from tests.support.story import Story, running_session


def _crash(story: Story, at_s: float, *, ran_s: float = 1.0) -> None:
    """The session's present start succeeds and the program fails after `ran_s`."""
    start = at_s - ran_s
    story(make.outcome(story.action, start + 0.1, shot=make.running(started_s=start)))
    story(make.event(EventAction.DIE, at_s, exit_code=3))
    story(make.seen(make.exited(3, started_s=start, finished_s=at_s), seconds=at_s + 0.01))


def _crashing(policy: RestartPolicy) -> Story:
    story = running_session(replace(make.spec(), restart=policy))
    story(make.event(EventAction.DIE, 2, exit_code=3))
    story(make.seen(make.exited(3, finished_s=2), seconds=2.01))
    return story


def test_a_session_that_crashes_at_once_twenty_times_waits_longer_each_time() -> None:
    story = _crashing(RestartPolicy(mode=RestartMode.ON_FAILURE))
    waits: list[float] = []
    for _ in range(20):
        due_at = story.session.next_attempt_at
        assert due_at is not None
        waits.append((due_at - story.session.since) / 1e9)
        story(DeadlineReached(observed_at=due_at))
        assert story.action.kind is ActionKind.START
        _crash(story, (due_at - make.T0) / 1e9 + 2)
    for step, wait in enumerate(waits):
        base = min(10 * 2**step, BACKOFF_MAX_S)
        assert base <= wait <= base * (1 + JITTER)
        assert wait == pytest.approx(backoff_s(story.session.id, step))
    assert story.session.restarts == 20


def test_the_budget_ends_in_crash_looping_told_once() -> None:
    story = _crashing(RestartPolicy(mode=RestartMode.ALWAYS, max_attempts=3, window_s=3600))
    for _ in range(3):
        due_at = story.session.next_attempt_at
        assert due_at is not None
        story(DeadlineReached(observed_at=due_at))
        _crash(story, (due_at - make.T0) / 1e9 + 2)
    assert (story.session.phase, story.session.reason) == (Phase.FAILED, Reason.CRASH_LOOPING)
    assert story.session.desired is Desired.STOPPED
    assert [reason for _, _, reason in story.told()].count(Reason.CRASH_LOOPING) == 1
    assert story.session.due_at is None


def test_a_slow_retry_follows_a_spent_budget_where_it_is_asked_for() -> None:
    story = _crashing(RestartPolicy(mode=RestartMode.ALWAYS, max_attempts=1, window_s=3600, slow_retry_s=1800))
    for _ in range(3):
        due_at = story.session.next_attempt_at
        assert due_at is not None
        story(DeadlineReached(observed_at=due_at))
        _crash(story, (due_at - make.T0) / 1e9 + 2)
    assert story.session.phase is Phase.BACKOFF
    assert [reason for _, _, reason in story.told()].count(Reason.CRASH_LOOPING) == 1


def test_start_clears_a_crash_loop() -> None:
    story = _crashing(RestartPolicy(mode=RestartMode.ALWAYS, max_attempts=1, window_s=3600))
    due_at = story.session.next_attempt_at
    assert due_at is not None
    story(DeadlineReached(observed_at=due_at))
    _crash(story, 40)
    assert story.session.reason is Reason.CRASH_LOOPING
    reply = story(make.verb(Verb.START, 50)).reply
    assert reply is not None
    assert reply.accepted
    assert not story.session.crash_looping
    assert (story.session.granted_at, story.session.backoff_step) == ((), 0)


def test_ten_minutes_of_running_begin_the_back_off_anew() -> None:
    story = _crashing(RestartPolicy(mode=RestartMode.ALWAYS))
    for ran_s in (1.0, 1.0, 700.0):
        due_at = story.session.next_attempt_at
        assert due_at is not None
        story(DeadlineReached(observed_at=due_at))
        _crash(story, (due_at - make.T0) / 1e9 + ran_s + 1, ran_s=ran_s)
    assert story.session.backoff_step == 1


def test_what_a_person_stopped_is_not_restarted() -> None:
    story = running_session(make.spec(RestartMode.ALWAYS))
    story(make.verb(Verb.STOP, 3))
    story(make.outcome(story.action, 4, shot=make.exited(0, finished_s=3.9)))
    assert story.session.desired is Desired.STOPPED
    assert story.session.due_at is None
    story(ControllerStarted(observed_at=make.at(100)))
    assert story.session.phase is Phase.STOPPED
    assert story.session.open_actions == ()


def test_an_engine_that_restarts_it_is_recorded_and_never_doubled() -> None:
    story = Story()
    facts = replace(make.facts(), engine_restart=EngineRestart.ALWAYS, labels={"agentd.restart": "always"})
    story(make.admitted(make.running(facts=facts)))
    story(make.event(EventAction.DIE, 5, exit_code=3))
    story(make.seen(replace(make.exited(3), state=ContainerState.RESTARTING, facts=facts)))
    assert (story.session.phase, story.session.next_attempt_at) == (Phase.BACKOFF, None)
    story(make.event(EventAction.START, 6))
    assert (story.session.phase, story.session.attempt_count) == (Phase.RUNNING, 2)
    assert story.session.engine_restarts == 1
    assert story.actions == []
    assert story.actors()[-1] == "engine"


def test_a_shutdown_of_ours_brings_back_only_what_has_a_policy() -> None:
    for mode, back in ((RestartMode.NO, False), (RestartMode.ON_FAILURE, True), (RestartMode.ALWAYS, True)):
        story = running_session(make.spec(mode))
        story(ControllerStopping(leave_running=False, grace_s=5, observed_at=make.at(3)))
        assert story.action.grace_s == 5
        story(make.outcome(story.action, 4, shot=make.exited(0, finished_s=3.9)))
        assert story.session.reason is Reason.CONTROLLER_SHUTDOWN
        assert story.session.desired is Desired.RUNNING
        story(ControllerStarted(observed_at=make.at(60)))
        assert (story.session.phase is Phase.STARTING) is back


def test_leave_running_touches_nothing() -> None:
    story = running_session(make.spec(RestartMode.ALWAYS))
    story(ControllerStopping(leave_running=True, grace_s=5, observed_at=make.at(3)))
    assert story.actions == []
    assert story.session.phase is Phase.RUNNING


def test_an_external_session_is_never_stopped_at_shutdown() -> None:
    story = Story()
    story(make.admitted(make.running(), origin=Origin.EXTERNAL))
    story(ControllerStopping(leave_running=False, grace_s=5, observed_at=make.at(3)))
    assert story.actions == []


def test_a_start_that_gets_no_certain_answer_is_tried_again_and_not_counted() -> None:
    story = _crashing(RestartPolicy(mode=RestartMode.ALWAYS, max_attempts=2, window_s=3600))
    due_at = story.session.next_attempt_at
    assert due_at is not None
    story(DeadlineReached(observed_at=due_at))
    story(make.outcome(story.action, 200, kind=OutcomeKind.DROPPED))
    assert story.session.phase is Phase.BACKOFF
    assert len(story.session.granted_at) == 1


def test_a_limit_that_cannot_be_reached_is_refused_with_its_arithmetic() -> None:
    refused = unreachable(RestartPolicy(mode=RestartMode.ALWAYS, max_attempts=5, window_s=60))
    assert refused is not None
    assert "20 + 40 + 80 + 160 + 300" in refused
    assert unreachable(RestartPolicy(mode=RestartMode.ALWAYS, max_attempts=5, window_s=3600)) is None
    assert unreachable(RestartPolicy(mode=RestartMode.NO, max_attempts=5, window_s=1)) is None


def test_jitter_is_the_same_in_every_life() -> None:
    assert backoff_s(SessionId("a"), 3) == backoff_s(SessionId("a"), 3)
    assert backoff_s(SessionId("a"), 3) != backoff_s(SessionId("b"), 3)


def test_a_session_without_its_connection_is_restarted_after_the_grace() -> None:
    story = running_session(make.spec(expect_connection=True))
    due_at = story.session.connection_due_at
    assert due_at is not None
    story(DeadlineReached(observed_at=due_at))
    assert story.action.kind is ActionKind.STOP
    story(make.outcome(story.action, 65, shot=make.exited(0, finished_s=64)))
    assert (Phase.STOPPING, Phase.STOPPED, Reason.NOT_CONNECTED) in story.told()
    assert story.session.phase is Phase.BACKOFF


def test_after_a_controller_restart_everybody_gets_the_whole_grace() -> None:
    story = running_session(make.spec(expect_connection=True))
    story(ControllerStarted(observed_at=make.at(5000)))
    assert story.session.connection_due_at == make.at(5060)
    assert story.actions == []


def test_an_end_that_comes_while_its_stop_is_open_is_settled_with_the_outcome() -> None:
    story = running_session(make.spec(expect_connection=True))
    due_at = story.session.connection_due_at
    assert due_at is not None
    story(DeadlineReached(observed_at=due_at))
    stop = story.action
    story(make.event(EventAction.DIE, 62, exit_code=143))
    story(make.seen(make.exited(143, finished_s=62), seconds=62.1))
    assert story.session.next_attempt_at is None
    story(make.outcome(stop, 63, kind=OutcomeKind.GONE))
    assert story.session.phase is Phase.BACKOFF
    assert story.session.container is None


def test_a_session_that_was_never_started_is_left_alone_at_shutdown() -> None:
    story = Story()
    story(make.requested(start=False))
    story(make.outcome(story.action, 0.5, shot=make.snapshot(ContainerState.CREATED, started_s=None)))
    story(ControllerStopping(leave_running=False, grace_s=5, observed_at=make.at(3)))
    assert story.session.phase is Phase.PENDING
    assert story.session.open_actions == ()


def test_a_run_that_begins_after_the_engines_clock_was_set_back_is_a_new_attempt() -> None:
    story = running_session(make.spec(RestartMode.ALWAYS))
    story(make.event(EventAction.DIE, 100, exit_code=3))
    story(make.seen(make.exited(3, finished_s=100), seconds=100.1))
    story(DeadlineReached(observed_at=make.at(120)))
    story(make.outcome(story.action, 121, shot=make.running(started_s=-500)))
    assert story.session.phase is Phase.RUNNING
    assert story.attempt.number == 2
