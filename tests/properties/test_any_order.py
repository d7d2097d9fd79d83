"""Any observations in any order: `decide` never breaks, and what must hold of a session holds after each."""

from collections.abc import Callable
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.deadlines import earliest
from controller.core.rules import Rules
from controller.core.transitions import decide
from controller.model.action import OutcomeKind
from controller.model.container import ContainerState, EngineRestart, EventAction, LogTail
from controller.model.instant import Instant
from controller.model.observation import (
    ConnectionChanged,
    ContainerAdmitted,
    ControllerStarted,
    ControllerStopping,
    DeadlineReached,
    EngineLost,
    LookCause,
    Observation,
    Verb,
)
from controller.model.phase import Desired, Health, Phase
from controller.model.reason import Reason
from controller.model.session import Origin, Session
from controller.model.spec import RestartMode
from tests.support import builders as make
from tests.support.story import Story

_codes = st.sampled_from([0, 1, 3, 137, 143, 139, 255])
_steps = st.sampled_from([0.0, 0.001, 1.0, 2.5, 15.0, 40.0, 700.0])
_events = st.sampled_from([one for one in EventAction])
_causes = st.sampled_from([LookCause.EVENT, LookCause.SWEEP, LookCause.ACTION])
_states = st.sampled_from(
    [
        ContainerState.RUNNING,
        ContainerState.PAUSED,
        ContainerState.EXITED,
        ContainerState.RESTARTING,
        ContainerState.CREATED,
        ContainerState.REMOVING,
        ContainerState.DEAD,
        ContainerState.UNKNOWN,
    ]
)
_ENDED = (ContainerState.EXITED, ContainerState.DEAD, ContainerState.RESTARTING)
_TAIL = LogTail(lines=("bye",), truncated=False)


@st.composite
def _observations(draw: st.DrawFn) -> Callable[[Story, float], Observation | None]:
    kind = draw(st.integers(0, 11))
    code, started_ago = draw(_codes), draw(st.sampled_from([0.0005, 0.5, 3.0, 50.0, 800.0]))
    action, state, cause = draw(_events), draw(_states), draw(_causes)
    which = draw(st.sampled_from([one for one in Verb]))
    outcome_kind = draw(st.sampled_from([one for one in OutcomeKind]))
    flag, tail = draw(st.booleans()), draw(st.booleans())

    def build(story: Story, now: float) -> Observation | None:
        known = story.session.attempt.started_at if story.session.attempt is not None else None
        started_s = now - started_ago if flag or known is None else (known - make.T0) / 1e9
        shot = make.snapshot(
            state,
            started_s=None if state is ContainerState.CREATED else started_s,
            finished_s=max(started_s, now - 0.1) if state in _ENDED else None,
            exit_code=code if state in _ENDED else None,
        )
        shot = replace(shot, facts=replace(shot.facts, engine_restart=_engine_policy(story)))
        if kind <= 3:
            return make.event(
                action,
                now,
                exit_code=code,
                signal=15 if flag else 9,
                health=Health.UNHEALTHY,
                replayed=tail,
                continuous=flag,
            )
        if kind <= 6:
            return replace(make.seen(shot, seconds=now, cause=cause), tail=_TAIL if tail else None)
        if kind == 7:
            return make.absent(seconds=now, cause=cause)
        if kind == 8:
            return replace(make.verb(which, now, force=flag), ttl_s=100.0)
        if kind == 9:
            if not story.session.open_actions:
                return None
            return make.outcome(story.action, now, kind=outcome_kind, shot=shot if tail else None)
        others: list[Observation] = [
            EngineLost(observed_at=make.at(now)),
            ControllerStarted(observed_at=make.at(now)),
            ControllerStopping(leave_running=flag, grace_s=5, observed_at=make.at(now)),
            ConnectionChanged(connected=flag, observed_at=make.at(now)),
        ]
        if kind == 10:
            return others[code % 4]
        return DeadlineReached(observed_at=make.at(now))

    return build


def _engine_policy(story: Story) -> EngineRestart:
    container = story.session.container
    return container.engine_restart if container is not None else EngineRestart.NO


def _begin(origin: Origin, mode: RestartMode, engine_restart: EngineRestart, rules: Rules) -> Story:
    story = Story(rules)
    if origin is Origin.REQUESTED:
        story(make.requested(make.spec(mode, expect_connection=True, ttl_s=1000.0)))
        return story
    container = replace(
        make.facts(), engine_restart=engine_restart, labels={"agentd.watch": "true", "agentd.restart": mode.value}
    )
    story(make.admitted(make.running(facts=container), origin=origin))
    return story


def _is_going_somewhere(session: Session) -> None:
    """What is wanted and is not so has a next step: an action, a deadline, or an owner of restarts that is not us."""
    waits = session.open_actions or session.due_at is not None or session.removed_at is not None
    unmet = session.desired is Desired.RUNNING and session.phase in (Phase.STOPPED, Phase.FAILED)
    if not unmet or waits or session.reason is Reason.CONTROLLER_SHUTDOWN:
        return
    assert session.container is not None
    assert session.container.engine_restart is not EngineRestart.NO


def _holds(before: Session, after: Session, rules: Rules) -> None:
    assert len(after.open_actions) <= 1
    assert after.due_at == earliest(after, rules=rules)
    assert after.phase is Phase.RUNNING or after.health is Health.UNKNOWN
    assert after.attempt_count >= before.attempt_count
    if after.phase.is_live:
        assert after.attempt is not None
        assert after.attempt.ended_at is None
    if after.phase in (Phase.STOPPED, Phase.FAILED) and after.attempt is not None and not after.open_actions:
        assert after.attempt.ended_at is not None or after.attempt.started_at is None
    same_attempt = (
        before.attempt is not None and after.attempt is not None and (before.attempt.number == after.attempt.number)
    )
    was_over = same_attempt and before.attempt is not None and before.attempt.ended_at is not None
    if was_over:
        assert not after.phase.is_live, f"{before.phase} -> {after.phase} within one attempt"
        assert after.attempt is not None
        assert after.attempt.ended_at is not None


@settings(max_examples=600, deadline=None)
@given(
    origin=st.sampled_from([Origin.REQUESTED, Origin.EXTERNAL, Origin.ADOPTED, Origin.ORPHAN]),
    mode=st.sampled_from([one for one in RestartMode]),
    engine_restart=st.sampled_from([EngineRestart.NO, EngineRestart.ALWAYS, EngineRestart.ON_FAILURE]),
    keep_s=st.sampled_from([None, 0.0, 20.0]),
    script=st.lists(st.tuples(_steps, _observations()), max_size=25),
)
def test_any_order_of_observations_keeps_what_must_hold(
    origin: Origin,
    mode: RestartMode,
    engine_restart: EngineRestart,
    keep_s: float | None,
    script: list[tuple[float, Callable[[Story, float], Observation | None]]],
) -> None:
    rules = replace(make.RULES, keep_failed_s=keep_s, keep_stopped_s=keep_s)
    story, now = _begin(origin, mode, engine_restart, rules), 1.0
    fed: list[tuple[Observation, Instant]] = []
    start = story.session
    for step_s, build in script:
        now += step_s
        observation = build(story, now)
        if observation is None:
            continue
        before = story.session
        story(observation, now=make.at(now))
        fed.append((observation, make.at(now)))
        _holds(before, story.session, rules)
    replayed = start
    for observation, instant in fed:
        again = decide(replayed, observation, now=instant, rules=rules).session
        assert again is not None
        replayed = again
    assert replayed == story.session


def test_an_admission_alone_gives_the_same_session_twice() -> None:
    admission: ContainerAdmitted = make.admitted(make.exited(3))
    first = decide(None, admission, now=make.at(1), rules=make.RULES)
    second = decide(None, admission, now=make.at(1), rules=make.RULES)
    assert first == second
