"""Records for the ledger's tests: the least that each needs, everything else by keyword."""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from random import Random

import anyio

from controller.interfaces import CommittedDecision
from controller.model.action import Action, ActionKind
from controller.model.container import LogTail
from controller.model.ids import ActionId, ContainerId, SessionId, SessionName
from controller.model.instant import Instant, after
from controller.model.journal import Evidence, JournalDraft, RowKind
from controller.model.observation import DeadlineReached, Observation
from controller.model.phase import Desired, Health, Phase
from controller.model.reason import Reason, Source
from controller.model.session import Attempt, Origin, Session

START = Instant(1_780_000_000_000_000_000)
DAY_S = 86_400.0


@dataclass
class ManualClock:
    """Stands still until it is told to go on."""

    at: Instant = START

    def now(self) -> Instant:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.pass_s(seconds)
        await anyio.lowlevel.checkpoint()

    def move_on_after(self, seconds: float) -> AbstractContextManager[anyio.CancelScope]:
        return anyio.move_on_after(seconds)

    def pass_s(self, seconds: float) -> None:
        self.at = after(self.at, seconds)


@dataclass
class SeededRng:
    """The same bytes each time."""

    random: Random = field(default_factory=lambda: Random(1))

    def token(self, bytes_count: int) -> str:
        return self.random.randbytes(bytes_count).hex()

    def uniform(self, low: float, high: float) -> float:
        return self.random.uniform(low, high)


def attempt(number: int = 1, *, container: str = "c1", ended_at: Instant | None = None) -> Attempt:
    return Attempt(
        number=number,
        container=ContainerId(container),
        started_at=after(START, number),
        opened_at=after(START, number),
        ended_at=ended_at,
    )


def session(
    name: str = "alpha",
    *,
    latest: Attempt | None = None,
    removed_at: Instant | None = None,
    session_id: str = "",
    action_count: int = 0,
) -> Session:
    return Session(
        id=SessionId(session_id or f"id-of-{name}"),
        name=SessionName(name),
        engine="local",
        origin=Origin.REQUESTED,
        desired=Desired.RUNNING,
        phase=Phase.RUNNING,
        health=Health.NONE,
        reason=Reason.STARTED,
        created_at=START,
        since=START,
        attempt=latest,
        attempt_count=0 if latest is None else latest.number,
        removed_at=removed_at,
        action_count=action_count,
    )


def draft(of: Session, *, number: int | None = None, message: str = "", observed_at: Instant = START) -> JournalDraft:
    return JournalDraft(
        kind=RowKind.TRANSITION,
        session_id=of.id,
        session=of.name,
        attempt=of.attempt_count if number is None else number,
        from_phase=None,
        to_phase=of.phase,
        health_from=None,
        health_to=of.health,
        reason=of.reason,
        message=message,
        source=Source.EVENT,
        actor="engine",
        at=None,
        observed_at=observed_at,
        container_id=None if of.attempt is None else of.attempt.container,
    )


def decision(*rows: JournalDraft, observation: Observation | None = None) -> CommittedDecision:
    return CommittedDecision(observation=observation or DeadlineReached(observed_at=START), rows=rows)


def action(of: Session, number: int = 1) -> Action:
    return Action(
        id=ActionId(f"{of.id}/{number}"),
        session_id=of.id,
        kind=ActionKind.STOP,
        container=ContainerId("c1"),
        started_at=START,
        decided_at=after(START, number),
        drop_at=after(START, number + 60),
    )


def evidence(of: Session, number: int = 1, *, line: str = "last words") -> Evidence:
    return Evidence(
        session_id=of.id,
        attempt=number,
        container_id=ContainerId("c1"),
        kept_at=START,
        tail=LogTail(lines=(line,), truncated=False),
        probes=(),
        state="exited 1",
    )
