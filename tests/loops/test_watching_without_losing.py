"""What the stream loses, doubles or garbles costs time and never truth; and it is said."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from controller.errors import EngineUnavailable, LedgerError
from controller.interfaces import Batch, Clock
from controller.loops.condition import ControllerCondition
from controller.loops.gaps import Gaps
from controller.loops.inbox import Envelope, Inbox, Note, Slot
from controller.loops.replay import SEEN_MIN, Replay, SeenEvents
from controller.model.container import EngineEvent, EngineInfo, EventAction, Snapshot
from controller.model.exit import Confidence
from controller.model.ids import ContainerId, EngineId
from controller.model.instant import Instant, after, seconds_between
from controller.model.journal import RowKind
from controller.model.observation import EngineLost
from controller.model.phase import Phase
from controller.model.reason import Reason, Source
from controller.store.committer import SqliteLedger
from tests.support.fake_engine import FakeEngine
from tests.support.full_disk import FullDisk
from tests.support.manual_clock import ManualClock, turns
from tests.support.stage import PATIENCE_S, Stage, on_stage, plain_settings

WATCHED = {"agentd.watch": "true"}
GONE = EngineUnavailable("connection refused", request_sent=False)


async def _running(stage: Stage, name: str = "web") -> None:
    await stage.row(lambda row: row.draft.session == name and row.draft.to_phase is Phase.RUNNING)


async def _paused(stage: Stage, engine: FakeEngine, container: ContainerId) -> None:
    await _running(stage)
    engine.pause(container)
    await stage.row(lambda row: row.draft.to_phase is Phase.PAUSED)


@asynccontextmanager
async def _life_with_a_pause(folder: Path, clock: ManualClock) -> AsyncIterator[tuple[Stage, FakeEngine, ContainerId]]:
    """A container runs, and its pause is the newest event that is known."""
    engine = FakeEngine(clock)
    container = engine.add("web", labels=WATCHED)
    async with on_stage(folder, engine) as stage:
        await _paused(stage, engine, container)
        yield stage, engine, container


async def _ended_with_a_pause(folder: Path, clock: ManualClock) -> tuple[FakeEngine, ContainerId]:
    """The same, and that life is over."""
    async with _life_with_a_pause(folder, clock) as (_, engine, container):
        return engine, container


async def test_the_first_start_opens_no_gap(tmp_path: Path) -> None:
    async with on_stage(tmp_path, FakeEngine(ManualClock())) as stage:
        assert await stage.gaps() == []


async def test_a_reconnect_that_repeats_the_last_event_proves_that_nothing_is_missing(tmp_path: Path) -> None:
    async with _life_with_a_pause(tmp_path, ManualClock()) as (stage, engine, container):
        engine.cut()
        await stage.until(lambda: engine.open_streams_count == 0)
        engine.unpause(container)
        row = await stage.row(lambda row: row.draft.reason is Reason.UNPAUSED, step_s=0.1)
        assert row.draft.source is Source.REPLAY
        [gap] = await stage.gaps()
        assert gap.closed_at is not None
        assert gap.found.startswith("nothing")


async def test_a_reconnect_without_overlap_is_a_gap_that_its_sweep_closes(tmp_path: Path) -> None:
    async with _life_with_a_pause(tmp_path, ManualClock()) as (stage, engine, container):
        engine.cut()
        await stage.until(lambda: engine.open_streams_count == 0)
        engine.memory.clear()
        engine.exit(container, 3, told=False)
        row = await stage.row(lambda row: row.draft.to_phase is Phase.FAILED, step_s=0.25)
        assert row.draft.source is Source.INFERRED
        await stage.row(lambda row: row.draft.kind is RowKind.GAP and "closed after" in row.draft.message, step_s=0.1)
        [gap] = await stage.gaps()
        assert (gap.cause, gap.found) == ("stream cut", "1 mismatch, 1 that had moved on unseen")


async def test_what_the_controller_missed_while_it_was_down_is_found_by_the_replay(tmp_path: Path) -> None:
    clock = ManualClock()
    engine, container = await _ended_with_a_pause(tmp_path, clock)
    await clock.advance(5)
    engine.exit(container, 3)
    await clock.advance(5)
    async with on_stage(tmp_path, engine) as stage:
        row = await stage.row(lambda row: row.draft.to_phase is Phase.FAILED)
        assert row.draft.source is Source.REPLAY
        assert await stage.gaps() == []


async def test_a_life_whose_replay_proves_nothing_begins_with_a_gap(tmp_path: Path) -> None:
    engine, _ = await _ended_with_a_pause(tmp_path, ManualClock())
    engine.memory.clear()
    async with on_stage(tmp_path, engine) as stage:
        await stage.until(lambda: stage.condition.readiness().open_gaps == 0, step_s=0.25)
        await stage.settle()
        [gap] = await stage.gaps()
        assert gap.cause == "controller down"
        assert gap.closed_at is not None


async def test_the_event_that_shows_that_others_are_missing_may_be_that_of_a_later_run_itself(tmp_path: Path) -> None:
    engine, container = await _ended_with_a_pause(tmp_path, ManualClock())
    engine.memory.clear()
    async with on_stage(tmp_path, engine, ready=False) as stage:
        await stage.until(lambda: engine.open_streams_count == 1)
        engine.exit(container, 3)
        row = await stage.row(lambda row: row.draft.to_phase is Phase.FAILED)
        assert row.draft.source is Source.EVENT
        assert row.draft.exit is not None
        assert row.draft.exit.confidence is Confidence.LIKELY


async def test_a_gap_that_grows_while_its_sweep_is_under_way_stays_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = FakeEngine(ManualClock())
    container = engine.add("web", labels=WATCHED)
    disk = FullDisk(monkeypatch)
    async with on_stage(tmp_path, engine) as stage:
        await _paused(stage, engine, container)
        engine.cut()
        await stage.until(lambda: engine.open_streams_count == 0)
        engine.memory.clear()
        engine.exit(container, 3, told=False)
        await stage.until(lambda: engine.open_streams_count == 1, step_s=0.05)
        disk.is_full = True
        with anyio.fail_after(PATIENCE_S):
            while engine.asked[-1] != "tail":
                await stage.clock.advance(0.05)
        await stage.clock.advance(0.05)
        engine.down = GONE
        engine.cut()
        with anyio.fail_after(PATIENCE_S):
            while engine.open_streams_count:
                await stage.clock.advance(0.05)
        disk.is_full = False
        await stage.clock.advance(20)
        await stage.settle()
        [gap] = await stage.gaps()
        assert gap.closed_at is None
        engine.down = None
        await stage.until(lambda: stage.condition.readiness().open_gaps == 0, step_s=0.5)


async def test_a_life_that_ends_before_its_replay_has_settled_leaves_the_time_before_it_in_doubt(
    tmp_path: Path,
) -> None:
    clock = ManualClock()
    engine, _ = await _ended_with_a_pause(tmp_path, clock)
    died_at = clock.now()
    engine.memory.clear()
    await clock.advance(100)
    async with on_stage(tmp_path, engine, ready=False) as stage:
        await stage.until(lambda: engine.open_streams_count == 1)
        await stage.create("job")
    await clock.advance(100)
    async with on_stage(tmp_path, engine) as stage:
        [gap] = await stage.gaps()
        assert gap.opened_at <= died_at


async def test_what_a_replay_told_and_nobody_has_committed_is_in_doubt_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock()
    engine, container = await _ended_with_a_pause(tmp_path, clock)
    known_until = clock.now()
    await clock.advance(50)
    engine.unpause(container)
    engine.pause(container)
    monkeypatch.setattr("controller.loops.inbox.BATCH_SIZE", 1)
    real, is_told = SqliteLedger.commit, False

    async def commit(self: SqliteLedger, batch: Batch) -> object:
        nonlocal is_told
        if is_told:
            raise LedgerError("ledger x: broken after the first event")
        is_told = any(session.phase is Phase.RUNNING for session in batch.sessions)
        return await real(self, batch)

    monkeypatch.setattr(SqliteLedger, "commit", commit)
    async with on_stage(tmp_path, engine, ready=False) as stage:
        await stage.row(lambda row: row.draft.reason is Reason.UNPAUSED, step_s=0.05)
        meta = await stage.ledger.meta()
    assert meta.seen_until is not None
    assert meta.seen_until <= known_until


async def test_a_break_before_the_first_event_is_a_gap_too(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    container = engine.add("web", labels=WATCHED)
    async with on_stage(tmp_path, engine) as stage:
        await _running(stage)
        engine.cut()
        await stage.until(lambda: engine.open_streams_count == 0)
        engine.exit(container, 3, told=False)
        await stage.row(lambda row: row.draft.to_phase is Phase.FAILED, step_s=0.25)
        await stage.until(lambda: stage.condition.readiness().open_gaps == 0, step_s=0.25)
        await stage.settle()
        [gap] = await stage.gaps()
        assert gap.found == "1 mismatch, 1 that had moved on unseen"


async def test_a_planned_renewal_is_no_gap_and_doubles_nothing(tmp_path: Path) -> None:
    async with _life_with_a_pause(tmp_path, ManualClock()) as (stage, engine, container):
        await stage.clock.advance(295)
        assert engine.open_streams_count == 2
        engine.unpause(container)
        await stage.row(lambda row: row.draft.reason is Reason.UNPAUSED)
        await stage.clock.advance(20)
        await stage.settle()
        assert engine.open_streams_count == 1
        assert await stage.gaps() == []
        told = [row.draft.reason for row in await stage.rows() if row.draft.source is Source.EVENT]
        assert told.count(Reason.UNPAUSED) == 1
        assert stage.condition.readiness().checks["stream"] == "ok"


@pytest.mark.parametrize("remembers", [True, False], ids=["it all repeated", "forgotten by the engine"])
async def test_a_stream_that_was_half_open_is_a_gap_unless_the_engine_repeats_what_it_kept_silent_about(
    tmp_path: Path, *, remembers: bool
) -> None:
    async with _life_with_a_pause(tmp_path, ManualClock()) as (stage, engine, container):
        engine.go_half_open()
        await stage.clock.advance(20)
        engine.unpause(container)
        engine.exit(container, 3)
        if not remembers:
            engine.memory.clear()
        await stage.clock.advance(320)
        await stage.settle()
        assert (await stage.session("web")).phase is Phase.FAILED
        assert [gap.cause for gap in await stage.gaps()] == ([] if remembers else ["stream half open"])


@pytest.mark.parametrize("remembers", [True, False], ids=["it all repeated", "forgotten by the engine"])
async def test_a_first_stream_that_is_half_open_before_any_event_hides_nothing(
    tmp_path: Path, *, remembers: bool
) -> None:
    engine = FakeEngine(ManualClock())
    container = engine.add("web", labels=WATCHED)
    async with on_stage(tmp_path, engine) as stage:
        await _running(stage)
        engine.go_half_open()
        engine.pause(container)
        engine.unpause(container)
        if not remembers:
            engine.memory.clear()
        await stage.clock.advance(320)
        await stage.settle()
        [gap] = await stage.gaps()
        assert gap.cause == "stream half open"


class _AnswersSlowly(FakeEngine):
    """What it says of its clock is old by the time that it arrives."""

    async def connect(self) -> EngineInfo:
        info = await super().connect()
        await self.clock.sleep(9)
        return info


async def test_what_is_repeated_of_a_dead_stream_seems_not_live_where_the_engines_clock_is_not_known_well(
    tmp_path: Path,
) -> None:
    clock = ManualClock()
    began_at = clock.now()
    engine = _AnswersSlowly(clock)
    container = engine.add("web", labels=WATCHED)
    async with on_stage(tmp_path, engine) as stage:
        await _paused(stage, engine, container)
        engine.go_half_open()
        engine.memory.clear()
        # The first window opened after 9 s, the next one opens 290 s later.
        await clock.advance(295 - seconds_between(began_at, clock.now()))
        assert engine.open_streams_count == 1
        engine.unpause(container)
        await stage.until(lambda: engine.open_streams_count == 2, step_s=0.25)
        await stage.settle()
        assert [gap.cause for gap in await stage.gaps()] == ["stream half open"]


async def test_the_gap_of_a_half_open_stream_that_nothing_replaced_begins_where_it_fell_silent(tmp_path: Path) -> None:
    async with _life_with_a_pause(tmp_path, ManualClock()) as (stage, engine, container):
        silent_since = stage.clock.now()
        engine.go_half_open()
        await stage.clock.advance(20)
        engine.failing["events"] = GONE
        engine.unpause(container)
        engine.exit(container, 3)
        engine.memory.clear()
        await stage.clock.advance(330)
        engine.failing.clear()
        await stage.until(lambda: stage.condition.readiness().ready, step_s=1)
        [gap] = await stage.gaps()
        assert abs(seconds_between(silent_since, gap.opened_at)) < 1


async def test_a_bad_line_is_counted_and_leads_to_a_gap_and_a_sweep(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    container = engine.add("web", labels=WATCHED)
    async with on_stage(tmp_path, engine) as stage:
        await _running(stage)
        engine.exit(container, 3, told=False)
        engine.send_bad_line()
        row = await stage.row(lambda row: row.draft.to_phase is Phase.FAILED)
        assert row.draft.source is Source.INFERRED
        await stage.until(lambda: stage.condition.readiness().open_gaps == 0)
        await stage.settle()
        [gap] = await stage.gaps()
        assert gap.cause == "bad line"


class _RestartsBehindALook(FakeEngine):
    """Once asked to: between what an inspect has read and its answer, the container ends and runs anew, unreadably."""

    restarts_next = False

    async def inspect(self, container: ContainerId | str) -> Snapshot:
        shown = await super().inspect(container)
        if self.restarts_next:
            self.restarts_next = False
            self.exit(shown.facts.id, 3, told=False)
            self.run(shown.facts.id, told=False)
            self.send_bad_line()
            await turns(20)
        return shown


async def test_a_gap_that_grows_behind_the_look_of_its_sweep_is_closed_by_the_next_one(tmp_path: Path) -> None:
    engine = _RestartsBehindALook(ManualClock())
    engine.add("web", labels=WATCHED)
    async with on_stage(tmp_path, engine) as stage:
        await _running(stage)
        engine.restarts_next = True
        engine.send_bad_line()
        await stage.until(lambda: stage.condition.readiness().bad_lines == 2)
        await stage.until(lambda: stage.condition.readiness().open_gaps == 0, step_s=0.25)
        await stage.settle()
        assert (await stage.session("web")).attempt_count == 2


@pytest.mark.parametrize(("quiet_s", "begins_before_s"), [(4, 4), (100, 10)])
async def test_a_bad_line_may_be_late_but_not_older_than_the_event_before_it(
    tmp_path: Path, *, quiet_s: float, begins_before_s: float
) -> None:
    async with _life_with_a_pause(tmp_path, ManualClock()) as (stage, engine, _):
        await stage.clock.advance(quiet_s)
        engine.send_bad_line()
        await stage.until(lambda: stage.condition.readiness().bad_lines == 1)
        await stage.settle()
        [gap] = await stage.gaps()
        assert seconds_between(gap.opened_at, stage.clock.now()) == pytest.approx(begins_before_s, abs=0.01)


async def test_a_broken_stream_makes_not_ready_until_it_is_open_again(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    async with on_stage(tmp_path, engine) as stage:
        engine.down = GONE
        engine.cut()
        await stage.until(lambda: not stage.condition.readiness().ready)
        assert not stage.condition.readiness().reachable
        assert stage.condition.readiness().checks["stream"] != "ok"
        engine.down = None
        await stage.ready()


async def test_an_engine_that_is_not_there_at_the_start_is_waited_for(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    engine.down = GONE
    engine.add("web", labels=WATCHED)
    async with on_stage(tmp_path, engine, ready=False) as stage:
        await stage.clock.advance(60)
        assert not stage.condition.readiness().ready
        assert len(stage.log.of("engine trouble")) == 1
        engine.down = None
        await stage.ready()
        await _running(stage)


async def test_a_socket_that_refuses_for_too_long_ends_the_program_with_4(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    engine.down = GONE
    settings = plain_settings(exit_when_engine_lost_s="120")
    async with on_stage(tmp_path, engine, ready=False, settings=settings) as stage:
        await stage.clock.advance(119)
        assert not stage.ended.is_set()
        await stage.until(stage.ended.is_set, step_s=5)
        assert stage.exit_code == 4


async def test_time_outs_alone_never_end_the_program(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    engine.down = EngineUnavailable("no answer within 10 s")
    settings = plain_settings(exit_when_engine_lost_s="120")
    async with on_stage(tmp_path, engine, ready=False, settings=settings) as stage:
        await stage.clock.advance(600)
        assert not stage.ended.is_set()


async def test_another_engine_is_neither_read_nor_touched_until_it_is_accepted(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    engine.add("web", labels=WATCHED)
    async with on_stage(tmp_path, engine) as stage:
        await _running(stage)
        await stage.create("job")
        await stage.row(lambda row: row.draft.session == "job" and row.draft.to_phase is Phase.RUNNING)
    before = len(engine.sent)
    engine.info = replace(engine.info, id=EngineId("engine-2"))
    engine.containers.clear()
    engine.asked.clear()
    async with on_stage(tmp_path, engine, ready=False) as stage:
        await stage.clock.advance(300)
        assert not stage.condition.readiness().ready
        assert "engine-2" in stage.condition.readiness().checks["engine"]
        assert set(engine.asked) == {"connect"}
        assert len(engine.sent) == before
        assert (await stage.session("web")).phase is Phase.RUNNING
        assert (await stage.requests.accept_engine()).accepted
        await stage.ready()
        assert (await stage.ledger.meta()).engine_id == "engine-2"


async def test_a_full_inbox_blocks_no_reader_and_is_a_gap(tmp_path: Path) -> None:
    clock = ManualClock()
    inbox = Inbox(size=1)
    condition = ControllerCondition(clock)
    gaps = Gaps(clock=clock, inbox=inbox, condition=condition)
    assert inbox.offer(_envelope(clock))
    assert not inbox.offer(_envelope(clock))
    first = gaps.open("overflow")
    assert gaps.open("overflow") is first
    assert gaps.uncommitted() == [first]
    assert len(await inbox.take()) == 1
    inbox.end()


async def test_an_ending_inbox_refuses_whoever_waits() -> None:
    inbox = Inbox()
    async with anyio.create_task_group() as group:
        answers = []

        async def ask() -> None:
            slot = Slot()
            answers.append(await inbox.ask(Note(slot=slot), slot))

        group.start_soon(ask)
        await turns()
        inbox.end()
    assert [answer.accepted for answer in answers] == [False]


def test_a_replay_is_held_back_until_it_is_known_what_it_is_worth() -> None:
    old, new = _event(at=100), _event(at=101)
    seen = SeenEvents([old.key], last_at=old.at, now=Instant(500))
    replay = Replay(seen, opened_at=Instant(500), proven=False)
    assert replay.take(new) == []
    assert [line.continuous for line in replay.take(old)] == [True, True]
    unproven = Replay(seen, opened_at=Instant(500), proven=False)
    assert unproven.take(new) == []
    [line] = unproven.settle()
    assert (line.replayed, line.continuous) == (True, False)
    live = unproven.take(_event(at=102))
    assert (live[0].replayed, live[0].continuous) == (False, True)


def test_keys_are_kept_for_ten_minutes_by_our_clock_whatever_the_engines_shows() -> None:
    seen = SeenEvents([], last_at=None, now=Instant(0))
    ahead = _event(at=after(Instant(0), 86_400))
    seen.add(ahead, now=Instant(0))
    later = [_event(at=number) for number in range(2 * SEEN_MIN)]
    for event in later:
        seen.add(event, now=after(Instant(0), 599))
    assert ahead in seen
    seen.add(_event(at=5_000), now=after(Instant(0), 601))
    assert ahead not in seen
    assert all(event in seen for event in later)


def test_the_last_keys_are_kept_through_any_silence() -> None:
    events = [_event(at=number) for number in range(2 * SEEN_MIN)]
    seen = SeenEvents([event.key for event in events], last_at=Instant(2 * SEEN_MIN), now=Instant(0))
    seen.add(_event(at=5_000), now=after(Instant(0), 86_400))
    assert [event in seen for event in events] == [number > SEEN_MIN for number in range(2 * SEEN_MIN)]


def test_an_event_that_is_known_is_not_live_and_a_new_one_is_though_the_last_was_stamped_ahead() -> None:
    known, last = _event(at=600), _event(at=700)
    seen = SeenEvents([known.key, last.key], last_at=last.at, now=Instant(500))
    replay = Replay(seen, opened_at=Instant(500), proven=False)
    assert replay.take(known) == []
    [_, line] = replay.take(_event(at=501))
    assert (line.replayed, line.continuous) == (False, True)
    assert replay.continuous is False


def _event(*, at: int) -> EngineEvent:
    return EngineEvent(container=ContainerId("c"), action=EventAction.DIE, at=Instant(at))


def _envelope(clock: Clock) -> Envelope:
    return Envelope(observation=EngineLost(observed_at=clock.now()))


async def test_one_container_that_cannot_be_asked_keeps_no_gap_open_and_makes_no_engine_unreachable(
    tmp_path: Path,
) -> None:
    engine = FakeEngine(ManualClock())
    container = engine.add("web", labels=WATCHED)
    wedged = engine.add("stuck", labels=WATCHED)
    async with on_stage(tmp_path, engine) as stage:
        await _running(stage)
        await _running(stage, "stuck")
        engine.pause(container)
        await stage.row(lambda row: row.draft.to_phase is Phase.PAUSED)
        engine.cut()
        await stage.until(lambda: engine.open_streams_count == 0)
        engine.memory.clear()
        engine.wedged[wedged] = None
        await stage.until(lambda: stage.condition.readiness().open_gaps > 0, step_s=0.25)
        await stage.until(lambda: stage.condition.readiness().reachable, step_s=0.25)
        while stage.condition.readiness().open_gaps:
            await stage.clock.advance(0.25)
            await stage.settle()
            assert stage.condition.readiness().reachable
        closed = await stage.row(
            lambda row: row.draft.kind is RowKind.GAP and "closed after" in row.draft.message, step_s=1.0
        )
        assert "no answer yet" in closed.draft.message
        assert (await stage.session("stuck")).phase is Phase.RUNNING
