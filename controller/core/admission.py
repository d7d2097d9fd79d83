"""What becomes of a container that no session has: watched, adopted, recorded as an orphan to remove, or spared.

Pure. `react` calls it for an inspect of an unknown container; a dry run calls it to show the same plan.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from controller.core.ownership import (
    Owner,
    claimed_name,
    classify,
    external_key,
    external_session_id,
    may_act_on,
    may_be_a_copy,
    name_for,
)
from controller.core.ownership import wanted_name as wanted_name_of
from controller.core.rules import Rules
from controller.model.container import ContainerState, Snapshot
from controller.model.ids import ContainerId, SessionId, SessionName
from controller.model.instant import Instant, seconds_between
from controller.model.observation import ContainerAdmitted, ContainerSeen
from controller.model.session import Origin, Session

BEING_CREATED: Final = "its session is being created"
COPIED: Final = "its name is not that of its session's container: a copy of it, or renamed"
_NEXT: Final = "+"
"""Behind the key of a session that lost its name: the next one under that key has a name of its own."""


@dataclass(frozen=True, kw_only=True)
class Directory:
    """Who is who in the ledger just now."""

    known: Mapping[ContainerId, SessionId]
    by_key: Mapping[str, SessionId]
    """External sessions by key, removed ones too: a container recreated later is a new attempt of it."""
    taken: Collection[SessionName]
    """Names of sessions that are not removed."""
    ousted_keys: Collection[str] = ()
    """Keys of removed sessions whose name another session has by now: they cannot come back."""
    awaiting: Collection[SessionName] = ()
    """Sessions whose container is being created: `awaits_container`."""


@dataclass(frozen=True, kw_only=True)
class Spared:
    """Nothing is to be recorded, and why."""

    reason: str


def admit(
    seen: ContainerSeen, *, directory: Directory, engine_now: Instant, rules: Rules
) -> ContainerAdmitted | SessionId | Spared:
    """An admission, or the session that the container is a new attempt of, or why it is left alone."""
    facts = seen.snapshot.facts
    match classify(facts.id, facts.labels, known=directory.known, rules=rules):
        case Owner.KNOWN:
            return directory.known[facts.id]
        case Owner.EXTERNAL:
            return _external(seen, directory=directory, rules=rules)
        case Owner.OURS if claimed_name(facts.labels, rules) in directory.awaiting:
            return Spared(reason=BEING_CREATED)
        case Owner.OURS:
            spared = spared_as(seen.snapshot, engine_now=engine_now, rules=rules)
            return Spared(reason=spared) if spared else _orphan(seen, directory=directory, rules=rules)
        case Owner.CONTROLLER:
            return Spared(reason="it is a controller")
        case Owner.FOREIGN:
            return Spared(reason="it belongs to another controller")
        case _:
            return Spared(reason="it carries no label of ours")


def awaits_container(session: Session) -> bool:
    """Whether a container under its name may be its own already, though no answer has said so yet."""
    return session.removed_at is None and session.container is None and is_ours_to_start(session)


def is_ours_to_start(session: Session) -> bool:
    """Whether it waits for something that we are about to do, or have begun."""
    return session.next_attempt_at is not None or bool(session.open_actions)


def spared_as(snapshot: Snapshot, *, engine_now: Instant, rules: Rules) -> str:
    """Why one of ours that no record knows is left alone all the same; empty when it is an orphan."""
    if may_be_a_copy(snapshot.facts.name, snapshot.facts.labels, rules):
        return COPIED
    created_at = snapshot.facts.created_at
    if created_at is None:
        return "its age is not known"
    youngest = max(created_at, snapshot.started_at or created_at)
    age_s = seconds_between(youngest, engine_now)
    if age_s < rules.orphan_grace_s:
        return f"created or started {max(age_s, 0.0):.0f} s ago, the grace is {rules.orphan_grace_s:g} s"
    if snapshot.state in (ContainerState.REMOVING, ContainerState.UNKNOWN):
        return f"its state is {snapshot.state}"
    if not rules.may_manage:
        return "the mode forbids to remove or adopt"
    return "the orphan policy is report" if rules.orphan_policy == "report" else ""


def is_orphan_still(session: Session, snapshot: Snapshot, *, engine_now: Instant, rules: Rules) -> bool:
    """Whether an orphan that was spared when it was to be removed is to be removed after all."""
    spared_before = session.origin is Origin.ORPHAN and session.removed_at is None and not session.removal_wanted
    may_remove = rules.orphan_policy == "remove" and not session.open_actions
    return spared_before and may_remove and not spared_as(snapshot, engine_now=engine_now, rules=rules)


def adoption(seen: ContainerSeen, *, actor: str, directory: Directory, rules: Rules) -> ContainerAdmitted | Spared:
    """Take over one container on request, whatever its labels; refused for a controller and for what a session has."""
    facts = seen.snapshot.facts
    owner = classify(facts.id, facts.labels, known=directory.known, rules=rules)
    if owner in (Owner.CONTROLLER, Owner.KNOWN):
        return Spared(reason="it is a controller" if owner is Owner.CONTROLLER else "a session has it already")
    if owner is Owner.OURS and claimed_name(facts.labels, rules) in directory.awaiting:
        return Spared(reason=BEING_CREATED)
    key = f"{rules.engine}:id:{facts.id}"
    return _admitted(seen, origin=Origin.ADOPTED, key=key, actor=actor, directory=directory, rules=rules)


def _external(seen: ContainerSeen, *, directory: Directory, rules: Rules) -> ContainerAdmitted | SessionId | Spared:
    facts = seen.snapshot.facts
    key = external_key(rules.engine, facts.name, facts.labels)
    while key in directory.ousted_keys:
        key += _NEXT
    if key in directory.by_key:
        return directory.by_key[key]
    return _admitted(seen, origin=Origin.EXTERNAL, key=key, actor="controller", directory=directory, rules=rules)


def _orphan(seen: ContainerSeen, *, directory: Directory, rules: Rules) -> ContainerAdmitted:
    origin = Origin.ADOPTED if rules.orphan_policy == "adopt" else Origin.ORPHAN
    key = f"{rules.engine}:id:{seen.snapshot.facts.id}"
    return _admitted(seen, origin=origin, key=key, actor="controller", directory=directory, rules=rules)


def _admitted(
    seen: ContainerSeen, *, origin: Origin, key: str, actor: str, directory: Directory, rules: Rules
) -> ContainerAdmitted:
    facts = seen.snapshot.facts
    external = origin is Origin.EXTERNAL
    name = name_for(facts.name, facts.labels, key=key, taken=directory.taken, rules=rules)
    wanted = wanted_name_of(facts.name, facts.labels, rules)
    return ContainerAdmitted(
        session_id=external_session_id(key, rules),
        name=name,
        origin=origin,
        external_key=key if external else "",
        may_act=not external or may_act_on(facts.labels, rules),
        seen=seen,
        actor=actor,
        renamed_from="" if wanted == name else wanted,
    )
