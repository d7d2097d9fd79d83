"""What one batch of decisions leaves behind, before it is committed.

Used by `react` alone. Several observations on one session build on each other here; memory and engine see nothing of
it until the ledger has it.
"""

from collections import ChainMap
from collections.abc import Collection, Iterator, Mapping, MutableMapping

from controller.core.admission import Directory, awaits_container
from controller.interfaces import Answer, CommittedDecision
from controller.loops.inbox import Slot
from controller.loops.roster import Names, Roster, know
from controller.model.action import Action
from controller.model.decision import Decision, LookWish
from controller.model.ids import ActionId, ContainerId, SessionId, SessionName
from controller.model.journal import Evidence, JournalDraft
from controller.model.observation import Observation
from controller.model.session import Attempt, Session


class WorkingCopy:
    """The roster as it will be, and everything that goes into the ledger or out of it with the batch."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self.changed: dict[SessionId, Session] = {}
        self.left_behind: dict[tuple[SessionId, int], Attempt] = {}
        self.known: MutableMapping[ContainerId, SessionId] = ChainMap({}, roster.known)
        self._by_key: MutableMapping[str, SessionId] = ChainMap({}, roster.by_key)
        self._names: dict[SessionName, SessionId | None] = {}
        self.decisions: list[CommittedDecision] = []
        self.actions: dict[ActionId, Action] = {}
        self.closed: dict[ActionId, None] = {}
        self.evidence: list[Evidence] = []
        self.looks: list[LookWish] = []
        self.answers: list[tuple[Slot, Answer]] = []

    def session(self, session_id: SessionId) -> Session | None:
        """As the batch has it so far."""
        return self.changed.get(session_id) or self._roster.sessions.get(session_id)

    def named(self, name: SessionName) -> SessionId | None:
        """Who has that name and is not removed."""
        return self._names[name] if name in self._names else self._roster.by_name.get(name)

    def all_ids(self) -> list[SessionId]:
        """Every session that is not removed, or whose end may still turn out to have been the engine's doing."""
        ids = {**self._roster.sessions, **self.changed}
        return [session_id for session_id in ids if (one := self.session(session_id)) and _still_moves(one)]

    def directory(self) -> Directory:
        """Who is who, as the batch has it so far."""
        return Directory(
            known=self.known,
            by_key=self._by_key,
            taken=Names(self._roster.by_name, self._names),
            ousted_keys=_OustedKeys(self, self._by_key),
            awaiting=_Awaiting(self),
        )

    def has_its_name(self, session: Session) -> bool:
        """Whether it may be present under its name: two sessions that are not removed never share one."""
        return session.removed_at is not None or self.named(session.name) in (None, session.id)

    def add(self, observation: Observation, decision: Decision) -> None:
        """Take in one decision that holds together."""
        if decision.session is not None:
            self._replace(decision.session)
        if decision.rows:
            self.decisions.append(CommittedDecision(observation=observation, rows=decision.rows))
        self.actions.update((action.id, action) for action in decision.actions)
        self.closed.update(dict.fromkeys(decision.closed))
        self.evidence.extend(decision.evidence)

    def add_row(self, observation: Observation | None, row: JournalDraft) -> None:
        """Take in a row that no decision made: a defect, or a gap."""
        self.decisions.append(CommittedDecision(observation=observation, rows=(row,)))

    def new_actions(self) -> list[Action]:
        """Those that this batch opens and does not close again."""
        return [action for action in self.actions.values() if action.id not in self.closed]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing in it that the ledger must hold."""
        return not (self.decisions or self.changed or self.actions or self.closed or self.evidence)

    def _replace(self, session: Session) -> None:
        before = self.session(session.id)
        if session == before:
            return
        self._leave_behind(session)
        self.changed[session.id] = session
        know(self.known, session)
        if session.external_key:
            self._by_key[session.external_key] = session.id
        if session.removed_at is None:
            self._names[session.name] = session.id
        elif self.named(session.name) == session.id:
            self._names[session.name] = None

    def _leave_behind(self, session: Session) -> None:
        """A session carries its latest attempts alone: one that came and went within this batch is kept beside it."""
        if session.id in self.changed:
            carried = {attempt.number for attempt in session.attempts}
            for attempt in self.changed[session.id].attempts:
                if attempt.number not in carried:
                    self.left_behind[session.id, attempt.number] = attempt


class _OustedKeys(Collection[str]):
    """External keys whose session is removed, and whose name another one has; asked for one key at a time."""

    def __init__(self, copy: WorkingCopy, by_key: Mapping[str, SessionId]) -> None:
        self._copy = copy
        self._by_key = by_key

    def __contains__(self, key: object) -> bool:
        owner = self._by_key.get(key) if isinstance(key, str) else None
        session = self._copy.session(owner) if owner is not None else None
        return session is not None and self._copy.named(session.name) not in (None, session.id)

    def __iter__(self) -> Iterator[str]:
        return (key for key in self._by_key if key in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _Awaiting(Collection[SessionName]):
    """Names of sessions whose container is being created; asked for one name at a time."""

    def __init__(self, copy: WorkingCopy) -> None:
        self._copy = copy

    def __contains__(self, name: object) -> bool:
        owner = self._copy.named(SessionName(name)) if isinstance(name, str) else None
        session = self._copy.session(owner) if owner is not None else None
        return session is not None and awaits_container(session)

    def __iter__(self) -> Iterator[SessionName]:
        sessions = (self._copy.session(one) for one in self._copy.all_ids())
        return (one.name for one in sessions if one is not None and one.name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _still_moves(session: Session) -> bool:
    return session.removed_at is None or session.provisional is not None
