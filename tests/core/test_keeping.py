"""The container of a session at rest is kept for a time, then removed; the session stays as it ended."""

from dataclasses import replace

import pytest

from controller.core.deadlines import is_at_rest
from controller.core.outlook import outlook
from controller.core.why import explain
from controller.core.wording import clock
from controller.model.action import ActionKind, OutcomeKind
from controller.model.container import ContainerState, EventAction, LogTail, Snapshot
from controller.model.ids import ContainerId
from controller.model.instant import Instant
from controller.model.journal import Evidence, JournalRow, RowKind
from controller.model.observation import (
    ContainerSeen,
    ControllerStarted,
    ControllerStopping,
    DeadlineReached,
    LookCause,
    Verb,
)
from controller.model.phase import Desired, Phase
from controller.model.reason import Reason
from controller.model.session import Origin
from controller.model.spec import RestartMode, RestartPolicy, SessionSpec
from tests.support import builders as make
from tests.support.story import Story, running_session

RULES = replace(make.RULES, keep_failed_s=100.0, keep_stopped_s=10.0)
LAST_WORDS = LogTail(lines=("last words",), truncated=False)
_CREATED = make.snapshot(ContainerState.CREATED, started_s=None)


def _look(shot: Snapshot, seconds: float, cause: LookCause = LookCause.TIMER) -> ContainerSeen:
    return replace(make.seen(shot, seconds=seconds, cause=cause), tail=LAST_WORDS)


def _deadline(story: Story, seconds: float) -> None:
    story(DeadlineReached(observed_at=make.at(seconds)))


def _ended(code: int, *, spec: SessionSpec | None = None) -> Story:
    """A session that ended at second 5 and was looked at."""
    story = running_session(spec, rules=RULES)
    story(make.event(EventAction.DIE, 5, exit_code=code))
    story(_look(make.exited(code), 5, LookCause.EVENT))
    return story


def _pruned(code: int = 1) -> Story:
    story = _ended(code)
    _deadline(story, 105)
    story(_look(make.exited(code), 105))
    story(make.outcome(story.action, 106))
    return story


def test_a_timer_older_than_the_end_that_is_decided_after_it_takes_no_time_away() -> None:
    story = running_session(make.spec(RestartMode.ON_FAILURE, ttl_s=3), rules=RULES)
    story(make.event(EventAction.DIE, 5, exit_code=1))
    story(_look(make.exited(1), 5, LookCause.EVENT))
    assert story.session.phase is Phase.BACKOFF
    _deadline(story, 4.5)
    assert (story.session.phase, story.session.reason) == (Phase.STOPPED, Reason.EXPIRED)
    assert story.session.due_at == make.at(15)


@pytest.mark.parametrize(("code", "until"), [(1, 105), (0, 15)])
def test_the_container_is_kept_for_its_time_and_then_removed(code: int, until: int) -> None:
    story = _ended(code)
    assert story.session.due_at == make.at(until)
    _deadline(story, until - 1)
    assert (story.actions, story.last.looks) == ([], ())
    _deadline(story, until)
    assert [wish.container for wish in story.last.looks] == [make.CONTAINER]
    story(_look(make.exited(code), until))
    assert (story.action.kind, story.action.container) == (ActionKind.REMOVE, make.CONTAINER)
    assert story.action.started_at == make.at(1)


def test_the_session_stays_as_it_ended_and_only_the_container_goes() -> None:
    before, after = _ended(1).session, _pruned(1).session
    assert (after.container, after.removed_at, after.due_at) == (None, None, None)
    assert (after.phase, after.reason, after.since) == (before.phase, before.reason, before.since)
    assert (after.attempt, after.attempt_count) == (before.attempt, before.attempt_count)


def test_it_is_told_once_by_the_controller_in_a_row_that_moves_nothing() -> None:
    story = _pruned()
    story(make.event(EventAction.DESTROY, 105.5))
    told = [row for row in story.rows if row.reason is Reason.CONTAINER_PRUNED]
    assert [(row.from_phase, row.to_phase, row.actor, row.kind) for row in told] == [
        (Phase.FAILED, Phase.FAILED, "controller", RowKind.TRANSITION)
    ]
    assert [row.action for row in story.rows if row.kind is RowKind.ACTION] == ["remove done"]


def test_with_nothing_to_wait_for_what_ended_well_is_removed_at_once_with_its_evidence_in_the_same_commit() -> None:
    story = running_session(rules=replace(RULES, keep_stopped_s=0.0))
    story(make.event(EventAction.DIE, 5, exit_code=0))
    assert story.actions == []
    story(_look(make.exited(0), 5, LookCause.EVENT))
    assert story.action.kind is ActionKind.REMOVE
    assert [one.tail for one in story.last.evidence] == [LAST_WORDS]


def test_what_is_about_to_be_lost_is_committed_before_the_removal() -> None:
    story = running_session(rules=RULES)
    story(make.event(EventAction.DIE, 5, exit_code=1))
    story(make.seen(make.exited(1), seconds=5))
    _deadline(story, 105)
    assert [wish.tail for wish in story.last.looks] == [True]
    story(make.seen(make.exited(1), seconds=106, cause=LookCause.TIMER))
    assert story.actions == []
    assert all(wish.tail and wish.delay_s > 0 for wish in story.last.looks[-1:])
    story(_look(make.exited(1), 107))
    assert story.action.kind is ActionKind.REMOVE


def test_lines_that_could_not_be_had_at_its_end_are_kept_before_they_are_lost() -> None:
    story = running_session(rules=RULES)
    story(make.event(EventAction.DIE, 5, exit_code=1))
    story(replace(_look(make.exited(1), 5), tail=LogTail(lines=(), truncated=False, absent="could not ask")))
    _deadline(story, 105)
    assert [wish.tail for wish in story.last.looks] == [True]
    story(_look(make.exited(1), 105))
    assert ([one.tail for one in story.last.evidence], story.action.kind) == ([LAST_WORDS], ActionKind.REMOVE)


def test_kept_for_ever_means_that_nothing_is_ever_due() -> None:
    story = running_session()
    story(make.event(EventAction.DIE, 5, exit_code=1))
    story(_look(make.exited(1), 5))
    assert story.session.due_at is None


@pytest.mark.parametrize("mode", ["observe", "restart"])
def test_only_where_the_mode_is_manage(mode: str) -> None:
    story = running_session(rules=RULES)
    story.rules = replace(RULES, may_manage=False, may_restart=mode == "restart")
    story(make.event(EventAction.DIE, 5, exit_code=1))
    story(_look(make.exited(1), 5))
    _deadline(story, 200)
    story(_look(make.exited(1), 200))
    assert (story.session.due_at, story.actions) == (None, [])


@pytest.mark.parametrize("origin", [Origin.EXTERNAL, Origin.ADOPTED])
def test_a_container_that_we_did_not_make_is_kept(origin: Origin) -> None:
    story = Story(RULES)
    story(make.admitted(make.running(), origin=origin))
    story(make.event(EventAction.DIE, 5, exit_code=1))
    story(_look(make.exited(1), 5))
    _deadline(story, 1000)
    story(_look(make.exited(1), 1000))
    assert (story.session.phase, story.actions) == (Phase.FAILED, [])


def test_nothing_is_removed_while_a_next_attempt_is_due() -> None:
    story = _ended(1, spec=make.spec(RestartMode.ALWAYS))
    assert story.session.phase is Phase.BACKOFF
    story(_look(make.exited(1), 8))
    assert (story.actions, is_at_rest(story.session)) == ([], False)


def test_a_crash_loop_with_a_slow_retry_is_not_at_rest() -> None:
    policy = RestartPolicy(mode=RestartMode.ALWAYS, max_attempts=0, slow_retry_s=10_000.0)
    story = _ended(1, spec=replace(make.spec(), restart=policy))
    assert (story.session.crash_looping, story.session.due_at) == (True, story.session.next_attempt_at)
    story(_look(make.exited(1), 500))
    assert story.actions == []


def test_a_crash_loop_that_is_over_is_at_rest() -> None:
    policy = RestartPolicy(mode=RestartMode.ALWAYS, max_attempts=0)
    story = _ended(1, spec=replace(make.spec(), restart=policy))
    assert (story.session.reason, story.session.due_at) == (Reason.CRASH_LOOPING, make.at(105))


def test_a_stop_that_may_still_have_been_the_engines_own_is_waited_for() -> None:
    story = running_session(rules=replace(RULES, keep_stopped_s=0.0))
    story(make.event(EventAction.KILL, 4, signal=15))
    story(make.event(EventAction.DIE, 5, exit_code=143))
    story(make.event(EventAction.STOP, 5))
    story(_look(make.exited(143), 5))
    assert (story.session.reason, story.actions) == (Reason.STOPPED_EXTERNALLY, [])
    _deadline(story, 36)
    story(_look(make.exited(143), 36))
    assert story.action.kind is ActionKind.REMOVE


def test_whoever_starts_it_in_time_keeps_its_container() -> None:
    story = _ended(1)
    story(make.verb(Verb.START, 50))
    _deadline(story, 105)
    assert [one.kind for one in story.actions] == [ActionKind.START]


def test_whoever_started_it_on_the_engine_unseen_keeps_its_container() -> None:
    story = _ended(1)
    _deadline(story, 105)
    story(make.seen(make.running(started_s=104), seconds=105, cause=LookCause.TIMER))
    assert (story.session.phase, story.actions) == (Phase.RUNNING, [])


@pytest.mark.parametrize("state", [ContainerState.REMOVING, ContainerState.UNKNOWN, ContainerState.RUNNING])
def test_a_look_that_does_not_show_it_ended_removes_nothing(state: ContainerState) -> None:
    story = _ended(1)
    story(_look(replace(make.exited(1), state=state), 105))
    assert story.actions == []


def test_a_start_while_the_removal_is_under_way_makes_a_new_container() -> None:
    story = _ended(1)
    story(_look(make.exited(1), 105))
    reply = story(make.verb(Verb.START, 105.5)).reply
    assert reply is not None
    assert reply.accepted
    story(make.outcome(story.action, 106))
    assert (story.action.kind, story.session.container, story.session.desired) == (
        ActionKind.CREATE,
        None,
        Desired.RUNNING,
    )


def test_a_start_afterwards_makes_it_anew_as_its_next_attempt() -> None:
    story = _pruned()
    story(make.verb(Verb.START, 200))
    assert story.action.kind is ActionKind.CREATE
    other = make.facts(ContainerId("d" * 64))
    story(make.outcome(story.action, 201, shot=replace(_CREATED, facts=other)))
    story(make.outcome(story.action, 202, shot=make.running(started_s=201.5, facts=other)))
    assert (story.session.phase, story.session.attempt_count) == (Phase.RUNNING, 2)


def test_a_destroy_before_the_outcome_is_ours_and_nobody_elses() -> None:
    story = _ended(1)
    story(_look(make.exited(1), 105))
    action = story.action
    story(make.event(EventAction.DESTROY, 105.5))
    story(make.outcome(action, 106, kind=OutcomeKind.GONE))
    assert (story.session.removed_at, story.session.reason) == (None, Reason.ERROR_EXIT)
    assert [row.reason for row in story.rows if row.kind is RowKind.TRANSITION][-1:] == [Reason.CONTAINER_PRUNED]


def test_a_destroy_in_place_of_an_answer_is_ours_too() -> None:
    story = _ended(1)
    _deadline(story, 105)
    story(_look(make.exited(1), 105))
    story(make.event(EventAction.DESTROY, 105.5))
    story(make.outcome(story.action, 4000, kind=OutcomeKind.DROPPED))
    assert Reason.CONTAINER_PRUNED in [row.reason for row in story.last.rows]
    assert (story.session.container, story.session.removed_at, story.session.due_at) == (None, None, None)


def test_an_engine_that_gave_no_answer_is_asked_again_later_and_not_at_once() -> None:
    story = _ended(1)
    story(_look(make.exited(1), 105))
    story(make.outcome(story.action, 225, kind=OutcomeKind.DROPPED))
    story(_look(make.exited(1), 226, LookCause.ACTION))
    assert (story.session.open_actions, story.session.due_at) == ((), make.at(525))
    _deadline(story, 525)
    story(_look(make.exited(1), 526))
    assert story.action.kind is ActionKind.REMOVE


def test_a_removal_without_an_answer_that_was_done_after_all_is_ours() -> None:
    story = _ended(1)
    story(_look(make.exited(1), 105))
    story(make.outcome(story.action, 225, kind=OutcomeKind.DROPPED))
    story(make.absent(seconds=226))
    assert (story.session.removed_at, story.session.container) == (None, None)
    assert story.told()[-1] == (Phase.FAILED, Phase.FAILED, Reason.CONTAINER_PRUNED)


def _superseded() -> Story:
    """A removal without an answer, and a start by somebody before anybody could ask again."""
    story = _ended(1)
    story(_look(make.exited(1), 105))
    story(make.event(EventAction.START, 120))
    superseded = make.outcome(story.action, 121, kind=OutcomeKind.SUPERSEDED, shot=make.running(started_s=120))
    story(replace(superseded, outcome=replace(superseded.outcome, maybe_done=True)))
    assert story.session.phase is Phase.RUNNING
    return story


def test_a_removal_that_comes_late_though_it_was_given_up_is_ours() -> None:
    story = _superseded()
    story(make.event(EventAction.DIE, 130, exit_code=0))
    story(_look(replace(make.exited(0), started_at=make.at(120)), 130.5, LookCause.EVENT))
    story(make.event(EventAction.DESTROY, 150))
    assert (story.session.removed_at, story.session.container) == (None, None)
    assert story.told()[-1] == (Phase.STOPPED, Phase.STOPPED, Reason.CONTAINER_PRUNED)


def _restarted_while_its_removal_is_unanswered() -> Story:
    story = _ended(1)
    story(_look(make.exited(1), 105))
    story(make.verb(Verb.RESTART, 106))
    story(make.outcome(story.action, 225, kind=OutcomeKind.DROPPED))
    assert (story.session.phase, story.action.kind) == (Phase.STARTING, ActionKind.START)
    return story


@pytest.mark.parametrize("told", [True, False])
def test_a_removal_that_comes_late_is_ours_though_a_start_was_asked_for_and_that_makes_it_anew(*, told: bool) -> None:
    story = _restarted_while_its_removal_is_unanswered()
    start = story.action
    if told:
        story(make.event(EventAction.DESTROY, 226))
    story(make.outcome(start, 227, kind=OutcomeKind.GONE))
    assert [row.reason for row in story.rows].count(Reason.CONTAINER_PRUNED) == 1
    assert (story.action.kind, story.session.desired) == (ActionKind.CREATE, Desired.RUNNING)


@pytest.mark.parametrize("told", [True, False])
def test_a_session_that_was_stopped_meanwhile_stays_without_its_container(*, told: bool) -> None:
    story = _restarted_while_its_removal_is_unanswered()
    start = story.action
    story(make.verb(Verb.STOP, 225.5))
    if told:
        story(make.event(EventAction.DESTROY, 226))
    story(make.outcome(start, 227, kind=OutcomeKind.GONE))
    assert [row.reason for row in story.rows].count(Reason.CONTAINER_PRUNED) == 1
    assert (story.session.phase, story.session.removed_at, story.session.container) == (Phase.STOPPED, None, None)


def test_whoever_removes_it_by_force_or_much_later_is_somebody_else() -> None:
    forced = _superseded()
    forced(make.event(EventAction.KILL, 130, signal=9))
    forced(make.event(EventAction.DIE, 130.1, exit_code=137))
    forced(make.event(EventAction.DESTROY, 130.2))
    assert forced.session.removed_at == make.at(130.2)
    late = _superseded()
    late(make.event(EventAction.DIE, 130, exit_code=0))
    late(make.event(EventAction.DESTROY, 450))
    assert late.session.removed_at == make.at(450)


def test_what_somebody_else_removed_in_the_meantime_is_theirs() -> None:
    story = _ended(1)
    story(make.event(EventAction.DESTROY, 50))
    assert story.session.removed_at == make.at(50)
    assert [row.actor for row in story.rows if row.kind is RowKind.TRANSITION][-1] == "external"


def test_a_removal_on_request_while_the_container_goes_takes_the_session_too() -> None:
    story = _ended(1)
    story(_look(make.exited(1), 105))
    story(make.verb(Verb.REMOVE, 105.5))
    story(make.outcome(story.action, 106))
    assert story.session.removed_at == make.at(106)


def test_what_was_removed_on_request_can_still_go_when_the_container_is_gone_already() -> None:
    story = _pruned()
    story(make.verb(Verb.REMOVE, 200))
    assert story.session.removed_at == make.at(200)


def test_a_new_life_counts_the_time_that_went_by_and_no_clock_that_was_set_back() -> None:
    story = _ended(1)
    story(ControllerStarted(observed_at=make.at(90)))
    assert story.session.due_at == make.at(105)
    story(ControllerStarted(observed_at=make.at(-1000)))
    assert story.session.due_at == make.at(-900)
    story.rules = replace(RULES, keep_failed_s=1.0)
    story(ControllerStarted(observed_at=make.at(-999)))
    assert story.session.due_at == make.at(-999)


@pytest.mark.parametrize(("mode", "until"), [(RestartMode.NO, make.at(14)), (RestartMode.ALWAYS, None)])
def test_what_our_shutdown_stopped_is_kept_for_who_brings_it_back_and_else_for_its_time(
    mode: RestartMode, until: Instant | None
) -> None:
    story = running_session(make.spec(mode), rules=RULES)
    story(ControllerStopping(leave_running=False, grace_s=5, observed_at=make.at(3)))
    story(make.outcome(story.action, 4, shot=make.exited(0, finished_s=4)))
    story(_look(make.exited(0, finished_s=4), 4))
    assert (story.session.reason, story.session.due_at) == (Reason.CONTROLLER_SHUTDOWN, until)


@pytest.mark.parametrize("looked", [True, False])
def test_a_container_that_was_never_started_goes_too(looked: bool) -> None:  # noqa: FBT001 - a table's column
    story = Story(RULES)
    story(make.requested(start=False))
    story(make.outcome(story.action, 0.5, shot=_CREATED))
    assert story.session.due_at is None
    story(make.verb(Verb.STOP, 1))
    assert story.told()[-1] == (Phase.PENDING, Phase.STOPPED, Reason.STOPPED_BY_REQUEST)
    _deadline(story, 11)
    story(_look(_CREATED, 11) if looked else make.seen(_CREATED, seconds=11))
    story(make.outcome(story.action, 13))
    story(make.verb(Verb.START, 20))
    assert [one.kind for one in story.actions] == [ActionKind.CREATE, ActionKind.REMOVE, ActionKind.CREATE]


def test_a_container_whose_second_start_was_refused_goes_too() -> None:
    story = _ended(0)
    story(make.verb(Verb.START, 6))
    refused = replace(make.exited(127), error="no such command")
    story(make.outcome(story.action, 7, kind=OutcomeKind.REFUSED, shot=refused, message="no such command"))
    assert (story.session.phase, story.session.due_at) == (Phase.FAILED, make.at(107))
    story(_look(refused, 108))
    assert story.action.kind is ActionKind.REMOVE


def test_why_says_afterwards_that_the_controller_removed_it_and_shows_what_was_kept() -> None:
    story = _pruned()
    rows = [
        JournalRow(seq=seq, decision=seq, committed_at=row.observed_at, draft=row)
        for seq, row in enumerate(story.rows, start=1)
    ]
    kept = Evidence(
        session_id=story.session.id,
        attempt=1,
        container_id=make.CONTAINER,
        kept_at=make.at(5),
        tail=LAST_WORDS,
        probes=(),
        state="",
    )
    told = explain(session=story.session, rows=rows, evidence=kept, now=make.at(200))
    assert told.sentence == "worker ended with an error after 4 s: its program returned exit code 1."
    assert any("container_pruned; by the controller" in fact for fact in told.facts)
    assert told.facts[-1] == "| last words"
    removed_at = clock(make.at(106), now=make.at(200))
    assert told.outlook.endswith(
        f" The controller removed its container at {removed_at}, when its time was over; a start makes a new one."
    )


def test_the_outlook_says_until_when_it_is_kept() -> None:
    story = _ended(1)
    assert "Its container is kept until" in outlook(story.session, now=make.at(50))
    assert "about to be removed" in outlook(story.session, now=make.at(106))
    assert "kept until" not in outlook(_pruned().session, now=make.at(200))
