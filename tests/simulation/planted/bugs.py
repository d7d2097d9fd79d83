"""The planted bugs, by name, with where each is found."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import anyio

from controller.core import (
    admission,
    deadlines,
    draft,
    ending,
    looks,
    ownership,
    pursuing,
    restart_policy,
    settling,
    transitions,
    turns,
    wishes,
)
from controller.errors import ContainerGone, EngineUnavailable, LedgerError
from controller.interfaces import Answer, Batch
from controller.loops import act, gaps, look, program, react, replay, routing, shutdown, sweep, waiting, watch, windows
from controller.loops.roster import Roster
from controller.model.action import Action
from controller.model.journal import JournalRow
from controller.model.phase import Desired, Phase
from controller.model.session import Session
from controller.store import committer, connection
from tests.simulation.clock import SimulatedClock

Patch = Callable[[], Iterator[None]]


@dataclass(frozen=True, kw_only=True)
class Planted:
    """One bug."""

    name: str
    plant: Callable[[], Any]
    """A context manager for as long as the bug is there."""
    scenario: str = ""
    """The reference scenario in whose complete runs it is found; empty: in random seeds."""


def swapped(owner: Any, name: str, new: Any) -> Any:
    """A context in which an attribute is another one."""

    @contextmanager
    def plant() -> Iterator[None]:
        old = owner.__dict__[name] if isinstance(owner, type) else getattr(owner, name)
        setattr(owner, name, new)
        try:
            yield
        finally:
            setattr(owner, name, old)

    return plant


# --- commit and act ----------------------------------------------------------------------------------------------


async def _acts_first(self: Any, batch: Batch) -> Sequence[JournalRow]:
    self._outlets.act.take(list(batch.actions))
    await anyio.sleep(0.05)
    return await _written(self, batch)


_written = react.React._written


async def _swallows_a_failed_commit(self: Any, batch: Batch) -> Sequence[JournalRow]:
    try:
        return await _written(self, batch)
    except LedgerError:
        return []


def _answers_first(self: Any, envelope: Any, copy: Any, answer: Answer) -> None:
    if envelope.slot is not None:
        envelope.slot.fill(answer)


async def _forgets_what_is_open(self: Any) -> Sequence[Action]:
    return []


async def _two_transactions(opened: Any, statements: Any) -> None:
    middle = len(statements) // 2
    await _transact(opened, statements[:middle])
    await _transact(opened, statements[middle:])


_transact = connection.transact


# --- the engine's answers ----------------------------------------------------------------------------------------


async def _error_is_gone(clock: Any, seconds: float, call: Any) -> Any:
    try:
        return await _within(clock, seconds, call)
    except EngineUnavailable as error:
        raise ContainerGone(str(error)) from error


_within = waiting.within


async def _never_looks_first(self: Any, action: Action) -> Any:
    return None if action.container is not None else await _look_first(self, action)


_look_first = act.Act._look_first


async def _retries_nothing(self: Any, action: Action, *, resumed: bool) -> Any:
    if resumed:
        return act.Outcome(action=action, kind=act.OutcomeKind.DROPPED, message="resumed")
    return await _carry_out(self, action, resumed=resumed)


_carry_out = act.Act._carry_out


# --- decisions ---------------------------------------------------------------------------------------------------


def _stop_forgets_desired(draft_: Any, asked: Any) -> Any:
    before = draft_.session.desired
    reply = _stop(draft_, asked)
    draft_.session = replace(draft_.session, desired=before)
    return reply


_stop = wishes._stop


def _wrong_from(self: Any, **told: Any) -> None:
    _tell(self, **told)
    if self._rows[-1].from_phase is not None:
        self._rows[-1] = replace(self._rows[-1], from_phase=self._rows[-1].to_phase)


_tell = draft.Draft.tell


def _stays_down(draft_: Any) -> None:
    _became_engine_restart(draft_)
    draft_.session = replace(draft_.session, desired=Desired.STOPPED)


_became_engine_restart = ending.became_engine_restart


def _no_evidence(draft_: Any) -> None:
    attempt = draft_.session.attempt
    if attempt is not None and not attempt.evidence_kept:
        draft_.session = replace(draft_.session, attempt=replace(attempt, evidence_kept=True))
    _toward_removal(draft_)


_toward_removal = pursuing._toward_removal


def _as_if_never_due(session: Session) -> None:
    return None


def _shutdown_stops_all(draft_: Any, stopping: Any) -> None:
    session = draft_.session
    if session.phase is Phase.RUNNING:
        pursuing.want_stop(draft_, turns.StopCause.SHUTDOWN, actor="controller", longest_grace_s=stopping.grace_s)


def _wall_clock(self: Any) -> Any:
    return self._timeline.instant() + round(_wall.offset_s * 1e9)


class _Wall:
    offset_s = 0.0


_wall = _Wall()


def _end_without_rank(attempt: Any, earlier: Any, snapshot: Any) -> bool:
    return True


BUGS: Final[tuple[Planted, ...]] = (
    Planted(name="act before commit", plant=swapped(react.React, "_written", _acts_first), scenario="one shot"),
    Planted(name="error taken for gone", plant=swapped(look, "within", _error_is_gone), scenario="one that runs"),
    Planted(
        name="failed commit swallowed",
        plant=swapped(react.React, "_written", _swallows_a_failed_commit),
        scenario="one shot",
    ),
    Planted(name="answer before commit", plant=swapped(react.React, "_answer", _answers_first), scenario="one shot"),
    Planted(
        name="open actions forgotten at start",
        plant=swapped(committer.SqliteLedger, "open_actions", _forgets_what_is_open),
        scenario="one shot",
    ),
    Planted(
        name="one decision in two transactions",
        plant=swapped(committer, "transact", _two_transactions),
        scenario="one that runs",
    ),
    Planted(
        name="sent again without a look",
        plant=swapped(act.Act, "_look_first", _never_looks_first),
        scenario="one shot",
    ),
    Planted(
        name="resumed actions dropped", plant=swapped(act.Act, "_carry_out", _retries_nothing), scenario="one shot"
    ),
    Planted(
        name="stop leaves it wanted",
        plant=swapped(wishes, "_stop", _stop_forgets_desired),
        scenario="stopped by request",
    ),
    Planted(name="row from the wrong phase", plant=swapped(draft.Draft, "tell", _wrong_from), scenario="one that runs"),
    Planted(
        name="removed without evidence", plant=swapped(pursuing, "_toward_removal", _no_evidence), scenario="an orphan"
    ),
    Planted(name="deadlines never come", plant=swapped(draft, "earliest", _as_if_never_due), scenario="time over"),
    Planted(
        name="shutdown stops everybody's",
        plant=swapped(transitions, "on_controller_stopping", _shutdown_stops_all),
        scenario="watched",
    ),
)
_ = (admission, deadlines, ownership, restart_policy, settling, gaps, program, replay, routing, shutdown, sweep, watch)
_ = (*_, windows, Roster, SimulatedClock, looks)
