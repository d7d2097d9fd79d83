"""Builders of the model's nouns for tests: sensible values where a test does not care."""

from dataclasses import replace

from controller.core.rules import Rules
from controller.model.action import Action, Outcome, OutcomeKind
from controller.model.container import (
    ContainerFacts,
    ContainerState,
    EngineEvent,
    EventAction,
    LogTail,
    Snapshot,
)
from controller.model.ids import ContainerId, ControllerId, SessionId, SessionName
from controller.model.instant import Instant, after
from controller.model.observation import (
    ContainerAbsent,
    ContainerAdmitted,
    ContainerSeen,
    EventSeen,
    LookCause,
    OutcomeSeen,
    SessionRequested,
    Verb,
    VerbRequested,
)
from controller.model.phase import Health
from controller.model.session import Origin
from controller.model.spec import RestartMode, RestartPolicy, SessionSpec

T0 = Instant(1_790_000_000_000_000_000)
"""When tests begin, on every clock."""

CONTAINER = ContainerId("c" * 64)
RULES = Rules(
    controller_id=ControllerId("1234567890abcdef"),
    prefix="agentd",
    engine="docker",
    keep_failed_s=None,
    keep_stopped_s=None,
)
"""Containers are kept for ever, so that nothing is due to a session at rest."""


def at(seconds: float) -> Instant:
    """That many seconds after the beginning."""
    return after(T0, seconds)


def facts(container: ContainerId = CONTAINER, **labels: str) -> ContainerFacts:
    """A container of ours, with extra labels (underscores become dots)."""
    return ContainerFacts(
        id=container,
        name="agentd-worker",
        image="busybox:test",
        labels={"agentd.prefix": "agentd", "agentd.controller": RULES.controller_id}
        | {key.replace("_", "."): value for key, value in labels.items()},
        created_at=T0,
    )


def snapshot(
    state: ContainerState = ContainerState.RUNNING,
    *,
    started_s: float | None = 1.0,
    finished_s: float | None = None,
    exit_code: int | None = None,
    of: ContainerFacts | None = None,
) -> Snapshot:
    """One inspect; instants in seconds after the beginning."""
    return Snapshot(
        facts=of or facts(),
        state=state,
        started_at=None if started_s is None else at(started_s),
        finished_at=None if finished_s is None else at(finished_s),
        exit_code=exit_code,
        health=Health.NONE if state is ContainerState.RUNNING else Health.UNKNOWN,
    )


def running(started_s: float = 1.0, **changes: object) -> Snapshot:
    """A running container."""
    return replace(snapshot(started_s=started_s), **changes)  # type: ignore[arg-type]


def exited(code: int, *, started_s: float = 1.0, finished_s: float = 5.0, oom: bool = False) -> Snapshot:
    """A container that has ended."""
    shot = snapshot(ContainerState.EXITED, started_s=started_s, finished_s=finished_s, exit_code=code)
    return replace(shot, oom_killed=oom)


def seen(
    shot: Snapshot, *, seconds: float = 6.0, cause: LookCause = LookCause.EVENT, tail: LogTail | None = None
) -> ContainerSeen:
    """A look's answer."""
    return ContainerSeen(snapshot=shot, cause=cause, asked_at=at(seconds), observed_at=at(seconds), tail=tail)


def absent(*, seconds: float = 6.0, cause: LookCause = LookCause.EVENT) -> ContainerAbsent:
    """A look's 404."""
    return ContainerAbsent(container=CONTAINER, cause=cause, asked_at=at(seconds), observed_at=at(seconds))


def event(
    action: EventAction,
    seconds: float,
    *,
    exit_code: int | None = None,
    signal: int | None = None,
    health: Health | None = None,
    replayed: bool = False,
    continuous: bool = True,
) -> EventSeen:
    """One line of the stream, seen the moment it happened."""
    return EventSeen(
        event=EngineEvent(
            container=CONTAINER,
            action=action,
            at=at(seconds),
            name="agentd-worker",
            exit_code=exit_code,
            signal=signal,
            health=health,
        ),
        observed_at=at(seconds),
        replayed=replayed,
        continuous=continuous,
    )


def spec(restart: RestartMode = RestartMode.NO, **changes: object) -> SessionSpec:
    """A spec with a restart mode."""
    policy = RestartPolicy(mode=restart)
    return replace(SessionSpec(image="busybox:test", restart=policy), **changes)  # type: ignore[arg-type]


def requested(asked: SessionSpec | None = None, *, start: bool = True) -> SessionRequested:
    """A user's create."""
    return SessionRequested(
        session_id=SessionId("s1"),
        name=SessionName("worker"),
        spec=asked or spec(),
        spec_hash="hash",
        start=start,
        actor="user:test",
        observed_at=T0,
    )


def admitted(shot: Snapshot, *, origin: Origin = Origin.EXTERNAL, seconds: float = 0.0) -> ContainerAdmitted:
    """A container that is taken into the ledger."""
    return ContainerAdmitted(
        session_id=SessionId("s1"),
        name=SessionName("worker"),
        origin=origin,
        external_key="docker:name:agentd-worker" if origin is Origin.EXTERNAL else "",
        seen=seen(shot, seconds=seconds, cause=LookCause.SWEEP),
    )


def verb(which: Verb, seconds: float, *, force: bool = False) -> VerbRequested:
    """A user's wish."""
    return VerbRequested(verb=which, actor="user:test", observed_at=at(seconds), force=force)


def outcome(
    action: Action,
    seconds: float,
    *,
    kind: OutcomeKind = OutcomeKind.DONE,
    shot: Snapshot | None = None,
    message: str = "",
) -> OutcomeSeen:
    """What came of an action."""
    return OutcomeSeen(
        outcome=Outcome(action=action, kind=kind, snapshot=shot, message=message), observed_at=at(seconds)
    )
