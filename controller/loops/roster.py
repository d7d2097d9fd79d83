"""The sessions in memory, as the ledger holds them, and who is who among them.

Changed by `react` alone, after a commit. The other loops read it; what they see is always committed.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, MutableMapping

from controller.loops.waiting import Tide
from controller.model.action import Action
from controller.model.ids import ContainerId, SessionId, SessionName
from controller.model.instant import Instant
from controller.model.session import Session


class Roster:
    """All sessions of the ledger, removed ones too."""

    def __init__(self, sessions: Iterable[Session], *, known: Mapping[ContainerId, SessionId]) -> None:
        self.sessions: dict[SessionId, Session] = {}
        self.known: dict[ContainerId, SessionId] = dict(known)
        self.by_key: dict[str, SessionId] = {}
        self.by_name: dict[SessionName, SessionId] = {}
        self.changed = Tide()
        self._due: dict[SessionId, Instant] = {}
        self.replace(sessions)

    def replace(self, sessions: Iterable[Session]) -> None:
        """Take over sessions as they were committed."""
        for session in sessions:
            self.sessions[session.id] = session
            know(self.known, session)
            if session.external_key:
                self.by_key[session.external_key] = session.id
            if session.removed_at is None:
                self.by_name[session.name] = session.id
            elif self.by_name.get(session.name) == session.id:
                del self.by_name[session.name]
            if session.due_at is not None:
                self._due[session.id] = session.due_at
            else:
                self._due.pop(session.id, None)
        self.changed.turn()

    def forget_all_but(self, kept: Collection[SessionId]) -> None:
        """Drop the sessions that the ledger has pruned."""
        gone = {session_id: None for session_id in self.sessions if session_id not in kept}
        for session_id in gone:
            del self.sessions[session_id]
            self._due.pop(session_id, None)
        self.known = {container: owner for container, owner in self.known.items() if owner not in gone}
        self.by_key = {key: owner for key, owner in self.by_key.items() if owner not in gone}

    def due_by(self, now: Instant) -> list[tuple[Instant, SessionId]]:
        """The sessions whose deadline has come, the earliest first."""
        return sorted((due_at, session_id) for session_id, due_at in self._due.items() if due_at <= now)

    def due_at(self, session_id: SessionId) -> Instant | None:
        """Its deadline."""
        return self._due.get(session_id)

    def next_due_after(self, now: Instant) -> Instant | None:
        """The earliest deadline that is still to come."""
        return min((due_at for due_at in self._due.values() if due_at > now), default=None)

    def is_open(self, action: Action) -> bool:
        """Whether an action still stands."""
        session = self.sessions.get(action.session_id)
        return session is not None and action.id in session.open_actions


class Names(Collection[SessionName]):
    """Names in use, as a batch of decisions that is not yet committed leaves them."""

    def __init__(self, committed: Mapping[SessionName, SessionId], pending: Mapping[SessionName, SessionId | None]):
        self._committed = committed
        self._pending = pending

    def __contains__(self, name: object) -> bool:
        pending = [owner for other, owner in self._pending.items() if other == name]
        return pending[0] is not None if pending else name in self._committed

    def __iter__(self) -> Iterator[SessionName]:
        return (name for name in {**self._committed, **self._pending} if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def know(known: MutableMapping[ContainerId, SessionId], session: Session) -> None:
    """Enter the containers that it has, or had not long ago; the present one beats another session's memory of it."""
    if session.container_id is not None:
        known[session.container_id] = session.id
    for attempt in session.attempts:
        known.setdefault(attempt.container, session.id)
