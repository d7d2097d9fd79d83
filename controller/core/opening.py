"""An attempt begins: by an event, by an inspect that shows a run nobody knew, or by a new container."""

from dataclasses import replace
from typing import Final

from controller.core.draft import Draft
from controller.core.ownership import may_act_on
from controller.core.restart_policy import from_labels
from controller.core.rules import EARLIER_ATTEMPTS
from controller.model.container import ContainerFacts, EngineRestart
from controller.model.instant import Instant
from controller.model.phase import Desired, Health, Phase
from controller.model.reason import (
    ACTOR_CONTROLLER,
    ACTOR_ENGINE,
    ACTOR_EXTERNAL,
    ACTOR_UNKNOWN,
    Reason,
    Source,
)
from controller.model.session import Attempt, Session

_UNSEEN_ENDS: Final = (Reason.LOST, Reason.EXIT_UNKNOWN)


def expect_attempt(draft: Draft, facts: ContainerFacts, *, restart_count: int = 0) -> None:
    """A container exists: its first attempt is prepared, not begun. What the engine had counted by then is not ours."""
    _shift(
        draft,
        Attempt(
            number=draft.session.attempt_count + 1,
            container=facts.id,
            started_at=None,
            opened_at=draft.now,
            restart_count=restart_count,
        ),
    )


def open_attempt(
    draft: Draft, *, started_at: Instant, provisional: bool, restart_count: int = 0, source: Source | None = None
) -> None:
    """The present container runs anew. One transition to running."""
    session = draft.session
    assert session.container is not None, f"{session.name}: an attempt without a container"
    actor = _starter(session, restart_count=restart_count)
    if actor == ACTOR_ENGINE and session.attempt is not None:
        # An event does not tell the count: it is one more, until a look says otherwise.
        restart_count = restart_count or session.attempt.restart_count + 1
    # Only an event gives a provisional instant.
    start_told = provisional
    prepared = session.attempt
    if prepared is not None and prepared.started_at is None and prepared.ended_at is None:
        begun = replace(
            prepared,
            started_at=started_at,
            provisional=provisional,
            start_told=start_told,
            container=session.container.id,
            restart_count=max(prepared.restart_count, restart_count),
        )
        draft.session = replace(session, attempt=begun)
    else:
        _shift(
            draft,
            Attempt(
                number=session.attempt_count + 1,
                container=session.container.id,
                started_at=started_at,
                provisional=provisional,
                start_told=start_told,
                opened_at=draft.now,
                restart_count=restart_count,
            ),
        )
    first = session.attempt_count == 0 or draft.session.attempt_count == 1
    draft.session = replace(
        draft.session,
        desired=Desired.RUNNING if session.stop_wanted is None and not session.removal_wanted else session.desired,
        restarts=session.restarts + (1 if actor == ACTOR_CONTROLLER and not first else 0),
        engine_restarts=session.engine_restarts + (1 if actor == ACTOR_ENGINE else 0),
        provisional=None,
        look_owed_until=None,
        next_attempt_at=None,
        removed_at=None,
    )
    draft.enter(Phase.RUNNING, Reason.STARTED, f"attempt {draft.session.attempt_count}")
    health = Health.STARTING if session.container.has_probe else Health.NONE
    draft.session = replace(draft.session, health=health)
    draft.tell(actor=actor, source=source)


def change_container(draft: Draft, facts: ContainerFacts) -> None:
    """The session has another container now, whose labels count; the attempt that is over stays on record."""
    session = replace(draft.session, container=facts, removed_at=None)
    if session.is_external:
        policy, _ = from_labels(facts.labels)
        session = replace(session, policy=policy, may_act=may_act_on(facts.labels, draft.rules))
    draft.session = session
    expect_attempt(draft, facts)
    if session.engine_backs_off:
        # It was the container before that the engine was to start again.
        draft.enter(Phase.PENDING, Reason.CREATED, f"container {facts.name} follows the one before")
        draft.tell(actor=ACTOR_EXTERNAL)


def _shift(draft: Draft, attempt: Attempt) -> None:
    session = draft.session
    past = (session.attempt,) if session.attempt is not None else ()
    assert session.attempt is None or session.attempt.ended_at is not None, f"{session.name}: two attempts at once"
    draft.session = replace(
        session,
        attempt=attempt,
        attempt_count=attempt.number,
        earlier=_remembered((*past, *session.earlier)),
    )


def _remembered(past: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
    """The few newest, and among them the newest that ran: starts that are refused leave its instants in place."""
    kept = past[:EARLIER_ATTEMPTS]
    if any(one.started_at is not None for one in kept):
        return kept
    ran = next((one for one in past if one.started_at is not None), None)
    return kept if ran is None else (*kept[: EARLIER_ATTEMPTS - 1], ran)


def _starter(session: Session, *, restart_count: int) -> str:
    if session.phase in (Phase.PENDING, Phase.STARTING) and session.reason is Reason.START_REQUESTED:
        return ACTOR_CONTROLLER
    facts = session.container
    by_policy = facts is not None and facts.engine_restart is not EngineRestart.NO
    engine_had_it = session.phase is Phase.BACKOFF or session.reason is Reason.ENGINE_RESTART
    # Every start by its own policy, and only those, raises the engine's count.
    counted = session.attempt is not None and restart_count > session.attempt.restart_count
    if by_policy and (engine_had_it or counted):
        return ACTOR_ENGINE
    if by_policy and session.reason in _UNSEEN_ENDS:
        return ACTOR_UNKNOWN  # The engine, after its own restart, or somebody.
    return ACTOR_EXTERNAL
