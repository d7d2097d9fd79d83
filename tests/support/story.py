"""A session's story for tests of the core: observations in, the latest decision and all rows out."""

from controller.core.rules import Rules
from controller.core.transitions import decide
from controller.model.action import Action
from controller.model.container import ContainerState
from controller.model.decision import Decision
from controller.model.instant import Instant
from controller.model.journal import JournalDraft, RowKind
from controller.model.observation import Observation
from controller.model.phase import Phase
from controller.model.reason import Reason
from controller.model.session import Attempt, Session
from controller.model.spec import SessionSpec
from tests.support import builders as make


class Story:
    """Feeds one session. `session` is what the ledger would hold; the open action is kept for its outcome."""

    def __init__(self, rules: Rules = make.RULES) -> None:
        self.rules = rules
        self._session: Session | None = None
        self.rows: list[JournalDraft] = []
        self.actions: list[Action] = []
        self.last = Decision(session=None)

    def __call__(self, observation: Observation, *, now: Instant | None = None) -> Decision:
        """Decide on one observation."""
        now = observation.observed_at if now is None else now
        self.last = decide(self._session, observation, now=now, rules=self.rules)
        if self.last.session is not None:
            self._session = self.last.session
        self.rows.extend(self.last.rows)
        self.actions.extend(self.last.actions)
        return self.last

    @property
    def session(self) -> Session:
        """As it stands."""
        assert self._session is not None
        return self._session

    @property
    def attempt(self) -> Attempt:
        """The present attempt."""
        assert self.session.attempt is not None
        return self.session.attempt

    @property
    def action(self) -> Action:
        """The action that is open."""
        return next(one for one in reversed(self.actions) if one.id in self.session.open_actions)

    def told(self) -> list[tuple[Phase | None, Phase | None, Reason]]:
        """Each transition in order, notes and actions left out."""
        return [(row.from_phase, row.to_phase, row.reason) for row in self.rows if row.kind is RowKind.TRANSITION]

    def actors(self) -> list[str]:
        """Who did each transition."""
        return [row.actor for row in self.rows if row.kind is RowKind.TRANSITION]


def running_session(spec: SessionSpec | None = None, *, rules: Rules = make.RULES) -> Story:
    """A session of ours that was created and runs since second 1; the rows so far are forgotten."""
    story = Story(rules)
    story(make.requested(spec))
    story(make.outcome(story.action, 0.5, shot=make.snapshot(ContainerState.CREATED, started_s=None)))
    story(make.outcome(story.action, 1.5, shot=make.running()))
    assert story.session.phase is Phase.RUNNING
    story.rows.clear()
    story.actions.clear()
    return story
