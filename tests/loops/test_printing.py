"""Every committed row is printed at least once, and says so when it may be twice."""

from pathlib import Path

from controller.interfaces import Batch, CommittedDecision, JournalFilter
from controller.loops.log import InstantPaper
from controller.loops.publish import Publish
from controller.loops.rows import row_of_gap
from controller.model.journal import Gap
from controller.model.phase import Phase
from controller.store.ledger import open_ledger
from tests.support.fake_engine import FakeEngine
from tests.support.manual_clock import FixedRng, ManualClock
from tests.support.stage import Lines, on_stage

FIELDS = [
    *("seq", "session", "attempt", "from", "to", "health_from", "health_to", "reason", "message", "source", "actor"),
    *("at", "observed_at", "committed_at", "container_id", "exit", "evidence"),
]


async def test_a_transition_is_one_line_with_the_fields_of_the_contract(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    container = engine.add("web", labels={"agentd.watch": "true"})
    async with on_stage(tmp_path, engine) as stage:
        engine.exit(container, 3)
        row = await stage.row(lambda row: row.draft.to_phase is Phase.FAILED)
        await stage.settle()
        [line] = [line for line in stage.log.of("transition") if line["seq"] == row.seq]
        assert list(line) == FIELDS
        assert (line["session"], line["to"], line["reason"]) == ("web", "failed", "error_exit")
        assert isinstance(line["exit"], dict)
        assert line["exit"]["exit_code"] == 3


async def test_actions_are_lines_of_their_own_and_notes_are_not_printed(tmp_path: Path) -> None:
    engine = FakeEngine(ManualClock())
    async with on_stage(tmp_path, engine) as stage:
        await stage.create("job")
        await stage.row(lambda row: row.draft.action == "start done")
        await stage.settle()
        assert [line["action"] for line in stage.log.of("action")] == ["create done", "start done"]
        assert not stage.log.of("note")


async def test_what_may_have_been_printed_before_a_crash_is_printed_again_and_marked(tmp_path: Path) -> None:
    clock = ManualClock()
    row = row_of_gap(Gap(opened_at=clock.now(), closed_at=None, cause="x"), now=clock.now())
    decision = CommittedDecision(observation=None, rows=[row])
    async with open_ledger(tmp_path / "controller.db", clock=clock, rng=FixedRng()) as ledger:
        await ledger.commit(Batch(decisions=[decision, decision], published=0))
        await ledger.commit(Batch(decisions=[decision], published=1))
        log = Lines()
        published = (await ledger.meta()).published
        publish = Publish(clock=clock, ledger=ledger, log=log, paper=InstantPaper(), published=published)
        await publish.resume()
        await publish.drain()
        assert [(line["seq"], line.get("repeated")) for line in log.of("gap")] == [(2, True), (3, True)]
        publish.give(await ledger.commit(Batch(decisions=[decision])))
        await publish.drain()
        assert [(line["seq"], line.get("repeated")) for line in log.of("gap")][2:] == [(4, None)]
        assert publish.printed() == publish.committed() == 4


async def test_whoever_follows_the_journal_is_woken_by_a_commit(tmp_path: Path) -> None:
    async with on_stage(tmp_path, FakeEngine(ManualClock())) as stage:
        before = stage.feed.committed()
        await stage.create("job")
        woken_at = await stage.feed.wait_beyond(before)
        newest = await stage.ledger.journal(JournalFilter(after=before))
        assert before < woken_at <= newest[-1].seq


class Jam(InstantPaper):
    """Takes nothing until it is told to."""

    is_jammed = True

    def is_behind(self) -> bool:
        return self.is_jammed


async def test_what_still_waits_for_its_reader_is_not_printed_yet(tmp_path: Path) -> None:
    clock = ManualClock()
    row = row_of_gap(Gap(opened_at=clock.now(), closed_at=None, cause="x"), now=clock.now())
    async with open_ledger(tmp_path / "controller.db", clock=clock, rng=FixedRng()) as ledger:
        jam = Jam()
        publish = Publish(clock=clock, ledger=ledger, log=Lines(), paper=jam, published=0)
        publish.give(await ledger.commit(Batch(decisions=[CommittedDecision(observation=None, rows=[row, row])])))
        await publish.drain()
        assert publish.printed() == 0
        jam.is_jammed = False
        assert publish.printed() == 2
