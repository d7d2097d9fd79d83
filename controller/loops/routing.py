"""Whom an observation concerns: a session that is known, a container to be taken in, everybody, or nobody.

Used by `react`, which decides on each target in turn. It asks `core/` whose a container is; it decides nothing itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from controller.core.admission import Spared, admit, adoption, is_orphan_still
from controller.core.ownership import Owner, classify, external_session_id, may_act_on
from controller.core.rules import Rules
from controller.interfaces import Answer
from controller.loops.inbox import Envelope
from controller.loops.working_copy import WorkingCopy
from controller.model.container import ContainerState
from controller.model.decision import LookWish
from controller.model.ids import ContainerId, SessionId, SessionName
from controller.model.instant import Instant
from controller.model.observation import (
    ContainerAbsent,
    ContainerAdmitted,
    ContainerSeen,
    ControllerStarted,
    ControllerStopping,
    EngineLost,
    EventSeen,
    LookCause,
    Observation,
    OutcomeSeen,
    SessionRequested,
    Verb,
    VerbRequested,
)
from controller.model.session import Origin, Session

HELD_CONTAINERS_MAX: Final = 256
HELD_EVENTS_MAX: Final = 64
RIVAL_AGAIN_S: Final = 2.0
"""When to look again at a container that seems to be the second under one key."""
_LIVE: Final = (ContainerState.RUNNING, ContainerState.PAUSED)


@dataclass(frozen=True, kw_only=True)
class Route:
    """What one observation leads to, before anything is decided."""

    targets: Sequence[tuple[SessionId, Observation]] = ()
    looks: Sequence[LookWish] = ()
    answer: Answer | None = None
    """Given at once where there is nothing to decide."""


class Routing:
    """Finds the sessions. Holds the events of containers that a look is about to make known, so that none is lost."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._held: dict[ContainerId, list[EventSeen]] = {}
        self._rivals: dict[ContainerId, None] = {}

    def route(self, envelope: Envelope, copy: WorkingCopy, *, engine_now: Instant) -> Route:
        """Where this one goes."""
        observation = envelope.observation
        if envelope.session_id is not None:
            return self._to_session(envelope.session_id, observation, copy)
        match observation:
            case EventSeen():
                return self._event(observation, copy)
            case ContainerSeen() if envelope.adopted_by:
                return self._adopt(observation, copy, actor=envelope.adopted_by)
            case ContainerSeen():
                return self._seen(observation, copy, envelope=envelope, engine_now=engine_now)
            case ContainerAbsent():
                self._held.pop(observation.container, None)
                owner = copy.known.get(observation.container)
                return Route(targets=[(owner, observation)] if owner is not None else [])
            case SessionRequested():
                return _requested(observation, copy)
            case OutcomeSeen():
                return self._to_session(observation.outcome.action.session_id, observation, copy)
            case EngineLost():
                affected = [one for one in copy.all_ids() if _is_provisional(one, copy)]
                return Route(targets=[(one, observation) for one in affected])
            case ControllerStarted() | ControllerStopping():
                return Route(targets=[(one, observation) for one in copy.all_ids()])
            case _:
                return Route(answer=Answer(accepted=False, message="it concerns no session"))

    def rules_for(self, envelope: Envelope) -> Rules:
        """The rules, with what the request itself allows."""
        return replace(self._rules, orphan_policy="remove") if envelope.remove_orphan else self._rules

    def _to_session(self, session_id: SessionId, observation: Observation, copy: WorkingCopy) -> Route:
        if copy.session(session_id) is None:
            return Route(answer=Answer(accepted=False, message="no such session"))
        return Route(targets=[(session_id, observation)])

    def _event(self, seen: EventSeen, copy: WorkingCopy) -> Route:
        container = seen.event.container
        owner = copy.known.get(container)
        if owner is not None:
            return Route(targets=[(owner, seen)])
        if classify(container, seen.event.attributes, known=copy.known, rules=self._rules) is not Owner.EXTERNAL:
            return Route()
        held = self._held.get(container, [])
        if len(held) < HELD_EVENTS_MAX:
            held.append(seen)
        self._hold(container, held)
        return Route(looks=[LookWish(container=container, cause=LookCause.EVENT, tail=True)])

    def _hold(self, container: ContainerId, events: list[EventSeen]) -> None:
        """Until it is known whose they are; those of the container that has waited longest make room."""
        self._held[container] = events
        while len(self._held) > HELD_CONTAINERS_MAX:
            del self._held[next(iter(self._held))]

    def _seen(self, seen: ContainerSeen, copy: WorkingCopy, *, envelope: Envelope, engine_now: Instant) -> Route:
        container = seen.snapshot.facts.id
        rules = self.rules_for(envelope)
        verdict = admit(seen, directory=copy.directory(), engine_now=engine_now, rules=rules)
        if isinstance(verdict, Spared):
            self._held.pop(container, None)
            return Route()
        held = self._held.pop(container, [])
        if isinstance(verdict, ContainerAdmitted):
            return Route(targets=[(verdict.session_id, verdict), *((verdict.session_id, one) for one in held)])
        rival = _rival(seen, verdict, copy)
        if rival is not None and container not in self._rivals:
            if held:
                self._hold(container, held)
            return self._doubt(seen, rival)
        self._rivals.pop(container, None)
        if rival is not None and (duplicate := _duplicate(seen, rival, copy, rules)):
            return Route(targets=[(duplicate.session_id, duplicate), *((duplicate.session_id, one) for one in held)])
        owner = copy.session(verdict)
        if owner is not None and seen.cause is LookCause.SWEEP:
            still = is_orphan_still(owner, seen.snapshot, engine_now=engine_now, rules=rules)
            seen = replace(seen, orphan_still=still)
        return Route(targets=[(verdict, seen), *((verdict, one) for one in held)])

    def _adopt(self, seen: ContainerSeen, copy: WorkingCopy, *, actor: str) -> Route:
        owner = copy.known.get(seen.snapshot.facts.id)
        if owner is not None:
            wish = VerbRequested(verb=Verb.ADOPT, actor=actor, observed_at=seen.observed_at)
            return Route(targets=[(owner, wish)])
        verdict = adoption(seen, actor=actor, directory=copy.directory(), rules=self._rules)
        if isinstance(verdict, Spared):
            return Route(answer=Answer(accepted=False, message=verdict.reason))
        return Route(targets=[(verdict.session_id, verdict)])

    def _doubt(self, seen: ContainerSeen, session: Session) -> Route:
        """Two that seem to live under one key. Most often one has just followed the other: look at both again."""
        container = seen.snapshot.facts.id
        self._rivals[container] = None
        while len(self._rivals) > HELD_CONTAINERS_MAX:
            del self._rivals[next(iter(self._rivals))]
        again = LookWish(container=container, cause=seen.cause, delay_s=RIVAL_AGAIN_S)
        assert session.container_id is not None
        return Route(looks=[LookWish(container=session.container_id, cause=seen.cause, tail=True), again])


def _rival(seen: ContainerSeen, owner: SessionId, copy: WorkingCopy) -> Session | None:
    """The session that lives in another container, when this one lives too and claims the same external key."""
    session = copy.session(owner)
    if session is None or not session.is_external or session.container_id in (None, seen.snapshot.facts.id):
        return None
    return session if seen.snapshot.state in _LIVE and session.phase.is_live else None


def _duplicate(seen: ContainerSeen, session: Session, copy: WorkingCopy, rules: Rules) -> ContainerAdmitted | None:
    """A second live container under one external key gets a session of its own, under a suffixed name."""
    key = f"{session.external_key}#{seen.snapshot.facts.id[:12]}"
    session_id = external_session_id(key, rules)
    name = SessionName(f"{session.name[:56]}-{session_id[:6]}")
    if copy.session(session_id) is not None or name in copy.directory().taken:
        return None
    return ContainerAdmitted(
        session_id=session_id,
        name=name,
        origin=Origin.EXTERNAL,
        external_key=key,
        may_act=may_act_on(seen.snapshot.facts.labels, rules),
        seen=seen,
        renamed_from=session.name,
        duplicate=True,
    )


def _requested(requested: SessionRequested, copy: WorkingCopy) -> Route:
    owner = copy.named(requested.name)
    existing = copy.session(owner) if owner is not None else None
    if existing is None:
        return Route(targets=[(requested.session_id, requested)])
    same = bool(existing.spec_hash) and existing.spec_hash == requested.spec_hash
    message = "it is there already" if same else f"{requested.name} exists with another spec: remove it first"
    return Route(answer=Answer(accepted=same, message=message, session_id=existing.id))


def _is_provisional(session_id: SessionId, copy: WorkingCopy) -> bool:
    session = copy.session(session_id)
    return session is not None and session.provisional is not None
