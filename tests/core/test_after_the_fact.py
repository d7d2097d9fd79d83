"""What a look may conclude of what nobody saw: no more than the engine still tells."""

from dataclasses import replace

import pytest

from controller.model.action import ActionKind, OutcomeKind
from controller.model.container import ContainerFacts, ContainerState, EngineRestart, EventAction, Snapshot
from controller.model.exit import Confidence
from controller.model.ids import ContainerId
from controller.model.observation import DeadlineReached, EngineLost, LookCause, Verb
from controller.model.phase import Desired, Phase
from controller.model.reason import ACTOR_ENGINE, ACTOR_EXTERNAL, ACTOR_UNKNOWN, Reason, Source
from controller.model.spec import RestartMode
from tests.support import builders as make
from tests.support.story import Story, running_session


def watched(restart: EngineRestart = EngineRestart.NO, *, auto_remove: bool = False) -> tuple[Story, ContainerFacts]:
    """An external container that runs since second 1 under the engine's own policy."""
    facts = replace(make.facts(agentd_watch="true"), engine_restart=restart, auto_remove=auto_remove)
    story = Story()
    story(make.admitted(make.running(facts=facts), seconds=2))
    assert story.session.phase is Phase.RUNNING
    story.rows.clear()
    return story, facts


def stands(story: Story) -> tuple[Phase, Reason]:
    """Where the session is, and why."""
    return story.session.phase, story.session.reason


@pytest.mark.parametrize(
    ("state", "phase"), [(ContainerState.EXITED, Phase.STOPPED), (ContainerState.RESTARTING, Phase.BACKOFF)]
)
def test_exited_is_the_last_word_of_the_engines_own_policy(state: ContainerState, phase: Phase) -> None:
    story, facts = watched(EngineRestart.ALWAYS)
    shot = replace(make.exited(0), facts=facts, state=state)
    story(make.seen(shot, cause=LookCause.SWEEP))
    assert story.session.phase is phase
    assert story.session.desired is (Desired.RUNNING if phase is Phase.BACKOFF else Desired.STOPPED)


@pytest.mark.parametrize(
    ("policy", "count", "actor"),
    [
        (EngineRestart.ALWAYS, 2, ACTOR_ENGINE),
        (EngineRestart.ALWAYS, 0, ACTOR_UNKNOWN),
        (EngineRestart.NO, 0, ACTOR_EXTERNAL),
    ],
)
def test_who_started_a_run_that_nobody_saw_begin(policy: EngineRestart, count: int, actor: str) -> None:
    story, facts = watched(policy)
    again = make.running(8, facts=facts, restart_count=count)
    story(make.seen(again, seconds=9, cause=LookCause.SWEEP))
    assert story.told() == [
        (Phase.RUNNING, Phase.FAILED, Reason.EXIT_UNKNOWN),
        (Phase.FAILED, Phase.RUNNING, Reason.STARTED),
        *([(Phase.RUNNING, Phase.RUNNING, Reason.STARTED)] if count > 1 else []),
    ]
    assert story.actors()[1] == actor


def test_a_spent_budget_is_known_without_a_look_at_each_run() -> None:
    story, facts = watched(EngineRestart.ON_FAILURE)
    limited = replace(facts, engine_restart_limit=1)
    story(make.seen(make.running(facts=limited), seconds=3))
    story(make.event(EventAction.DIE, 4, exit_code=3, replayed=True))
    assert stands(story) == (Phase.BACKOFF, Reason.ERROR_EXIT)
    story(make.event(EventAction.START, 5, replayed=True))
    story(make.event(EventAction.DIE, 6, exit_code=3, replayed=True))
    assert stands(story) == (Phase.FAILED, Reason.ERROR_EXIT)


def test_an_answer_older_than_the_pause_does_not_undo_it() -> None:
    story, facts = watched()
    story(make.event(EventAction.PAUSE, 5))
    late = replace(make.seen(make.running(facts=facts), seconds=5.1), asked_at=make.at(4.9))
    story(late)
    assert stands(story) == (Phase.PAUSED, Reason.PAUSED)
    assert len(story.last.looks) == 1
    story(make.seen(make.running(facts=facts), seconds=8))
    assert stands(story) == (Phase.RUNNING, Reason.UNPAUSED)


@pytest.mark.parametrize("cause", [LookCause.SWEEP, LookCause.EVENT])
def test_what_a_look_after_a_gap_shows_is_inferred(cause: LookCause) -> None:
    story, facts = watched()
    over = replace(make.exited(3), facts=facts)
    story(replace(make.seen(over, cause=cause), in_gap=True))
    assert [row.source for row in story.rows if row.to_phase is not row.from_phase] == [Source.INFERRED]


def test_the_daemons_own_stop_is_told_of_a_container_that_it_removed_at_its_end() -> None:
    story, _ = watched(auto_remove=True)
    story(make.event(EventAction.KILL, 4, signal=15))
    story(make.event(EventAction.DIE, 5, exit_code=0))
    story(make.event(EventAction.DESTROY, 5.1))
    assert story.session.removed_at is not None
    assert stands(story) == (Phase.STOPPED, Reason.STOPPED_EXTERNALLY)
    story(EngineLost(observed_at=make.at(6)))
    assert stands(story) == (Phase.STOPPED, Reason.ENGINE_RESTART)
    assert story.actors()[-1] == ACTOR_ENGINE


def test_a_forced_removal_stays_somebodys_whatever_the_daemon_does_after() -> None:
    story, _ = watched(auto_remove=True)
    story(make.event(EventAction.KILL, 4, signal=9))
    story(make.event(EventAction.DIE, 4.1, exit_code=137))
    story(make.event(EventAction.DESTROY, 4.2))
    assert story.session.reason is Reason.REMOVED_EXTERNALLY
    assert story.session.provisional is None


def test_a_refused_start_of_what_was_removed_meanwhile_ends_no_attempt_twice() -> None:
    story = running_session()
    story(make.event(EventAction.DIE, 5, exit_code=0))
    story(make.seen(make.exited(0)))
    story(make.verb(Verb.START, 10))
    start = story.action
    story(make.event(EventAction.DESTROY, 11))
    story(make.outcome(start, 12, kind=OutcomeKind.REFUSED, message="no such program"))
    assert stands(story) == (Phase.FAILED, Reason.START_FAILED)


def test_a_late_die_with_255_is_not_believed_of_what_ended_while_the_daemon_was_away() -> None:
    story, facts = watched()
    story(make.event(EventAction.DIE, 7, exit_code=255, replayed=True, continuous=False))
    assert stands(story)[0] is Phase.RUNNING
    assert len(story.last.looks) == 1
    story(make.seen(replace(make.exited(0), facts=facts), seconds=8))
    assert stands(story) == (Phase.STOPPED, Reason.EXITED)


def test_a_policy_that_did_not_go_on_was_stopped_by_somebody() -> None:
    story, facts = watched(EngineRestart.ALWAYS)
    story(make.event(EventAction.DIE, 5, exit_code=3))
    assert stands(story) == (Phase.BACKOFF, Reason.ERROR_EXIT)
    story(make.seen(replace(make.exited(3), facts=facts)))
    story(make.event(EventAction.STOP, 7))
    assert stands(story) == (Phase.STOPPED, Reason.STOPPED_EXTERNALLY)


def test_an_answer_older_than_the_stop_does_not_bring_back_the_engines_back_off() -> None:
    story, facts = watched(EngineRestart.ALWAYS)
    story(make.event(EventAction.DIE, 5, exit_code=3))
    story(make.event(EventAction.STOP, 7))
    waits = replace(make.exited(3), facts=facts, state=ContainerState.RESTARTING)
    story(replace(make.seen(waits, seconds=7.2), asked_at=make.at(6.9)))
    assert stands(story) == (Phase.STOPPED, Reason.STOPPED_EXTERNALLY)
    assert story.last.looks


def _died_after_a_gap(code: int = 3) -> tuple[Story, ContainerFacts]:
    """Under the engine's own policy; its end was read where events were missing."""
    story, facts = watched(EngineRestart.ALWAYS)
    story(replace(make.event(EventAction.DIE, 5, exit_code=code), after_gap=True))
    return story, facts


def test_an_end_that_was_read_after_a_gap_is_likely_until_a_look_shows_the_same_run() -> None:
    story, facts = _died_after_a_gap()
    told = story.attempt.exit
    assert told is not None
    assert (told.exit_code, told.confidence) == (3, Confidence.LIKELY)
    assert "Events were missing before it: it may be that of a later run" in told.evidence
    story(make.seen(replace(make.exited(3), facts=facts, state=ContainerState.RESTARTING)))
    told = story.attempt.exit
    assert told is not None
    assert (told.exit_code, told.confidence) == (3, Confidence.CERTAIN)


@pytest.mark.parametrize(("count", "code"), [(1, 3), (2, None)], ids=["the next run", "a run in between"])
def test_an_end_that_was_read_after_a_gap_is_taken_back_where_the_engine_counts_a_run_in_between(
    count: int, code: int | None
) -> None:
    story, facts = _died_after_a_gap()
    story(make.seen(make.running(8, facts=facts, restart_count=count), seconds=9))
    told = story.session.earlier[0].exit
    assert told is not None
    assert told.exit_code == code
    assert told.confidence is not Confidence.CERTAIN


@pytest.mark.parametrize("action", [EventAction.KILL, EventAction.DIE, EventAction.OOM, EventAction.STOP])
def test_what_happened_before_the_run_that_is_known_is_not_told_of_it(action: EventAction) -> None:
    story, _ = watched()
    before = story.attempt
    story(make.event(action, 0.5, exit_code=143, signal=15))
    assert story.session.phase is Phase.RUNNING
    assert story.attempt == before
    assert story.last.looks
    assert [row.reason for row in story.last.rows] == ([Reason.UNEXPECTED] if action is EventAction.DIE else [])


def test_an_old_answer_that_shows_the_run_before_opens_nothing_though_the_engines_clock_was_set_back() -> None:
    story = running_session(make.spec(RestartMode.ALWAYS))
    story(make.event(EventAction.DIE, 40, exit_code=1))
    before = make.exited(1, started_s=1.5, finished_s=40)
    story(make.seen(replace(before, started_at=make.running().started_at), seconds=41))
    story(DeadlineReached(observed_at=make.at(60)))
    # The clock of the engine has been set back: the new run's StartedAt lies before the old one's.
    story(make.outcome(story.action, 61, shot=make.running(0.5)))
    assert story.session.phase is Phase.RUNNING
    rows = len(story.told())
    story(replace(make.seen(make.exited(1, finished_s=40), seconds=62), asked_at=make.at(60.5)))
    assert story.session.phase is Phase.RUNNING
    assert len(story.told()) == rows


def twice_told() -> tuple[Story, Snapshot]:
    """Started again twice, which only `start` events told, at 40.5 and 41.5; and what an inspect shows in between."""
    story, facts = watched()
    for end, start in ((40, 40.5), (41, 41.5)):
        story(make.event(EventAction.DIE, end, exit_code=3))
        story(make.event(EventAction.START, start))
    assert (story.attempt.number, story.attempt.provisional) == (3, True)
    return story, replace(make.exited(7, started_s=40.4, finished_s=41), facts=facts)


def test_a_slow_answer_that_shows_a_run_known_by_its_start_event_alone_is_not_taken_for_the_run_after_it() -> None:
    story, before = twice_told()
    story(replace(make.seen(before, seconds=43), asked_at=make.at(41.2)))
    assert (story.session.phase, story.attempt.number, story.attempt.provisional) == (Phase.RUNNING, 3, True)
    shown = story.session.earlier[0]
    assert (shown.number, shown.started_at, shown.provisional) == (2, make.at(40.4), False)
    assert shown.exit is not None
    assert shown.exit.exit_code == 7


def test_a_run_that_the_engine_forgot_ends_though_the_one_before_it_is_known_by_its_start_event_alone() -> None:
    story, before = twice_told()
    story(replace(make.seen(before, seconds=60, cause=LookCause.SWEEP), asked_at=make.at(59)))
    assert (story.session.phase, story.session.reason, story.attempt.number) == (Phase.FAILED, Reason.EXIT_UNKNOWN, 3)
    assert story.session.earlier[0].started_at == make.at(40.4)


def test_a_late_die_of_the_run_before_ends_no_other_though_the_engines_clock_was_set_back() -> None:
    story = running_session(make.spec(RestartMode.ALWAYS))
    story(make.seen(make.exited(137, started_s=1, finished_s=40), seconds=41, cause=LookCause.SWEEP))
    story(DeadlineReached(observed_at=make.at(70)))
    story(make.outcome(story.action, 71, shot=make.running(38)))
    story(make.event(EventAction.DIE, 40.2, exit_code=137, replayed=True))
    assert story.session.phase is Phase.RUNNING
    assert story.session.earlier[0].died_at == make.at(40.2)
    story(make.event(EventAction.DIE, 40.4, exit_code=3))
    assert stands(story) == (Phase.FAILED, Reason.ERROR_EXIT)


def test_an_end_that_a_daemon_tells_once_it_is_back_is_that_of_the_run_that_is_known() -> None:
    story, facts = watched()
    story(make.seen(replace(make.exited(1, started_s=1, finished_s=3), facts=facts), seconds=20, cause=LookCause.SWEEP))
    story(make.event(EventAction.DIE, 15, exit_code=1, replayed=True))
    assert story.attempt.died_at == make.at(15)
    assert Reason.UNEXPECTED not in [row.reason for row in story.rows]


def test_an_end_is_taken_back_where_a_sweep_finds_the_very_run_alive_much_later() -> None:
    story, facts = watched(EngineRestart.ON_FAILURE)
    story(make.event(EventAction.DIE, 5, exit_code=1))
    alive = make.running(facts=facts)
    story(make.seen(alive, seconds=12, cause=LookCause.SWEEP))
    story(make.seen(alive, seconds=60))
    assert story.session.phase is Phase.BACKOFF
    story(make.seen(alive, seconds=60, cause=LookCause.SWEEP))
    assert stands(story) == (Phase.RUNNING, Reason.STARTED)
    assert story.attempt.ended_at is None
    assert story.session.earlier[0].exit is not None
    assert story.session.earlier[0].exit.exit_code is None


def test_what_the_engine_had_counted_before_a_container_was_first_seen_is_not_ours() -> None:
    facts = replace(make.facts(agentd_watch="true"), engine_restart=EngineRestart.ALWAYS)
    story = Story()
    story(make.admitted(replace(make.running(facts=facts), restart_count=2), seconds=2))
    assert (story.session.engine_restarts, story.attempt.restart_count) == (0, 2)
    assert "not seen" not in " ".join(row.message for row in story.rows)


def test_a_run_between_two_that_are_known_is_told_and_its_events_are_no_others() -> None:
    story = running_session(make.spec(RestartMode.ALWAYS))
    story(make.seen(make.running(40), seconds=41, cause=LookCause.SWEEP))
    story(make.event(EventAction.DIE, 20, exit_code=137, replayed=True))
    before = story.session.earlier[0]
    assert before.died_at == make.at(20)
    story(make.event(EventAction.START, 20.2, replayed=True))
    assert [row.reason for row in story.last.rows] == [Reason.UNEXPECTED]
    story(make.event(EventAction.OOM, 25, replayed=True))
    story(make.event(EventAction.DIE, 30, exit_code=3, replayed=True))
    assert story.session.earlier[0] == before
    assert story.session.phase is Phase.RUNNING


def test_a_change_told_of_an_earlier_time_asks_how_it_is_now() -> None:
    story = running_session(make.spec(RestartMode.ALWAYS))
    story(make.seen(make.running(40), seconds=41, cause=LookCause.SWEEP))
    story(make.event(EventAction.UPDATE, 20))
    assert story.last.looks


def test_an_end_told_before_its_start_is_not_that_of_the_run_before() -> None:
    story, facts = watched(EngineRestart.ALWAYS)
    waits = replace(make.exited(1, started_s=1, finished_s=3), facts=facts, state=ContainerState.RESTARTING)
    story(make.seen(waits, seconds=3.1))
    story(make.event(EventAction.DIE, 5, exit_code=1))
    assert story.attempt.died_at is None
    assert [row.reason for row in story.last.rows] == [Reason.UNEXPECTED]
    assert story.last.looks
    story(make.event(EventAction.START, 4.8))
    assert story.session.attempt_count == 2
    assert story.attempt.started_at == make.at(4.8)


def test_a_short_run_whose_end_was_taken_for_that_of_the_run_before_is_told_by_its_start() -> None:
    story, facts = watched(EngineRestart.ALWAYS)
    story(make.event(EventAction.DIE, 2.5, exit_code=1))
    story(make.event(EventAction.START, 3))
    waits = replace(make.exited(1, started_s=3, finished_s=3.01), facts=facts, state=ContainerState.RESTARTING)
    story(make.seen(waits, seconds=3.2))
    number = story.attempt.number
    story(make.event(EventAction.DIE, 3.82, exit_code=1))
    story(make.event(EventAction.START, 3.81))
    assert story.attempt.number == number + 1
    assert story.attempt.started_at == make.at(3.81)


@pytest.mark.parametrize("dies_late", [True, False])
def test_a_run_of_which_only_its_start_was_told_is_on_record_though_no_look_finds_its_container(
    *, dies_late: bool
) -> None:
    story, _ = watched(EngineRestart.NO)
    story(make.event(EventAction.DIE, 2.5, exit_code=1))
    story(make.event(EventAction.START, 3))
    story(make.event(EventAction.START, 5))
    assert story.last.looks
    if not dies_late:
        story(make.event(EventAction.DIE, 4.9, exit_code=3))
    story(make.absent(seconds=5.1))
    assert story.attempt.number == 3
    assert story.attempt.started_at == make.at(5)
    assert story.attempt.ended_at is not None
    assert story.session.removed_at is not None
    if dies_late:
        story(make.event(EventAction.DIE, 4.9, exit_code=3))
    before = story.session.earlier[0].exit
    assert before is not None
    assert before.exit_code == 3


def test_a_run_that_began_after_the_end_and_before_the_removal_is_told() -> None:
    story, facts = watched(EngineRestart.ALWAYS)
    story(make.event(EventAction.DIE, 5, exit_code=1))
    story(make.seen(replace(make.exited(1), facts=facts, state=ContainerState.RESTARTING)))
    story(make.absent(seconds=7))
    story(make.event(EventAction.START, 5.2))
    assert [row.reason for row in story.last.rows] == [Reason.UNEXPECTED]
    assert story.session.removed_at is not None


def test_what_an_action_found_before_the_present_run_was_known_does_not_end_it() -> None:
    story = running_session(make.spec())
    story(make.verb(Verb.STOP, 10))
    stop = story.action
    story(make.seen(make.running(20), seconds=21, cause=LookCause.SWEEP))
    assert story.session.attempt_count == 2
    late = make.outcome(stop, 22, shot=make.exited(0))
    story(replace(late, outcome=replace(late.outcome, asked_at=make.at(19))))
    assert story.attempt.ended_at is None


def test_a_start_after_an_end_whose_code_a_label_hides_is_told_as_the_next_attempt() -> None:
    facts = replace(make.facts(agentd_watch="true", exitCode="0"), engine_restart=EngineRestart.ALWAYS)
    story = Story()
    story(make.admitted(make.running(facts=facts), seconds=2))
    story(make.event(EventAction.DIE, 5, exit_code=0))
    assert story.session.phase is Phase.RUNNING
    story(make.event(EventAction.START, 5.2))
    assert (Phase.RUNNING, Phase.FAILED, Reason.EXIT_UNKNOWN) in story.told()
    assert stands(story) == (Phase.RUNNING, Reason.STARTED)
    assert story.session.attempt_count == 2


def test_what_came_of_an_action_on_a_container_that_was_replaced_moves_nothing() -> None:
    story, facts = watched()
    story(make.event(EventAction.DIE, 5, exit_code=1))
    story(make.seen(replace(make.exited(1), facts=facts)))
    story(make.verb(Verb.START, 10))
    start = story.action
    story(make.event(EventAction.DESTROY, 11))
    successor = replace(facts, id=ContainerId("d" * 64), created_at=make.at(12))
    story(make.seen(make.running(12, facts=successor), seconds=13))
    assert story.session.phase is Phase.RUNNING
    story(make.outcome(start, 14, kind=OutcomeKind.GONE))
    assert story.session.phase is Phase.RUNNING
    assert not story.session.open_actions
    assert story.session.removed_at is None


def test_a_start_that_is_told_after_the_end_of_its_run_opens_no_other() -> None:
    story, facts = watched()
    story(make.seen(make.running(8, facts=facts), seconds=9, cause=LookCause.SWEEP))
    story(EngineLost(observed_at=make.at(10)))
    story(make.event(EventAction.DIE, 8.01, exit_code=3))
    assert story.session.phase is Phase.FAILED
    story(make.event(EventAction.START, 8.02))
    assert story.session.phase is Phase.FAILED
    assert story.session.attempt_count == 2
    assert story.last.looks


def test_a_successor_is_taken_over_though_the_engines_clock_was_set_back_before_it_was_made() -> None:
    story, facts = watched()
    story(make.event(EventAction.DIE, 5, exit_code=1))
    story(make.event(EventAction.DESTROY, 6))
    assert story.session.removed_at is not None
    successor = replace(facts, id=ContainerId("d" * 64), created_at=make.at(-20))
    story(make.seen(make.running(-20, facts=successor), seconds=7, cause=LookCause.SWEEP))
    assert story.session.container_id == successor.id
    assert story.session.phase is Phase.RUNNING


def test_an_external_container_is_given_no_time_after_which_it_would_be_stopped() -> None:
    story, _ = watched()
    reply = story(replace(make.verb(Verb.RENEW, 5), ttl_s=60.0)).reply
    assert reply is not None
    assert not reply.accepted
    assert story.session.expires_at is None


def test_a_run_that_the_engine_has_forgotten_has_ended_and_nobody_knows_how() -> None:
    story, facts = watched()
    story(make.event(EventAction.DIE, 5, exit_code=1))
    story(make.seen(replace(make.exited(1), facts=facts)))
    story(make.event(EventAction.START, 8))
    assert story.session.phase is Phase.RUNNING
    # Killed before it wrote the run down, it comes back with the one before.
    story(make.seen(replace(make.exited(1), facts=facts), seconds=20, cause=LookCause.SWEEP))
    assert stands(story) == (Phase.FAILED, Reason.EXIT_UNKNOWN)
    assert story.session.earlier[0].exit is not None
    assert story.session.earlier[0].exit.exit_code == 1


def test_a_start_whose_answer_was_lost_with_its_container_is_not_made_anew() -> None:
    story = running_session(make.spec())
    story(make.event(EventAction.DIE, 5, exit_code=0))
    story(make.seen(make.exited(0)))
    story(make.verb(Verb.START, 10))
    gone = make.outcome(story.action, 12, kind=OutcomeKind.GONE)
    sent_before = replace(gone, outcome=replace(gone.outcome, maybe_done=True))
    story(sent_before)
    assert stands(story) == (Phase.FAILED, Reason.LOST)
    assert not story.session.open_actions


def test_a_dead_container_of_ours_is_removed_at_last_and_made_anew() -> None:
    story = running_session(make.spec())
    story(make.event(EventAction.DIE, 5, exit_code=0))
    story(make.seen(make.exited(0)))
    story(make.verb(Verb.START, 10))
    dead = replace(make.exited(0), state=ContainerState.DEAD)
    story(make.outcome(story.action, 11, kind=OutcomeKind.REFUSED, shot=dead, message="dead"))
    assert story.action.kind is ActionKind.REMOVE
    assert [kept.container_id for kept in story.last.evidence] == [dead.facts.id]
    story(make.outcome(story.action, 12))
    assert (story.action.kind, story.session.phase, story.session.desired) == (
        ActionKind.CREATE,
        Phase.PENDING,
        Desired.RUNNING,
    )


def test_a_dead_container_of_somebody_else_is_left_alone_and_not_started_again_and_again() -> None:
    facts = make.facts(agentd_watch="true", agentd_restart="always")
    story = Story()
    story(make.admitted(make.running(facts=facts), seconds=2))
    story(make.event(EventAction.DIE, 5, exit_code=1))
    story(make.seen(replace(make.exited(1), facts=facts)))
    story(make.verb(Verb.START, 10))
    dead = replace(make.exited(1), facts=facts, state=ContainerState.DEAD)
    story(make.outcome(story.action, 11, kind=OutcomeKind.REFUSED, shot=dead, message="dead"))
    assert stands(story) == (Phase.FAILED, Reason.START_FAILED)
    assert not story.session.open_actions
    assert story.session.due_at is None


def test_a_run_that_began_half_a_minute_before_the_one_that_was_told_is_another_one() -> None:
    story, facts = watched()
    story(make.event(EventAction.DIE, 40, exit_code=3))
    story(make.event(EventAction.START, 41))
    assert (story.attempt.number, story.attempt.provisional) == (2, True)
    # The engine's clock was set back, and it was started once more.
    story(make.seen(make.running(10, facts=facts), seconds=44))
    assert (story.attempt.number, story.attempt.started_at) == (3, make.at(10))


def test_a_run_that_began_and_was_removed_before_anybody_looked_is_told_by_its_late_events() -> None:
    story = Story()
    story(make.requested())
    story(make.outcome(story.action, 0.5, shot=make.snapshot(ContainerState.CREATED, started_s=None)))
    story(make.outcome(story.action, 1.5))
    story(make.absent(seconds=2))
    assert stands(story) == (Phase.FAILED, Reason.LOST)
    story(make.event(EventAction.START, 1.1, replayed=True))
    story(make.event(EventAction.DIE, 1.2, exit_code=137, replayed=True))
    assert (story.attempt.started_at, story.attempt.died_at) == (make.at(1.1), make.at(1.2))
    assert story.session.phase is Phase.FAILED


def test_a_start_that_was_done_and_left_nothing_to_look_at_is_lost_and_not_forgotten() -> None:
    story = running_session(make.spec(RestartMode.ALWAYS))
    story(make.event(EventAction.DIE, 5, exit_code=1))
    story(make.seen(make.exited(1)))
    story(DeadlineReached(observed_at=make.at(60)))
    story(make.outcome(story.action, 61))
    story(make.absent(seconds=62, cause=LookCause.ACTION))
    assert (Phase.STARTING, Phase.FAILED, Reason.LOST) in story.told()
    assert story.session.phase is Phase.BACKOFF
    assert story.session.container is None


def test_a_run_whose_removal_was_told_before_its_start_is_told_by_what_comes_late() -> None:
    story = Story()
    story(make.requested())
    story(make.outcome(story.action, 0.5, shot=make.snapshot(ContainerState.CREATED, started_s=None)))
    starting = story.action
    story(make.event(EventAction.DESTROY, 1.3))
    assert story.session.container is None
    story(make.outcome(starting, 1.5))
    story(make.event(EventAction.START, 1.1))
    story(make.event(EventAction.DIE, 1.2, exit_code=137))
    assert (story.attempt.started_at, story.attempt.died_at) == (make.at(1.1), make.at(1.2))
    assert stands(story) == (Phase.STOPPED, Reason.REMOVED_EXTERNALLY)


def _left_to_the_engine() -> tuple[Story, ContainerFacts]:
    story, facts = watched(EngineRestart.ALWAYS)
    story(make.seen(replace(make.exited(3), facts=facts, state=ContainerState.RESTARTING), cause=LookCause.SWEEP))
    assert story.session.phase is Phase.BACKOFF
    return story, facts


@pytest.mark.parametrize("verb", [Verb.STOP, Verb.RESTART])
def test_our_stop_ends_the_engines_own_back_off_and_is_told_as_ours(verb: Verb) -> None:
    story, facts = _left_to_the_engine()
    story(make.verb(verb, 10))
    assert story.action.kind is ActionKind.STOP
    story(make.outcome(story.action, 11, shot=replace(make.exited(3), facts=facts)))
    assert (Phase.BACKOFF, Phase.STOPPED, Reason.STOPPED_BY_REQUEST) in story.told()
    assert story.session.phase is (Phase.STARTING if verb is Verb.RESTART else Phase.STOPPED)
    assert len(story.session.open_actions) == (verb is Verb.RESTART)


def test_the_engine_does_not_start_what_has_followed_the_container_that_it_was_to_start() -> None:
    story, facts = _left_to_the_engine()
    follower = replace(facts, id=ContainerId("f" * 64), created_at=make.at(20))
    story(make.seen(replace(make.snapshot(ContainerState.CREATED, started_s=None), facts=follower), seconds=21))
    assert stands(story) == (Phase.PENDING, Reason.CREATED)
    story(make.verb(Verb.STOP, 25))
    assert story.session.phase is Phase.STOPPED
    assert story.session.open_actions == ()


@pytest.mark.parametrize(("ended_ago_s", "phase"), [(301, Phase.FAILED), (20, Phase.BACKOFF)])
@pytest.mark.parametrize("tailed", [True, False])
def test_what_had_ended_long_before_anybody_watched_it_is_not_started_for_its_labels(
    ended_ago_s: float, phase: Phase, *, tailed: bool
) -> None:
    facts = make.facts(agentd_watch="true")
    facts = replace(facts, labels={**facts.labels, "agentd.restart": "always"})
    over = replace(make.exited(143, finished_s=1000 - ended_ago_s), facts=facts)
    found = make.admitted(over, seconds=1000)
    tail = make.seen(over).tail if tailed else None
    story = Story()
    story(replace(found, seen=replace(found.seen, cause=LookCause.SWEEP, tail=tail)))
    if story.session.look_owed_until is not None:
        story(DeadlineReached(observed_at=story.session.look_owed_until))
    assert story.session.phase is phase
    assert story.session.policy.mode is RestartMode.ALWAYS
    assert not story.session.open_actions
    # Its owner starts it: from then on what its labels ask for counts.
    story(make.event(EventAction.START, 1100))
    story(make.event(EventAction.DIE, 1101, exit_code=3))
    story(make.seen(replace(make.exited(3, started_s=1099.9, finished_s=1101), facts=facts), seconds=1102))
    assert story.session.phase is Phase.BACKOFF
