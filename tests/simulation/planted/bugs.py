"""The planted bugs, by name, with where each is found."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import anyio

from controller.core import (
    admission,
    deadlines,
    diagnosis,
    draft,
    drift,
    events,
    hindsight,
    judging,
    keeping,
    looks,
    outcomes,
    ownership,
    pursuing,
    restart_policy,
    settling,
    standing,
    transitions,
    turns,
    wishes,
)
from controller.core.rules import Rules
from controller.errors import ContainerGone, EngineUnavailable, LedgerError
from controller.interfaces import Answer, Batch, EngineCursor
from controller.loops import act, look, program, react, shutdown, sweep, target, waiting, watch, windows
from controller.loops.inbox import Envelope, Item
from controller.model.action import Action, ActionKind
from controller.model.ids import ContainerId
from controller.model.instant import Instant, after
from controller.model.journal import JournalRow
from controller.model.observation import EventSeen
from controller.model.phase import Phase
from controller.model.reason import Reason
from controller.model.session import Session, StopCause
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
    kind: str = ""
    """The kind of mishap that shows it, which is then played before all others."""


def swapped(owner: Any, name: str, new: Any) -> Any:
    """A context in which an attribute is another one."""

    @contextmanager
    def plant() -> Iterator[None]:
        own = name in vars(owner)
        old = vars(owner)[name] if own else None
        setattr(owner, name, new)
        try:
            yield
        finally:
            if own:
                setattr(owner, name, old)
            else:
                delattr(owner, name)

    return plant


def together(*plants: Any) -> Any:
    """Several changes that make one bug."""

    @contextmanager
    def plant() -> Iterator[None]:
        with ExitStack() as stack:
            for one in plants:
                stack.enter_context(one())
            yield

    return plant


# --- commit and act ----------------------------------------------------------------------------------------------


async def _acts_first(self: Any, batch: Batch) -> Sequence[JournalRow]:
    self._roster.replace(batch.sessions)
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


def _no_evidence(draft_: Any) -> None:
    attempt = draft_.session.attempt
    if attempt is not None and not attempt.evidence_kept:
        draft_.session = replace(draft_.session, attempt=replace(attempt, evidence_kept=True))
    _toward_removal(draft_)


_toward_removal = pursuing._toward_removal


def _as_if_never_due(session: Session, *, rules: Rules) -> None:
    return None


def _no_time_to_keep(session: Session, *, rules: Rules) -> Instant | None:
    return session.since if deadlines.is_at_rest(session) else None


def _never_long_enough(draft_: Any) -> bool:
    return False


def _whatever_is_lost(draft_: Any, *, why: str, **_: Any) -> None:
    draft_._evidence.clear()
    draft_.act(ActionKind.REMOVE, why=why)


def _never_only_the_container(session: Session) -> bool:
    return False


def _shutdown_stops_all(draft_: Any, stopping: Any) -> None:
    if draft_.session.phase is Phase.RUNNING:
        pursuing.want_stop(draft_, StopCause.SHUTDOWN, actor="controller", longest_grace_s=stopping.grace_s)


def _policy_after_any_stop(draft_: Any) -> None:
    draft_.session = replace(draft_.session, provisional=None)
    settling.settle(draft_)


def _no_outage(draft_: Any) -> None:
    hindsight.became_external(draft_)


def _everything_is_ours(container: Any, labels: Any, *, known: Any, rules: Any) -> ownership.Owner:
    owner = _classify(container, labels, known=known, rules=rules)
    return ownership.Owner.OURS if owner in (ownership.Owner.FOREIGN, ownership.Owner.CONTROLLER) else owner


_classify = ownership.classify


def _external_is_ours(container: Any, labels: Any, *, known: Any, rules: Any) -> ownership.Owner:
    owner = _classify(container, labels, known=known, rules=rules)
    return ownership.Owner.OURS if owner is ownership.Owner.EXTERNAL else owner


def _no_grace(settings: Any, meta: Any) -> Any:
    return replace(_rules_of(settings, meta), orphan_grace_s=0.0)


_rules_of = program.rules_of


def _dies_unheard(self: Any, line: Any) -> None:
    if line.event.action.value != "die":
        _on_line(self, line)


_on_line = watch.Watch._on_line


def _no_sweep_after_connect(self: Any, continuous: bool) -> None:  # noqa: FBT001  as the method that it stands for
    wanted, self._sweep.want = self._sweep.want, lambda *_, **__: None
    try:
        _on_settled(self, continuous)
    finally:
        self._sweep.want = wanted


_on_settled = watch.Watch._on_settled


async def _one_window(self: Any) -> None:
    async with anyio.create_task_group() as group:
        await self._open(group, until=after(self._condition.engine_now(), 1e7), planned=False)
        await anyio.sleep_forever()


def _counts_nothing(*_: Any, **__: Any) -> int:
    return 0


def _at_once(*_: Any, **__: Any) -> float:
    return 0.0


def _always_the_same_run(*_: Any, **__: Any) -> bool:
    return True


def _never_moved(*_: Any, **__: Any) -> None:
    return None


def _forgets_the_end(draft_: Any) -> None:
    attempt = draft_.session.attempt
    if attempt is not None and attempt.ended_at is not None:
        draft_.session = replace(draft_.session, attempt=replace(attempt, ended_at=None))


def _answer_revives(draft_: Any, seen: Any) -> None:
    _forgets_the_end(draft_)
    if draft_.session.phase.is_ended and seen.snapshot.state.value == "running":
        draft_.enter(Phase.RUNNING, Reason.STARTED)
        draft_.tell()
        return
    _apply_state(draft_, seen)


_apply_state = standing.apply_state


def _code_255_is_real(*arguments: Any, **named: Any) -> Any:
    return replace(_end_of(*arguments, **named), may_be_invented=False)


_end_of = judging.end_of


def _labels_are_believed(draft_: Any, event: Any, label: str, value: int | None) -> int | None:
    return value


async def _spins(self: Any) -> None:
    self._next_at = self._clock.now()
    while True:
        await self._bell.wait(clock=self._clock, until=self._next_at)
        if self._condition.accepted:
            await self._scheduled()


async def _never_ends(self: Any, *, asked: anyio.Event, hurried: anyio.Event) -> None:
    await hurried.wait()


def _nobody_in_the_way(*_: Any, **__: Any) -> str:
    return ""


def _as_it_was(session: Session, **_: Any) -> Session:
    return session


def _any_death_is_clean(facts: Any) -> Any:
    return _diagnose(replace(facts, exit_code=0))


_diagnose = diagnosis.diagnose


# --- time, rings and cancellation ----------------------------------------------------------------------------------


async def _cursor_first(self: Any, items: Sequence[Item]) -> None:
    events = [
        item.observation.event
        for item in items
        if isinstance(item, Envelope) and isinstance(item.observation, EventSeen)
    ]
    if events:
        newest = max(event.at for event in events)
        seen_until = self._condition.stream_seen_until
        cursor = EngineCursor(keys=[event.key for event in events], cursor=newest, seen_until=seen_until)
        await self._ledger.commit(Batch(stream=cursor))
        await anyio.sleep(0.5)
    await _react(self, items)


_react = react.React._react


def _unshielded(**_: Any) -> anyio.CancelScope:
    return _Scope()


_Scope = anyio.CancelScope


def _by_the_wall(self: SimulatedClock) -> Instant:
    return self.wall()


async def _clears_late(self: Any, container: ContainerId, wish: Any) -> None:
    await _one_look(self, container, wish)
    self._wishes.pop(container, None)


_one_look = look.Look._one


BUGS: Final[tuple[Planted, ...]] = (
    Planted(name="act before commit", plant=swapped(react.React, "_written", _acts_first), scenario="one shot"),
    Planted(
        name="failed commit swallowed",
        plant=swapped(react.React, "_written", _swallows_a_failed_commit),
        scenario="one shot",
        kind="sql",
    ),
    Planted(name="answer before commit", plant=swapped(react.React, "_answer", _answers_first), scenario="one shot"),
    Planted(
        name="one decision in two transactions",
        plant=swapped(committer, "transact", _two_transactions),
        scenario="one that runs",
        kind="kill at step",
    ),
    Planted(
        name="open actions forgotten at start",
        plant=swapped(committer.SqliteLedger, "open_actions", _forgets_what_is_open),
        scenario="one shot",
    ),
    Planted(
        name="sent again without a look", plant=swapped(act.Act, "_look_first", _never_looks_first), scenario="one shot"
    ),
    Planted(name="moved target not noticed", plant=swapped(act, "already", _never_moved)),
    Planted(name="error taken for gone", plant=swapped(look, "within", _error_is_gone), scenario="one that runs"),
    Planted(name="events of ends dropped", plant=swapped(watch.Watch, "_on_line", _dies_unheard), scenario="one shot"),
    Planted(
        name="no sweep after a connect",
        plant=swapped(watch.Watch, "_on_settled", _no_sweep_after_connect),
        scenario="an orphan",
    ),
    Planted(name="half-open stream never noticed", plant=swapped(windows.Windows, "_renew", _one_window)),
    Planted(name="a sweep that is owed spins", plant=swapped(sweep.Sweep, "run", _spins), scenario="daemon killed"),
    Planted(
        name="stop leaves it wanted",
        plant=swapped(wishes, "_stop", _stop_forgets_desired),
        scenario="stopped by request",
    ),
    Planted(name="row from the wrong phase", plant=swapped(draft.Draft, "tell", _wrong_from), scenario="one that runs"),
    Planted(
        name="removed without evidence", plant=swapped(pursuing, "_toward_removal", _no_evidence), scenario="an orphan"
    ),
    Planted(name="orphan grace ignored", plant=swapped(program, "rules_of", _no_grace), scenario="an orphan"),
    Planted(
        name="another controller's taken for ours",
        plant=together(
            swapped(admission, "classify", _everything_is_ours), swapped(drift, "classify", _everything_is_ours)
        ),
        scenario="an orphan",
    ),
    Planted(
        name="external taken for an orphan",
        plant=swapped(admission, "classify", _external_is_ours),
        scenario="an orphan",
    ),
    Planted(name="deadlines never come", plant=swapped(draft, "earliest", _as_if_never_due), scenario="time over"),
    Planted(
        name="restarts what somebody stopped",
        plant=swapped(turns, "became_external", _policy_after_any_stop),
        scenario="stopped by somebody",
    ),
    Planted(
        name="the daemon's stop taken for somebody's",
        plant=swapped(turns, "became_engine_restart", _no_outage),
        scenario="daemon stopped",
    ),
    Planted(
        name="shutdown stops everybody's",
        plant=swapped(transitions, "on_controller_stopping", _shutdown_stops_all),
        scenario="",
    ),
    Planted(
        name="shutdown never over",
        plant=swapped(shutdown.Shutdown, "run", _never_ends),
        scenario="stopped and started",
    ),
    Planted(
        name="budget ignored", plant=swapped(restart_policy, "count_in_window", _counts_nothing), scenario="crashing"
    ),
    Planted(name="no back-off", plant=swapped(restart_policy, "backoff_s", _at_once), scenario="crashing"),
    Planted(name="attempts mixed up", plant=swapped(looks, "_is_same_run", _always_the_same_run)),
    Planted(
        name="a refused start looks done",
        plant=swapped(target, "_has_run_since", lambda *_: True),
        scenario="starts no more",
    ),
    Planted(name="an old answer revives", plant=swapped(looks, "apply_state", _answer_revives)),
    Planted(name="an invented code believed", plant=swapped(standing, "end_of", _code_255_is_real)),
    Planted(name="a squatter adopted", plant=swapped(act, "is_of_another", _nobody_in_the_way)),
    Planted(
        name="deadlines not derived anew", plant=swapped(turns, "rederived", _as_it_was), scenario="clock set back"
    ),
    Planted(name="any end is clean", plant=swapped(judging, "diagnose", _any_death_is_clean), scenario="crashing"),
    Planted(
        name="a label believed",
        plant=swapped(events, "believed", _labels_are_believed),
        scenario="a label that lies",
    ),
    Planted(name="not kept for its time", plant=swapped(keeping, "kept_until", _no_time_to_keep)),
    Planted(name="kept for ever", plant=swapped(pursuing, "is_kept_long_enough", _never_long_enough)),
    Planted(name="pruned without evidence", plant=swapped(keeping, "remove_container", _whatever_is_lost)),
    Planted(name="pruning takes the session", plant=swapped(outcomes, "is_pruning", _never_only_the_container)),
    Planted(
        name="cursor committed early",
        plant=swapped(react.React, "_react", _cursor_first),
        scenario="stopped by somebody",
        kind="kill after commit",
    ),
    Planted(
        name="no shield",
        plant=together(
            swapped(anyio, "CancelScope", _unshielded),
            swapped(committer, "CancelScope", _unshielded),
            swapped(connection, "CancelScope", _unshielded),
        ),
        scenario="one that runs",
        kind="cancel at step",
    ),
    Planted(name="wall clock for deadlines", plant=swapped(SimulatedClock, "now", _by_the_wall)),
    Planted(name="late clear", plant=swapped(look.Look, "_one", _clears_late)),
)
