"""A decision in the making: effects are collected while it is thought through, and returned once, at the end.

Only `core/` uses it. A change of the session without a row of its own becomes a note, so that the journal alone
always gives the session back.
"""

from dataclasses import replace
from typing import assert_never

from controller.core.deadlines import earliest
from controller.core.rules import ACTION_LIMIT_S, Rules
from controller.model.action import Action, ActionKind
from controller.model.container import LogTail, Snapshot
from controller.model.decision import Decision, LookWish, Reply
from controller.model.exit import Exit
from controller.model.ids import ActionId
from controller.model.instant import Instant, after
from controller.model.journal import Evidence, JournalDraft, RowKind
from controller.model.observation import (
    ConnectionChanged,
    ContainerAbsent,
    ContainerAdmitted,
    ContainerSeen,
    ControllerStarted,
    ControllerStopping,
    DeadlineReached,
    EngineLost,
    EventSeen,
    LookCause,
    Observation,
    OutcomeSeen,
    SessionRequested,
    VerbRequested,
)
from controller.model.phase import Health, Phase
from controller.model.reason import ACTOR_CONTROLLER, Reason, Source
from controller.model.session import Attempt, Session


class Draft:
    """The session as it will be, and what follows from that."""

    def __init__(self, session: Session, observation: Observation, *, now: Instant, rules: Rules) -> None:
        self.session = session
        self.observation = observation
        self.now = now
        self.rules = rules
        self._told: Session | None = session
        self._rows: list[JournalDraft] = []
        self._actions: list[Action] = []
        self._closed: list[ActionId] = []
        self._evidence: list[Evidence] = []
        self._looks: list[LookWish] = []

    @classmethod
    def of_new(cls, session: Session, observation: Observation, *, now: Instant, rules: Rules) -> "Draft":
        """A draft whose first row comes from nowhere."""
        draft = cls(session, observation, now=now, rules=rules)
        draft._told = None
        return draft

    @property
    def attempt(self) -> Attempt | None:
        """The present attempt."""
        return self.session.attempt

    def enter(self, phase: Phase, reason: Reason, message: str = "") -> None:
        """Stand in a phase, for a reason. Health counts only while running."""
        moved = phase is not self.session.phase
        keeps_health = phase is Phase.RUNNING
        self.session = replace(
            self.session,
            phase=phase,
            reason=reason,
            message=message,
            since=self.now if moved else self.session.since,
            health=self.session.health if keeps_health else Health.UNKNOWN,
            unhealthy_since=self.session.unhealthy_since if keeps_health else None,
            connection_due_at=self._connection_due(moved=moved) if keeps_health else None,
        )

    def _connection_due(self, *, moved: bool) -> Instant | None:
        """Whoever comes to run, anew or after a pause, has the whole grace to connect."""
        spec = self.session.spec
        if not moved or spec is None or not spec.expect_connection or self.session.connected:
            return self.session.connection_due_at
        return after(self.now, self.rules.connect_grace_s)

    def tell(
        self,
        *,
        actor: str = ACTOR_CONTROLLER,
        reason: Reason | None = None,
        message: str | None = None,
        source: Source | None = None,
        at: Instant | None = None,
        kind: RowKind = RowKind.TRANSITION,
        action: str = "",
    ) -> None:
        """One journal row: what has changed since the last one, with the session's reason unless another is given."""
        told, session, attempt = self._told, self.session, self.session.attempt
        self._rows.append(
            JournalDraft(
                kind=kind,
                session_id=session.id,
                session=session.name,
                attempt=session.attempt_count,
                from_phase=told.phase if told is not None else None,
                to_phase=session.phase,
                health_from=told.health if told is not None else None,
                health_to=session.health,
                reason=reason or session.reason,
                message=session.message if message is None else message,
                source=source or source_of(self.observation),
                actor=actor,
                at=at or engine_time_of(self.observation),
                observed_at=self.observation.observed_at,
                container_id=attempt.container if attempt is not None else session.container_id,
                exit=_shown_exit(session),
                evidence=f"attempt/{attempt.number}" if attempt is not None and attempt.evidence_kept else "",
                action=action,
            )
        )
        self._told = session

    def act(self, kind: ActionKind, *, why: str, actor: str = ACTOR_CONTROLLER, grace_s: float = 0.0) -> None:
        """Ask for a change of the engine. At most one action of a session is open at a time."""
        session = self.session
        assert not session.open_actions, f"{session.name}: a {kind} was decided while {session.open_actions} is open"
        ours = session.attempt is not None and session.attempt.container == session.container_id
        attempt = session.attempt if ours else None
        number = session.action_count + 1
        action = Action(
            id=ActionId(f"{session.id}/{number}"),
            session_id=session.id,
            kind=kind,
            container=None if kind is ActionKind.CREATE else session.container_id,
            started_at=attempt.started_at if attempt is not None else None,
            attempt=attempt.number if attempt is not None else 0,
            decided_at=self.now,
            drop_at=after(self.now, ACTION_LIMIT_S + grace_s),
            grace_s=grace_s,
            reason=why,
            actor=actor,
        )
        self._actions.append(action)
        self.session = replace(session, action_count=number, open_actions=(*session.open_actions, action.id))

    def close(self, action: ActionId) -> None:
        """An action has ended, however it ended."""
        remaining = tuple(open_one for open_one in self.session.open_actions if open_one != action)
        self.session = replace(self.session, open_actions=remaining)
        self._closed.append(action)

    def look(self, *, cause: LookCause = LookCause.EVENT, delay_s: float = 0.0, tail: bool = False) -> None:
        """Ask for an inspect of the session's container."""
        container = self.session.container_id
        if container is not None:
            self._looks.append(LookWish(container=container, cause=cause, delay_s=delay_s, tail=tail))

    def keep(self, snapshot: Snapshot, tail: LogTail) -> None:
        """Keep what the present attempt leaves behind."""
        attempt = self.session.attempt
        assert attempt is not None
        self._evidence.append(
            Evidence(
                session_id=self.session.id,
                attempt=attempt.number,
                container_id=snapshot.facts.id,
                kept_at=self.now,
                tail=tail,
                probes=snapshot.probes,
                state=_state_text(snapshot),
            )
        )
        self.session = replace(self.session, attempt=replace(attempt, evidence_kept=True))

    def done(self, reply: Reply | None = None) -> Decision:
        """The decision. The ledger's invariants about one decision are asserted here."""
        session = self.session = replace(self.session, due_at=earliest(self.session, rules=self.rules))
        if session != self._told:
            self.tell(kind=RowKind.NOTE)
        assert len(session.open_actions) <= 1, f"{session.name}: {session.open_actions}"
        assert session.phase is Phase.RUNNING or session.health is Health.UNKNOWN, f"{session.name}: {session.health}"
        return Decision(
            session=session,
            rows=tuple(self._rows),
            actions=tuple(self._actions),
            closed=tuple(self._closed),
            evidence=tuple(self._evidence),
            looks=tuple(self._looks),
            reply=reply,
        )


def source_of(observation: Observation) -> Source:
    """How an observation was learnt."""
    match observation:
        case EventSeen():
            return Source.REPLAY if observation.replayed else Source.EVENT
        case ContainerSeen() | ContainerAbsent():
            return Source.SWEEP if observation.cause is LookCause.SWEEP else Source.LOOK
        case ContainerAdmitted():
            return Source.REQUEST if observation.seen.cause is LookCause.REQUEST else Source.SWEEP
        case OutcomeSeen():
            return Source.ACTION
        case SessionRequested() | VerbRequested() | ConnectionChanged() | ControllerStopping():
            return Source.REQUEST
        case DeadlineReached() | ControllerStarted():
            return Source.TIMER
        case EngineLost():
            return Source.INFERRED
        case _:
            assert_never(observation)


def engine_time_of(observation: Observation) -> Instant | None:
    """The engine's own time of what was observed, where it has one."""
    return observation.event.at if isinstance(observation, EventSeen) else None


def _shown_exit(session: Session) -> Exit | None:
    return session.attempt.exit if session.attempt is not None and session.phase.is_ended else None


def _state_text(snapshot: Snapshot) -> str:
    facts = snapshot.facts
    parts = [
        f"state={snapshot.state}",
        f"exit_code={snapshot.exit_code}",
        f"oom_killed={str(snapshot.oom_killed).lower()}",
        f"restart_count={snapshot.restart_count}",
        f"memory_limit_bytes={facts.memory_limit_bytes}",
        f"error={snapshot.error[:500]!r}",
    ]
    return " ".join(parts)
