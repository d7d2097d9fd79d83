"""What comes back by itself, and what does not: after a stop of ours, a pause, a shutdown."""

from dataclasses import replace

from controller.model.action import ActionKind, OutcomeKind
from controller.model.container import ContainerState, EngineRestart, EventAction
from controller.model.observation import ControllerStarted, ControllerStopping, DeadlineReached, LookCause, Verb
from controller.model.phase import Desired, Health, Phase
from controller.model.reason import Reason
from controller.model.spec import RestartMode
from tests.support import builders as make
from tests.support.story import Story, running_session

_CREATED = make.snapshot(ContainerState.CREATED, started_s=None)


def test_what_was_stopped_for_being_unhealthy_is_started_again_also_where_the_engine_has_a_policy() -> None:
    # An engine's own policy starts nothing that was stopped through its API.
    facts = replace(make.facts(agentd_watch="true"), engine_restart=EngineRestart.UNLESS_STOPPED, has_probe=True)
    facts = replace(facts, labels={**facts.labels, "agentd.unhealthy-restart-s": "10"})
    story = Story()
    sick = make.running(facts=facts, health=Health.UNHEALTHY)
    story(make.admitted(sick))
    assert story(DeadlineReached(observed_at=make.at(10))).looks
    story(make.seen(sick, seconds=10.5))
    story(make.event(EventAction.KILL, 11, signal=15))
    story(make.event(EventAction.DIE, 12, exit_code=143))
    story(make.outcome(story.action, 12.1, shot=replace(make.exited(143, finished_s=12), facts=facts)))
    assert (story.session.phase, story.session.desired) == (Phase.BACKOFF, Desired.RUNNING)
    due_at = story.session.next_attempt_at
    assert due_at is not None
    story(DeadlineReached(observed_at=due_at))
    assert story.action.kind is ActionKind.START


def test_what_is_well_by_the_time_it_is_looked_at_is_not_restarted_for_having_been_unhealthy() -> None:
    facts = replace(make.facts(agentd_watch="true"), has_probe=True)
    facts = replace(facts, labels={**facts.labels, "agentd.unhealthy-restart-s": "10"})
    sick, well = (make.running(facts=facts, health=health) for health in (Health.UNHEALTHY, Health.HEALTHY))
    story = Story()
    story(make.admitted(sick))
    # An answer that was asked for before the time was over says nothing of what is now.
    story(DeadlineReached(observed_at=make.at(10)))
    story(replace(make.seen(sick, seconds=10.5), asked_at=make.at(9.9)))
    assert not story.session.open_actions
    story(make.seen(well, seconds=11))
    story(DeadlineReached(observed_at=make.at(100)))
    assert not story.session.open_actions


def test_what_was_unhealthy_before_a_downtime_of_ours_has_its_whole_time_again() -> None:
    facts = replace(make.facts(agentd_watch="true"), has_probe=True)
    facts = replace(facts, labels={**facts.labels, "agentd.unhealthy-restart-s": "10"})
    sick = make.running(facts=facts, health=Health.UNHEALTHY)
    story = Story()
    story(make.admitted(sick))
    story(ControllerStarted(observed_at=make.at(3600)))
    story(make.seen(sick, seconds=3601, cause=LookCause.SWEEP))
    assert not story.session.open_actions
    assert story.session.due_at == make.at(3610)


def test_a_pause_does_not_excuse_a_session_from_its_connection() -> None:
    story = running_session(make.spec(expect_connection=True))
    story(make.event(EventAction.PAUSE, 3))
    assert story.session.connection_due_at is None
    story(make.event(EventAction.UNPAUSE, 500))
    assert story.session.connection_due_at == make.at(560)


def test_a_stop_for_lack_of_a_connection_that_did_not_happen_is_tried_again_after_the_grace() -> None:
    story = running_session(make.spec(expect_connection=True))
    story(DeadlineReached(observed_at=make.at(100)))
    story(make.outcome(story.action, 230, kind=OutcomeKind.DROPPED))
    assert story.session.phase is Phase.RUNNING
    assert story.session.connection_due_at == make.at(290)


def test_what_somebody_asked_to_stop_does_not_come_back_because_a_shutdown_overtook_it() -> None:
    story = Story()
    story(make.requested(make.spec(RestartMode.ALWAYS)))
    story(make.outcome(story.action, 0.5, shot=_CREATED))
    story(make.verb(Verb.STOP, 1))
    story(ControllerStopping(leave_running=False, grace_s=10, observed_at=make.at(2)))
    story(make.outcome(story.action, 3, shot=make.running()))
    story(make.outcome(story.action, 4, shot=make.exited(143, finished_s=4)))
    assert story.session.reason is Reason.STOPPED_BY_REQUEST
    story(ControllerStarted(observed_at=make.at(50)))
    assert (story.session.phase, story.session.open_actions) == (Phase.STOPPED, ())


def test_a_stop_of_our_shutdown_in_the_engines_own_back_off_is_told_as_that_by_its_event_too() -> None:
    story = running_session(make.spec(RestartMode.ALWAYS))
    updated = replace(make.facts(), engine_restart=EngineRestart.ALWAYS)
    story(make.seen(make.running(facts=updated), seconds=1.8, cause=LookCause.SWEEP))
    story(make.event(EventAction.DIE, 2, exit_code=3))
    assert story.session.engine_backs_off
    story(ControllerStopping(leave_running=False, grace_s=10, observed_at=make.at(3)))
    story(make.event(EventAction.STOP, 3.1))
    assert (story.session.phase, story.session.reason) == (Phase.STOPPED, Reason.CONTROLLER_SHUTDOWN)


def test_what_a_shutdown_stopped_comes_back_though_nobody_could_say_how_the_stop_went() -> None:
    story = running_session(make.spec(RestartMode.ALWAYS))
    story(ControllerStopping(leave_running=False, grace_s=10, observed_at=make.at(2)))
    stop = story.action
    story(make.event(EventAction.DIE, 3, exit_code=143))
    story(ControllerStarted(observed_at=make.at(50)))
    story(make.outcome(stop, 51, kind=OutcomeKind.DROPPED))
    assert story.action.kind is ActionKind.START


def test_an_attempt_that_is_due_gets_a_new_container_where_the_old_one_went_unseen() -> None:
    story = running_session(make.spec(RestartMode.ON_FAILURE))
    story(make.event(EventAction.DIE, 2, exit_code=3))
    story(make.seen(make.exited(3, finished_s=2), seconds=2.1))
    due_at = story.session.next_attempt_at
    assert due_at is not None
    story(DeadlineReached(observed_at=due_at))
    story(make.outcome(story.action, 30, kind=OutcomeKind.GONE))
    assert story.session.removed_at is None
    assert story.action.kind is ActionKind.CREATE


def test_a_request_to_stop_what_the_engine_was_about_to_start_again_is_told_as_a_request() -> None:
    facts = replace(make.facts(agentd_watch="true"), engine_restart=EngineRestart.ALWAYS)
    story = Story()
    story(make.admitted(make.running(facts=facts)))
    story(make.event(EventAction.DIE, 5, exit_code=1))
    story(make.verb(Verb.STOP, 6))
    story(make.event(EventAction.STOP, 7))
    assert (story.session.phase, story.session.reason) == (Phase.STOPPED, Reason.STOPPED_BY_REQUEST)
    assert story.rows[-1].actor == "user:test"
