"""The first observation of a session: somebody asked for it, or a container is taken into the ledger."""

from dataclasses import replace
from typing import Final

from controller.core.draft import Draft
from controller.core.looks import on_seen
from controller.core.opening import expect_attempt
from controller.core.pursuing import pursue
from controller.core.restart_policy import from_labels
from controller.core.rules import BEFORE_OUR_TIME_S, Rules
from controller.core.settling import begin
from controller.core.specs import LABEL_PREFIX
from controller.model.action import ActionKind
from controller.model.container import ContainerState
from controller.model.decision import Decision, Reply
from controller.model.instant import Instant, after
from controller.model.observation import ContainerAdmitted, SessionRequested
from controller.model.phase import Desired, Phase
from controller.model.reason import Reason
from controller.model.session import Origin, Session
from controller.model.spec import RestartPolicy

_OVER: Final = (ContainerState.EXITED, ContainerState.DEAD)


def on_requested(requested: SessionRequested, *, now: Instant, rules: Rules) -> Decision:
    """A new session, with the intent to create its container committed before the engine hears of it."""
    if not rules.may_manage:
        return Decision(session=None, reply=Reply(accepted=False, message="the mode forbids to create sessions"))
    spec = requested.spec
    session = Session(
        id=requested.session_id,
        name=requested.name,
        engine=rules.engine,
        origin=Origin.REQUESTED,
        spec=spec,
        spec_hash=requested.spec_hash,
        policy=spec.restart,
        desired=Desired.RUNNING if requested.start else Desired.STOPPED,
        phase=Phase.PENDING,
        reason=Reason.CREATED,
        created_at=now,
        since=now,
        expires_at=after(now, spec.ttl_s) if spec.ttl_s is not None else None,
    )
    draft = Draft.of_new(session, requested, now=now, rules=rules)
    draft.tell(actor=requested.actor)
    if requested.start:
        begin(draft, why="create and start", actor=requested.actor)
    else:
        draft.act(ActionKind.CREATE, why="create", actor=requested.actor)
    return draft.done(Reply(accepted=True))


def on_admitted(admitted: ContainerAdmitted, *, now: Instant, rules: Rules) -> Decision:
    """A container becomes a session: watched, adopted, or recorded because it is about to be removed."""
    snapshot = admitted.seen.snapshot
    policy, complaint = _policy(admitted)
    long_over = _was_over_before_our_time(admitted)
    orphan = admitted.origin is Origin.ORPHAN
    reason = {
        Origin.EXTERNAL: Reason.CREATED,
        Origin.ADOPTED: Reason.ADOPTED,
        Origin.ORPHAN: Reason.ORPHAN_FOUND,
        Origin.REQUESTED: Reason.CREATED,
    }[admitted.origin]
    session = Session(
        id=admitted.session_id,
        name=admitted.name,
        engine=rules.engine,
        origin=admitted.origin,
        external_key=admitted.external_key,
        may_act=admitted.may_act,
        policy=RestartPolicy() if long_over else policy,
        desired=Desired.STOPPED if orphan else Desired.RUNNING,
        phase=Phase.PENDING,
        reason=Reason.DUPLICATE if admitted.duplicate else reason,
        message=_admission_text(admitted, complaint),
        created_at=now,
        since=now,
        container=snapshot.facts,
    )
    draft = Draft.of_new(session, admitted, now=now, rules=rules)
    expect_attempt(draft, snapshot.facts, restart_count=snapshot.restart_count)
    draft.tell(actor=admitted.actor)
    if orphan:
        draft.session = replace(draft.session, removal_wanted=True)
    on_seen(draft, admitted.seen)
    if long_over:
        # Whoever stopped it, or saw it end, has let it lie: what its labels ask for counts from its next run on.
        draft.session = replace(draft.session, policy=policy, desired=Desired.STOPPED)
    if orphan:
        draft.session = replace(draft.session, desired=Desired.STOPPED)
        pursue(draft)
    elif draft.session.phase is Phase.PENDING:
        # A failed start has no event: what is only created is looked at again.
        for delay_s in (2.0, 10.0, 30.0):
            draft.look(delay_s=delay_s)
    return draft.done(Reply(accepted=True))


def _was_over_before_our_time(admitted: ContainerAdmitted) -> bool:
    """Whether an external container had ended long before anybody here watched it, and not in a gap just now."""
    snapshot = admitted.seen.snapshot
    if admitted.origin is not Origin.EXTERNAL or snapshot.state not in _OVER or snapshot.finished_at is None:
        return False
    return after(snapshot.finished_at, BEFORE_OUR_TIME_S) < admitted.seen.observed_at


def _policy(admitted: ContainerAdmitted) -> tuple[RestartPolicy, str]:
    if admitted.origin is Origin.EXTERNAL:
        return from_labels(admitted.seen.snapshot.facts.labels)
    return RestartPolicy(), ""


def _admission_text(admitted: ContainerAdmitted, complaint: str) -> str:
    facts = admitted.seen.snapshot.facts
    parts = [f"container {facts.name} is {admitted.seen.snapshot.state}"]
    if admitted.renamed_from:
        parts.append(f"the name {admitted.renamed_from} is taken")
    if not admitted.may_act:
        parts.append("another prefix may act on it, this one only watches")
    if LABEL_PREFIX in facts.labels and admitted.origin is Origin.EXTERNAL:
        parts.append("it carries a prefix too, and is watched all the same")
    if complaint:
        parts.append(f"its restart labels are ignored: {complaint}")
    return "; ".join(parts)
