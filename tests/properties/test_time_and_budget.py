"""S5 and S6: whatever happens and whenever a deadline is looked at, nothing is done early and no restart too many."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.model.action import Action, ActionKind
from controller.model.container import ContainerState, EventAction, LogTail, Snapshot
from controller.model.instant import seconds_between
from controller.model.observation import (
    ConnectionChanged,
    ControllerStarted,
    DeadlineReached,
    EngineLost,
    Observation,
    Verb,
)
from controller.model.phase import Health, Phase
from controller.model.session import StopCause
from controller.model.spec import RestartMode, RestartPolicy
from tests.support import builders as make
from tests.support.anew import anew
from tests.support.story import Story, running_session

TTL_S: Final = 300.0
CONNECT_GRACE_S: Final = 60.0
UNHEALTHY_S: Final = 45.0
KEEP_S: Final = 100.0
BACKOFF_FIRST_S: Final = 10.0
BACKOFF_MAX_S: Final = 300.0
ROUNDING_S: Final = 0.001
_RULES: Final = replace(make.RULES, connect_grace_s=CONNECT_GRACE_S, keep_failed_s=KEEP_S, keep_stopped_s=KEEP_S)
_AUTOMATIC: Final = "after its back-off"


class Played:
    """A session whose engine does at once what it is told, and what a bystander with a watch knows of it."""

    def __init__(self, policy: RestartPolicy, *, ttl_s: float | None = None, expect_connection: bool = False) -> None:
        spec = replace(make.spec(ttl_s=ttl_s, expect_connection=expect_connection), restart=policy)
        self.story: Story = running_session(spec, rules=_RULES)
        self.now_s = 1.5
        self.started_s = 1.0
        self.time_given_s = 0.0
        self.ended_s = self.unhealthy_s = self.attended_s = self.now_s
        self.restarts_s: list[float] = []
        self._shown = make.running()

    def tell(self, observation: Observation) -> None:
        """One observation, a check of what it leads to, and the engine's answers to that."""
        self._decide(observation)
        while self.story.session.open_actions:
            action = self.story.action
            self.now_s += 0.001
            self._decide(make.outcome(action, self.now_s, shot=self._shown_after(action)))

    def exit(self, code: int) -> None:
        """Its program ends, and a look shows it."""
        if self._shown.state is ContainerState.RUNNING:
            self._ends(code)
            self.tell(make.event(EventAction.DIE, self.now_s, exit_code=code))
            self.look()

    def look(self) -> None:
        """An inspect, with its last lines."""
        if self.story.session.container is not None:
            self.tell(make.seen(self._shown, seconds=self.now_s, tail=LogTail(lines=(), truncated=False)))

    def _decide(self, observation: Observation) -> None:
        self._note(observation)
        for action in self.story(observation).actions:
            self._is_not_early(action)
        self._note(observation)

    def _note(self, observation: Observation) -> None:
        session = self.story.session
        if session.phase.is_live:
            self.ended_s = self.now_s
        if session.health is not Health.UNHEALTHY:
            self.unhealthy_s = self.now_s
        if session.connected or session.phase is not Phase.RUNNING or isinstance(observation, ControllerStarted):
            self.attended_s = self.now_s

    def _is_not_early(self, action: Action) -> None:
        attempt = self.story.session.attempt
        if action.kind is ActionKind.START and _AUTOMATIC in action.reason:
            self.restarts_s.append(self.now_s)
            assert self.now_s - self.ended_s >= BACKOFF_FIRST_S - ROUNDING_S
        elif action.kind is ActionKind.REMOVE:
            assert self.now_s - self.ended_s >= KEEP_S - ROUNDING_S
        elif action.kind is ActionKind.STOP and attempt is not None and attempt.intent is not None:
            since_s, length_s = {
                StopCause.EXPIRED: (self.time_given_s, TTL_S),
                StopCause.NOT_CONNECTED: (self.attended_s, CONNECT_GRACE_S),
                StopCause.UNHEALTHY: (self.unhealthy_s, UNHEALTHY_S),
            }.get(attempt.intent.cause, (0.0, 0.0))
            assert self.now_s - since_s >= length_s - ROUNDING_S, attempt.intent.cause

    def _shown_after(self, action: Action) -> Snapshot:
        match action.kind:
            case ActionKind.CREATE:
                self._shown = make.snapshot(ContainerState.CREATED, started_s=None)
            case ActionKind.START:
                self.started_s = self.now_s
                self._shown = make.running(self.started_s)
            case ActionKind.STOP if self._shown.state is not ContainerState.EXITED:
                self._ends(143)
            case ActionKind.STOP | ActionKind.REMOVE:
                pass
        return self._shown

    def _ends(self, code: int) -> None:
        self._shown = make.exited(code, started_s=self.started_s, finished_s=self.now_s)


Happening = Callable[[Played], None]


def _told(observe: Callable[[float], Observation]) -> Happening:
    return lambda played: played.tell(observe(played.now_s))


def _deadline(now_s: float) -> Observation:
    return DeadlineReached(observed_at=make.at(now_s))


def _new_life(now_s: float) -> Observation:
    return ControllerStarted(observed_at=make.at(now_s))


def _renewed(played: Played) -> None:
    played.tell(replace(make.verb(Verb.RENEW, played.now_s), ttl_s=TTL_S))
    if played.story.last.reply is not None and played.story.last.reply.accepted:
        played.time_given_s = played.now_s


def _started(played: Played) -> None:
    if played.now_s - played.time_given_s >= TTL_S and not played.story.session.phase.is_live:
        played.time_given_s = played.now_s
    played.tell(make.verb(Verb.START, played.now_s))


_HAPPENINGS: Final[dict[str, Happening]] = {
    "a deadline": _told(_deadline),
    "a look": lambda played: played.look(),
    "a new life": _told(_new_life),
    "unhealthy": _told(lambda now_s: make.event(EventAction.HEALTH, now_s, health=Health.UNHEALTHY)),
    "healthy": _told(lambda now_s: make.event(EventAction.HEALTH, now_s, health=Health.HEALTHY)),
    "connected": _told(lambda now_s: ConnectionChanged(connected=True, observed_at=make.at(now_s))),
    "disconnected": _told(lambda now_s: ConnectionChanged(connected=False, observed_at=make.at(now_s))),
    "paused": _told(lambda now_s: make.event(EventAction.PAUSE, now_s)),
    "unpaused": _told(lambda now_s: make.event(EventAction.UNPAUSE, now_s)),
    "engine lost": _told(lambda now_s: EngineLost(observed_at=make.at(now_s))),
    "renewed": _renewed,
    "started": _started,
    "ends well": lambda played: played.exit(0),
    "fails": lambda played: played.exit(1),
}
_TOGETHER: Final = (
    ("unhealthy", "healthy"),
    ("connected", "disconnected"),
    ("renewed", "started"),
    ("ends well", "a look"),
    ("fails", "a new life"),
)
_waits = st.sampled_from([0.0, 0.5, 9.0, 20.0, 44.0, 45.5, 59.0, 61.0, 99.0, 101.0, 299.0])


@st.composite
def _scripts(draw: st.DrawFn) -> list[tuple[float, str]]:
    """What belongs to one limit, and one more kind: all of them at once would leave no limit the time to pass."""
    kinds = [*draw(st.sampled_from(_TOGETHER)), draw(st.sampled_from(sorted(_HAPPENINGS)))]
    return draw(st.lists(st.tuples(_waits, st.sampled_from(kinds)), min_size=1, max_size=12))


@settings(max_examples=500, deadline=None)
@given(
    mode=st.sampled_from([one for one in RestartMode]),
    ttl_s=st.sampled_from([None, TTL_S]),
    expect_connection=st.booleans(),
    script=_scripts(),
)
@anew
def test_no_time_limit_is_acted_upon_early(
    mode: RestartMode, ttl_s: float | None, script: list[tuple[float, str]], *, expect_connection: bool
) -> None:
    policy = RestartPolicy(mode=mode, unhealthy_restart_s=UNHEALTHY_S)
    played = Played(policy, ttl_s=ttl_s, expect_connection=expect_connection)
    for wait_s, name in script:
        _HAPPENINGS[name](played)
        played.now_s += wait_s
        _HAPPENINGS["a deadline"](played)


@st.composite
def _crashes(draw: st.DrawFn) -> tuple[float, str, float, str]:
    """How long it ran, how that ended, how far into its back-off something else happened, and what."""
    return (
        draw(st.sampled_from([0.0, 5.0, 100.0, 599.0, 601.0])),
        draw(st.sampled_from(["fails", "ends well", "unhealthy"])),
        draw(st.sampled_from([0.0, 0.3, 0.99])),
        draw(st.sampled_from(["a deadline", "a new life", "engine lost"])),
    )


@settings(max_examples=150, deadline=None)
@given(
    granted=st.sampled_from([1, 2, 3, 5]),
    window_s=st.sampled_from([60.0, 200.0, 1000.0, 3600.0]),
    crashes=st.lists(_crashes(), min_size=3, max_size=20),
)
@anew
def test_no_window_holds_more_restarts_than_the_policy_grants(
    granted: int, window_s: float, crashes: list[tuple[float, str, float, str]]
) -> None:
    policy = RestartPolicy(
        mode=RestartMode.ALWAYS, max_attempts=granted, window_s=window_s, unhealthy_restart_s=UNHEALTHY_S
    )
    played = Played(policy)
    for ran_s, ending, part, meanwhile in crashes:
        _crash(played, ran_s, ending)
        due_at = played.story.session.next_attempt_at
        if due_at is None:
            break
        _wait(played, seconds_between(make.T0, due_at), part, meanwhile)
    for first_s, over_s in zip(played.restarts_s, played.restarts_s[granted:], strict=False):
        assert over_s - first_s >= window_s - ROUNDING_S


def _crash(played: Played, ran_s: float, ending: str) -> None:
    played.now_s += ran_s
    _HAPPENINGS[ending](played)
    if ending == "unhealthy":
        played.now_s += UNHEALTHY_S
        _HAPPENINGS["a deadline"](played)


def _wait(played: Played, due_s: float, part: float, meanwhile: str) -> None:
    """Until the back-off is over, with something else in between."""
    began_s = played.now_s
    played.now_s = began_s + part * (due_s - began_s)
    _HAPPENINGS[meanwhile](played)
    assert played.story.session.phase is Phase.BACKOFF
    played.now_s = due_s + ROUNDING_S
    _HAPPENINGS["a deadline"](played)


@settings(max_examples=50, deadline=None)
@given(crashes_count=st.integers(1, 12), ran_s=st.sampled_from([0.0, 5.0, 500.0]), new_lives=st.booleans())
@anew
def test_each_back_off_is_twice_the_one_before_up_to_a_limit(
    crashes_count: int, ran_s: float, *, new_lives: bool
) -> None:
    played = Played(RestartPolicy(mode=RestartMode.ALWAYS))
    for step in range(crashes_count):
        _crash(played, ran_s, "fails")
        least_s = min(BACKOFF_FIRST_S * 2**step, BACKOFF_MAX_S)
        due_at = played.story.session.next_attempt_at
        assert due_at is not None
        wait_s = seconds_between(make.T0, due_at) - played.now_s
        assert least_s - ROUNDING_S <= wait_s <= least_s * 1.25 + ROUNDING_S
        _wait(played, seconds_between(make.T0, due_at), 0.9, "a new life" if new_lives else "a deadline")
        assert len(played.restarts_s) == step + 1
