"""How attempts end: by themselves, by us, by somebody else, by the engine."""

from dataclasses import replace

import pytest

from controller.model.container import EventAction, LogTail
from controller.model.exit import Confidence, Verdict
from controller.model.observation import DeadlineReached, EngineLost, LookCause, Verb
from controller.model.phase import Desired, Phase
from controller.model.reason import Reason, Source
from controller.model.session import Origin
from controller.model.spec import RestartMode
from tests.support import builders as make
from tests.support.story import Story, running_session


@pytest.mark.parametrize(
    ("code", "phase", "reason"),
    [(0, Phase.STOPPED, Reason.EXITED), (3, Phase.FAILED, Reason.ERROR_EXIT), (139, Phase.FAILED, Reason.SIGNALLED)],
)
def test_an_end_by_itself_is_told_at_the_die_event(code: int, phase: Phase, reason: Reason) -> None:
    story = running_session()
    story(make.event(EventAction.DIE, 5, exit_code=code))
    assert (story.session.phase, story.session.reason) == (phase, reason)
    assert story.attempt.exit is not None
    assert story.attempt.exit.exit_code == code
    assert [wish.tail for wish in story.last.looks] == [True]


def test_without_a_policy_the_ended_session_wants_nothing_more() -> None:
    story = running_session()
    story(make.event(EventAction.DIE, 5, exit_code=3))
    story(make.seen(make.exited(3)))
    assert story.session.desired is Desired.STOPPED
    assert story.session.due_at is None
    assert story.actions == []


def test_a_label_called_exit_code_does_not_make_a_crash_look_clean() -> None:
    story = Story()
    story(make.admitted(make.running(facts=make.facts(exitCode="0"))))
    story(make.event(EventAction.DIE, 5, exit_code=0))
    assert story.session.phase is Phase.RUNNING
    story(make.seen(make.exited(3)))
    assert (story.session.phase, story.session.reason) == (Phase.FAILED, Reason.ERROR_EXIT)


def test_docker_stop_is_somebody_elses_and_stays_down() -> None:
    story = running_session(make.spec(RestartMode.ALWAYS))
    story(make.event(EventAction.KILL, 4, signal=15))
    story(make.event(EventAction.DIE, 5, exit_code=143))
    story(make.event(EventAction.STOP, 5.01))
    story(make.seen(make.exited(143)))
    assert (story.session.phase, story.session.reason) == (Phase.STOPPED, Reason.STOPPED_EXTERNALLY)
    assert (story.session.desired, story.session.due_at) == (Desired.RUNNING, make.at(35))
    story(DeadlineReached(observed_at=make.at(35)))
    assert (story.session.desired, story.session.due_at) == (Desired.STOPPED, None)
    assert story.actions == []


def test_docker_kill_and_docker_rm_force_are_told_apart() -> None:
    killed = running_session()
    killed(make.event(EventAction.KILL, 5, signal=9))
    killed(make.event(EventAction.DIE, 5.1, exit_code=137))
    assert killed.session.reason is Reason.KILLED_EXTERNALLY
    removed = running_session()
    removed(make.event(EventAction.KILL, 5, signal=9))
    removed(make.event(EventAction.DIE, 5.1, exit_code=137))
    removed(make.event(EventAction.DESTROY, 5.2))
    assert removed.session.reason is Reason.REMOVED_EXTERNALLY
    assert removed.session.removed_at == make.at(5.2)


@pytest.mark.parametrize(
    ("code", "reason", "signal"), [(137, Reason.KILLED_EXTERNALLY, 9), (143, Reason.STOPPED_EXTERNALLY, 15)]
)
def test_a_kill_that_names_no_signal_explains_the_end_that_it_led_to(code: int, reason: Reason, signal: int) -> None:
    story = running_session(make.spec(RestartMode.ON_FAILURE))
    story(make.event(EventAction.KILL, 5))
    story(make.event(EventAction.DIE, 5.1, exit_code=code))
    story(make.seen(make.exited(code, finished_s=5.1)))
    assert (story.session.phase, story.session.reason, story.session.next_attempt_at) == (Phase.STOPPED, reason, None)
    assert story.attempt.exit is not None
    assert (story.attempt.exit.signal, story.attempt.exit.confidence) == (signal, Confidence.LIKELY)
    assert any("without a signal's name" in fact for fact in story.attempt.exit.evidence)


def test_a_label_called_signal_does_not_make_a_kill_look_like_a_crash() -> None:
    story = Story()
    story(make.admitted(make.running(facts=make.facts(agentd_restart="on-failure", signal="0"))))
    story(make.event(EventAction.KILL, 5, signal=1))
    story(make.event(EventAction.DIE, 5.1, exit_code=137))
    assert (story.session.phase, story.session.reason) == (Phase.STOPPED, Reason.KILLED_EXTERNALLY)
    story(make.event(EventAction.STOP, 5.2))
    assert story.session.reason is Reason.STOPPED_EXTERNALLY
    assert story.attempt.exit is not None
    assert story.attempt.exit.confidence is Confidence.CERTAIN


@pytest.mark.parametrize(("code", "after_s"), [(137, 3600), (3, 1), (0, 1), (145, 1), (200, 1)])
def test_a_kill_that_names_no_signal_explains_no_end_long_after_nor_one_by_no_signal(code: int, after_s: float) -> None:
    unexplained, story = running_session(), running_session()
    story(make.event(EventAction.KILL, 5))
    for each in (unexplained, story):
        each(make.event(EventAction.DIE, 5 + after_s, exit_code=code))
    assert story.session.reason is unexplained.session.reason
    assert story.attempt.exit == unexplained.attempt.exit


def test_a_hup_long_ago_explains_nothing() -> None:
    story = running_session()
    story(make.event(EventAction.KILL, 4, signal=1))
    story(make.event(EventAction.DIE, 3600, exit_code=1))
    assert (story.session.phase, story.session.reason) == (Phase.FAILED, Reason.ERROR_EXIT)


def test_the_daemons_own_stop_is_not_taken_for_a_persons() -> None:
    story = running_session(make.spec(RestartMode.ALWAYS))
    story(make.event(EventAction.KILL, 4, signal=15))
    story(make.event(EventAction.DIE, 5, exit_code=143))
    story(EngineLost(observed_at=make.at(6)))
    assert story.session.reason is Reason.BACKOFF
    assert (Phase.STOPPED, Phase.STOPPED, Reason.ENGINE_RESTART) in story.told()
    assert story.session.next_attempt_at is not None
    assert story.session.desired is Desired.RUNNING


def test_a_stop_read_in_an_unproven_replay_is_the_engines() -> None:
    story = running_session()
    story(make.event(EventAction.KILL, 4, signal=15, replayed=True, continuous=False))
    story(make.event(EventAction.DIE, 5, exit_code=143, replayed=True, continuous=False))
    assert story.session.reason is Reason.ENGINE_RESTART


def test_a_stop_of_ours_is_by_request_whatever_the_code() -> None:
    story = running_session(make.spec(RestartMode.ALWAYS))
    story(make.verb(Verb.STOP, 3))
    assert story.session.phase is Phase.STOPPING
    action = story.action
    story(make.event(EventAction.KILL, 3.1, signal=15))
    story(make.event(EventAction.KILL, 13.1, signal=9))
    story(make.event(EventAction.DIE, 13.2, exit_code=137))
    story(make.outcome(action, 13.3, shot=make.exited(137, finished_s=13.2)))
    assert (story.session.phase, story.session.reason) == (Phase.STOPPED, Reason.STOPPED_BY_REQUEST)
    assert story.attempt.exit is not None
    assert story.attempt.exit.verdict is Verdict.STOPPED_BY_FORCE
    assert story.session.due_at is None


def test_an_end_while_nobody_watched_is_inferred() -> None:
    story = running_session()
    story(make.seen(make.exited(3), cause=LookCause.SWEEP))
    assert story.session.phase is Phase.FAILED
    assert story.rows[0].source is Source.INFERRED


def test_a_container_that_is_gone_without_an_end_is_lost_and_tells_no_code() -> None:
    story = running_session()
    story(make.absent(cause=LookCause.SWEEP))
    assert (story.session.phase, story.session.reason) == (Phase.FAILED, Reason.LOST)
    assert story.attempt.exit is not None
    assert story.attempt.exit.exit_code is None


def test_gone_after_its_end_was_known_keeps_the_reason() -> None:
    story = Story()
    story(make.admitted(make.running()))
    story(make.event(EventAction.DIE, 5, exit_code=3))
    story(make.event(EventAction.DESTROY, 5.1))
    assert (story.session.phase, story.session.reason) == (Phase.FAILED, Reason.ERROR_EXIT)
    assert story.session.removed_at == make.at(5.1)


def test_a_255_that_nobody_saw_is_not_believed() -> None:
    story = running_session()
    story(make.seen(make.exited(255), cause=LookCause.SWEEP))
    assert story.session.reason is Reason.EXIT_UNKNOWN
    assert story.attempt.exit is not None
    assert story.attempt.exit.exit_code is None


def test_oom_of_the_main_process_and_of_a_child_are_told_apart() -> None:
    main = running_session()
    main(make.event(EventAction.OOM, 4.9))
    main(make.event(EventAction.DIE, 5, exit_code=137))
    main(make.seen(make.exited(137, oom=True)))
    assert main.session.reason is Reason.OOM_KILLED
    child = running_session()
    child(make.event(EventAction.OOM, 3))
    assert child.session.phase is Phase.RUNNING
    child(make.event(EventAction.DIE, 5, exit_code=3))
    child(make.seen(make.exited(3, oom=True)))
    assert child.session.reason is Reason.ERROR_EXIT


def test_the_evidence_of_an_orphan_is_kept_before_it_is_removed() -> None:

    story = Story()
    story(make.admitted(make.exited(3), origin=Origin.ORPHAN))
    assert story.actions == []
    assert [wish.tail for wish in story.last.looks] == [True, True] or story.last.looks[0].tail
    tail = LogTail(lines=("last words",), truncated=False)

    story(replace(make.seen(make.exited(3)), tail=tail))
    assert [one.tail.lines for one in story.last.evidence] == [("last words",)]
    assert [action.kind for action in story.last.actions] == ["remove"]
    story(make.outcome(story.action, 8))
    assert story.session.removed_at == make.at(8)
    assert story.session.reason is Reason.ORPHAN_REMOVED


def test_a_stop_with_a_long_time_out_is_known_by_its_stop_event_even_after_the_die() -> None:
    story = Story()
    story(make.admitted(make.running(facts=replace(make.facts(), labels={"agentd.restart": "always"}))))
    story(make.event(EventAction.KILL, 4, signal=15))
    story(make.event(EventAction.DIE, 60, exit_code=3))
    story(make.event(EventAction.STOP, 60.01))
    assert (story.session.phase, story.session.reason) == (Phase.STOPPED, Reason.STOPPED_EXTERNALLY)
    story(make.seen(make.exited(3, finished_s=60), seconds=60.1))
    assert (story.session.next_attempt_at, story.session.reason) == (None, Reason.STOPPED_EXTERNALLY)
    story(DeadlineReached(observed_at=make.at(91)))
    assert story.session.desired is Desired.STOPPED


def test_a_kill_before_a_gap_and_an_end_within_it_are_the_engines() -> None:
    story = running_session(make.spec(RestartMode.ALWAYS))
    story(make.event(EventAction.KILL, 4, signal=15))
    story(replace(make.seen(make.exited(143, finished_s=5), cause=LookCause.SWEEP), in_gap=True))
    assert (Phase.RUNNING, Phase.STOPPED, Reason.ENGINE_RESTART) in story.told()
    assert story.session.phase is Phase.BACKOFF
