"""S12: events dropped or doubled, then a look: the session stands where it would stand had each come once."""

from dataclasses import dataclass, replace
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.model.container import ContainerState, EventAction, Snapshot
from controller.model.observation import DeadlineReached, EventSeen, LookCause
from controller.model.phase import Health
from controller.model.session import Origin
from tests.support import builders as make
from tests.support.anew import anew
from tests.support.story import Story

DELAY_S: Final = 0.01
"""An event's time is a little later than the instant that an inspect shows."""
SETTLED_S: Final = 100.0
"""By then nothing is provisional any more, and no look is owed."""

SIGNALLED_ABOVE: Final = 128


@dataclass
class Truth:
    """The container, as its engine has it. Whoever changes it is not us, and the engine restarts nothing."""

    now_s: float = 1.0
    state: ContainerState = ContainerState.RUNNING
    started_s: float = 1.0
    finished_s: float | None = None
    code: int | None = None
    health: Health = Health.NONE

    def happen(self, what: str) -> list[EventSeen]:
        """One thing that can happen to it now, and the events that tell of it; none when it cannot."""
        running = self.state is ContainerState.RUNNING
        match what:
            case "starts" if self.state is ContainerState.EXITED:
                self.state, self.started_s, self.health = ContainerState.RUNNING, self.now_s, Health.NONE
                return [self._event(EventAction.START)]
            case "pauses" if running:
                self.state = ContainerState.PAUSED
                return [self._event(EventAction.PAUSE)]
            case "goes on" if self.state is ContainerState.PAUSED:
                self.state = ContainerState.RUNNING
                return [self._event(EventAction.UNPAUSE)]
            case "is unwell" if running:
                self.health = Health.UNHEALTHY
                return [self._event(EventAction.HEALTH, health=Health.UNHEALTHY)]
            case "runs out of memory" if running:
                return [self._event(EventAction.OOM), *self._over(137)]
            case "is stopped" if running:
                return [self._event(EventAction.KILL, signal=15), *self._over(143), self._event(EventAction.STOP)]
            case "is killed" if running:
                return [self._event(EventAction.KILL, signal=9), *self._over(137)]
            case "ends well" if running:
                return self._over(0)
            case "fails" if running:
                return self._over(3)
            case _:
                return []

    def shown(self) -> Snapshot:
        """What an inspect says of it now."""
        over = self.state is ContainerState.EXITED
        shot = make.snapshot(
            self.state,
            started_s=self.started_s,
            finished_s=self.finished_s if over else None,
            exit_code=self.code if over else None,
        )
        return shot if self.state is not ContainerState.RUNNING else replace(shot, health=self.health)

    def _over(self, code: int) -> list[EventSeen]:
        self.state, self.finished_s, self.code = ContainerState.EXITED, self.now_s, code
        return [self._event(EventAction.DIE, exit_code=code)]

    def _event(
        self,
        action: EventAction,
        *,
        exit_code: int | None = None,
        signal: int | None = None,
        health: Health | None = None,
    ) -> EventSeen:
        return make.event(action, self.now_s + DELAY_S, exit_code=exit_code, signal=signal, health=health)


def _standing(origin: Origin, events: list[EventSeen], shown: Snapshot, looked_s: float) -> tuple[str, object]:
    """Where a session stands that was told those events, and then looked at: its class, and its container."""
    story = Story()
    story(make.admitted(make.running(), origin=origin, seconds=1.0))
    for event in events:
        story(event)
    story(make.seen(shown, seconds=looked_s, cause=LookCause.SWEEP))
    story(DeadlineReached(observed_at=make.at(looked_s + SETTLED_S)))
    assert not story.actions
    session = story.session
    assert session.phase.is_live == (shown.state is not ContainerState.EXITED)
    # Of an end by a signal only the events know whether somebody stopped it: with them it has stopped, else failed.
    by_signal = shown.exit_code is not None and shown.exit_code > SIGNALLED_ABOVE
    return "at rest" if by_signal else session.phase.status, session.container_id


_names = st.sampled_from(
    ["starts", "pauses", "goes on", "is unwell", "runs out of memory", "is stopped", "is killed", "ends well", "fails"]
)
_script = st.lists(st.tuples(st.sampled_from([0.02, 1.0, 15.0, 40.0]), _names), max_size=14)


@settings(max_examples=400, deadline=None)
@given(origin=st.sampled_from([Origin.EXTERNAL, Origin.ADOPTED]), script=_script, data=st.data())
@anew
def test_dropped_and_doubled_events_change_neither_the_class_of_the_phase_nor_the_container(
    origin: Origin, script: list[tuple[float, str]], data: st.DataObject
) -> None:
    truth, events = Truth(), []
    for wait_s, what in script:
        truth.now_s += wait_s
        events += truth.happen(what)
    looked_s = truth.now_s + 1.0
    often = st.lists(st.integers(0, 2), min_size=len(events), max_size=len(events))
    times = data.draw(often, label="told how often")
    spoilt = [event for event, count in zip(events, times, strict=True) for _ in range(count)]
    plain = _standing(origin, events, truth.shown(), looked_s)
    assert _standing(origin, spoilt, truth.shown(), looked_s) == plain
