"""Judges a world from outside: the engine's truth and the ledger's file against the invariants of `docs/invariants.md`.

It reads the ledger on a connection of its own, a few times a minute and after every death, and looks at each request
before it is sent. It never asks the controller anything.
"""

import json
import sqlite3
import zlib
from collections import Counter as Tally
from typing import TYPE_CHECKING, Any, Final

from controller.loops import watch, windows
from controller.loops.prune import DAY_S
from controller.model.ids import ContainerId
from controller.model.instant import Instant, after
from controller.model.journal import RowKind
from controller.model.phase import Phase
from controller.model.session import Session
from controller.store import codec
from tests.simulation import bounds, budget, targets, verdict
from tests.simulation.exchange import CHANGES, Request
from tests.simulation.faults import Fault
from tests.simulation.recall import Recall, can_be_asked, recall
from tests.simulation.wishes import Wish

if TYPE_CHECKING:
    from tests.simulation.world import World

LOOK_EVERY_S: Final = 5.0
EXPLAIN_EVERY: Final = 4
"""Looks from one session that is told in words to the next."""
STREAM_SLACK_S: Final = 60.0
EXIT_SLACK_S: Final = 5.0
CONNECTS_FIRST: Final = 16
"""The back-off doubles from 0.1 s to its longest, and begins anew only after as long a reading."""


class Oracle:
    """One for each world."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._ledger: sqlite3.Connection | None = None
        self._seq = 0
        self._writes = 0
        """Of the disk, when the journal was read last."""
        self._committed_at: list[Instant] = []
        self._oldest_kept = Instant(0)
        """Older rows than this may have been pruned by some life."""
        self._changes_count = 0
        """Journal rows but snapshots, which tell of no change: pruning writes them."""
        self._requests_seen = self._requests_count = 0
        self._phase: dict[str, str] = {}
        self._rank: dict[tuple[str, int], int] = {}
        self.automatic: dict[str, dict[str, float]] = {}
        """Session -> its automatic restarts: action, and when the engine was made to start it."""
        self._starts: dict[tuple[object, ...], list[Fault]] = {}
        """Action, and when it was decided -> each request that started its container, by what happened to that."""
        self.rows_count = 0
        """Journal rows of sessions that were read and judged."""
        self.asked: Tally[str] = Tally()
        """For the figures: what some judges were asked, where a world need not have any of it."""
        self.digest = 0
        self.reasons: Tally[str] = Tally()
        self.recall = Recall()
        self._looks = 0
        self._on_record: set[str] = set()
        self.forgot_at = float("-inf")
        """When a session was pruned last: what is left of its containers is recorded anew by the next sweep."""
        self._anew: set[str] = set()
        """Sessions that were pruned and are recorded again: their rows and requests are no movement."""
        self.settled: tuple[int, int] | None = None
        """Journal rows and requests at the end of the time to settle."""

    def begin(self) -> None:
        """Look every few seconds of virtual time, and when things must have settled."""
        world = self._world

        def again() -> None:
            self.look()
            if not world.menu.calm and world.script is not None:
                self.explain()
            elif not world.menu.calm:
                self._explain_one()
            world.timeline.after(LOOK_EVERY_S, again)

        world.timeline.after(LOOK_EVERY_S, again)

    def close(self) -> None:
        """Done with this world."""
        if self._ledger is not None:
            self._ledger.close()

    # --- reading ---------------------------------------------------------------------------------------------------

    @property
    def ledger(self) -> sqlite3.Connection | None:
        """The ledger's file; None while there is none with tables in it."""
        if self._ledger is None and self._world.path.exists() and self._world.path.stat().st_size > 0:
            self._ledger = sqlite3.connect(self._world.path, timeout=0, isolation_level=None)
        return self._ledger

    def query(self, sql: str, *values: object) -> list[Any]:
        """Rows of the ledger; none while it is not made yet."""
        if self.ledger is None:
            return []
        try:
            return self.ledger.execute(sql, values).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error) or "locked" in str(error):
                return []
            raise

    def sessions(self) -> list[Session]:
        """All sessions, removed ones too."""
        return [codec.SESSION.from_text(body) for (body,) in self.query("SELECT body FROM sessions ORDER BY id")]

    # --- before and after each request -----------------------------------------------------------------------------

    def before_request(self, request: Request) -> None:
        """Judge what is about to leave."""
        if self._world.loop is None or self._world.loop.dead:
            self._world.violated("S15", f"{request.kind} after death")
        if request.kind in CHANGES:
            targets.judge(self._world, self, request)

    def after_effect(self, request: Request) -> None:
        """S4: one action starts a container once, unless an earlier request of it came late to the engine."""
        budget.note(self._world, self, request)
        container = self._world.daemon.containers.get(ContainerId(request.container))
        if request.kind != "start" or container is None or not request.action:
            return
        began = [one for one in self._world.daemon.history if one.container == container.id and one.what == "started"]
        if not began or began[-1].by != "client" or began[-1].at != request.acted_at:
            return  # It ran already, or could not be started.
        # A session that was forgotten and is recorded anew counts its actions from the first one again.
        decided = self.query("SELECT decided_at FROM actions WHERE id = ?", request.action)
        told = self._starts.setdefault((request.action, *decided), [])
        told.append(request.fault)
        if len(told) > 1 and Fault.LATE not in told:
            self._world.violated("S4", f"{container.name} was started twice for one action: {request.reason}")

    def created_at(self, container: str) -> float:
        """When it was really created."""
        return next(
            (one.at for one in self._world.daemon.history if one.container == container and one.what == "created"), 0.0
        )

    def time_to_live(self, session_id: str) -> tuple[float | None, float]:
        """The longest time that a session was promised last, and since when: asked for, or renewed."""
        rows = self.query("SELECT body FROM sessions WHERE id = ?", session_id)
        spec = json.loads(rows[0][0])["spec"] if rows else None
        promised = [
            wish.at
            for wish in self._world.wishes
            if wish.session_id == session_id
            and (wish.what == "create" or (wish.what == "renew" and wish.answer is not None and wish.answer.accepted))
        ]
        return (spec["ttl_s"] if spec else None), max(promised, default=0.0)

    # --- every few seconds -----------------------------------------------------------------------------------------

    def look(self) -> None:
        """S2, S8: the journal only grows, without a hole, and each row begins where the one before it ended."""
        self._age()
        if self._writes != self._world.disk.writes:
            self._read_on()
        self._one_container_a_session()
        self._no_dead_stream()
        self._no_storm()
        self._leaves_when_told()
        bounds.judge(self._world)
        self._settle()

    def _read_on(self) -> None:
        self._writes = self._world.disk.writes
        for row in self.query(
            "SELECT seq, kind, session_id, body, committed_at FROM journal WHERE seq > ? ORDER BY seq", self._seq
        ):
            self._read(*row)
        on_record = {session_id for (session_id,) in self.query("SELECT id FROM sessions")}
        if self._on_record - on_record:
            self.forgot_at = self._world.timeline.now
        self._on_record = on_record

    def _age(self) -> None:
        retain_s = self._world.knobs.settings.retain_days * DAY_S
        self._oldest_kept = max(self._oldest_kept, after(self._world.clock.now(), -retain_s))

    def _read(self, seq: int, kind: str, session_id: str | None, body: str, committed_at: Instant) -> None:
        world = self._world
        self._committed_at.append(committed_at)
        # An engine whose clock was set ends its windows late: that looks like a half-open stream, and is said once. One
        # whose clock is known from a slow answer ends them early, now and then before the next one has opened.
        strange_clock = world.struck["engine clock jumps"] + world.menu.fired["connect: stale"] > 0
        self._changes_count += kind != RowKind.SNAPSHOT and not (kind == RowKind.GAP and strange_clock)
        if seq != self._seq + 1:
            world.violated("S8", f"journal row {seq} follows {self._seq}")
        self._seq = seq
        draft = json.loads(body)
        self.digest = zlib.crc32(f"{seq} {session_id} {draft['to_phase']} {draft['reason']}".encode(), self.digest)
        self.reasons[draft["reason"]] += 1
        world.tell(
            f"row {seq}: {draft['session']} #{draft['attempt']} {draft['from_phase']} -> {draft['to_phase']} "
            f"{draft['reason']} by {draft['actor']} ({draft['source']}) {draft['action']} {draft['message'][:90]}"
        )
        if draft["reason"] == "defect":
            world.violated("S8", f"a defect: {draft['message']}")
        if session_id is None or kind == "snapshot":
            return
        self.rows_count += 1
        if draft["from_phase"] is None and session_id in self._phase:
            self._begins_anew(session_id, seq)
        if session_id in self._anew:
            self._changes_count -= 1
        before = self._phase.get(session_id)
        if draft["from_phase"] != before:
            world.violated("S8", f"row {seq} of {draft['session']}: from {draft['from_phase']}, but it was {before}")
        self._phase[session_id] = draft["to_phase"]
        key, rank = (session_id, draft["attempt"]), Phase(draft["to_phase"]).rank
        # The rows that begin a further attempt still carry the number of the one that is over; and an attempt that was
        # prepared and never ran has no end.
        begins = draft["reason"] == "start_requested" and draft["to_phase"] in ("starting", "pending")
        never_ran = rank == Phase.STOPPED.rank and draft["exit"] is None
        if rank < self._rank.get(key, 0) and not begins:
            world.violated("S8", f"row {seq} of {draft['session']}: attempt {key[1]} falls back to {draft['to_phase']}")
        self._rank[key] = Phase.STARTING.rank if never_ran else rank

    def _begins_anew(self, session_id: str, seq: int) -> None:
        """A session of an external key that was forgotten with all its rows: what is left of its containers is new."""
        if not self.query("SELECT 1 FROM journal WHERE session_id = ? AND seq < ?", session_id, seq):
            del self._phase[session_id]
            self._rank = {key: rank for key, rank in self._rank.items() if key[0] != session_id}
            self._anew.add(session_id)

    def _one_container_a_session(self) -> None:
        live: dict[str, list[str]] = {}
        for container in self._world.daemon.containers.values():
            owner = container.labels.get("agentd.controller", "")
            if container.alive and owner and container.id not in self._world.bystanders:
                session = f"{container.labels.get('agentd.prefix')}/{container.labels.get('agentd.session')}"
                live.setdefault(session, []).append(container.id)
        for session, containers in live.items():
            if len(containers) > 1 and len(set(containers) - self._of_given_up_creates()) > 1:
                self._world.violated("S16", f"{len(containers)} live containers of session {session}")

    def _of_given_up_creates(self) -> set[str]:
        """What a create had made that was given up: found again as an orphan, and a session of its own by now; or not
        on record at all, and running because somebody else has started it.
        """
        rows = self.query("SELECT container_id FROM sessions WHERE origin = 'adopted' AND container_id IS NOT NULL")
        recorded = {one for (one,) in self.query("SELECT container_id FROM attempts")}
        began = {one.container: one.by for one in self._world.daemon.history if one.what == "started"}
        started_by_others = {container for container, by in began.items() if by == "outsider"}
        return {container for (container,) in rows} | (started_by_others - recorded)

    def _no_dead_stream(self) -> None:
        """L4: a stream that is only half open is given up within its window, whatever it looks like."""
        for reader in self._world.daemon.events.readers:
            limit_s = windows.WINDOW_S + windows.OVERLAP_S + STREAM_SLACK_S
            late = self._world.menu.calls.get(
                Fault.LATE, 0.0
            )  # An answer that comes too late opens a stream for nobody.
            if reader.half_open and not late and self._world.timeline.now - reader.half_open_since > limit_s:
                self._world.violated("L4", f"a stream has been half open for more than {limit_s:g} s")

    def _no_storm(self) -> None:
        """L5: however often a stream breaks, each connect after it waits for its back-off, which grows."""
        since = max(self._world.timeline.now - 60.0, self._world.life_began)
        most = CONNECTS_FIRST + round(3 * 60.0 / watch.BACKOFF_MAX_S)
        recent = [at for at in self._world.wire.connects[-most - 1 :] if at > since]
        if self._world.alive and len(recent) > most:
            self._world.violated("L5", f"more than {most} connects within a minute")

    def _leaves_when_told(self) -> None:
        """L6: after SIGTERM the program ends."""
        world = self._world
        limit_s = world.knobs.settings.shutdown_timeout_s + EXIT_SLACK_S
        if world.alive and world.stop_at is not None and world.timeline.now - world.stop_at > limit_s:
            world.violated("L6", f"still there {limit_s:g} s after SIGTERM")

    def _settle(self) -> None:
        world = self._world
        self._note_requests()
        if world.timeline.now < world.knobs.quiet_at_s + world.settle_s:
            return
        moved = (self._changes_count, self._requests_count)
        if self.settled is None:
            self.settled = moved
            verdict.converged(world)
            verdict.recovered(world)
            bounds.judge_journal(world)
        elif self.settled != moved:
            world.violated("L2", "something moves though nothing has changed")

    def _note_requests(self) -> None:
        """Count those that are a movement: all but those of sessions that are recorded anew."""
        sent = self._world.wire.requests
        anew = {
            container
            for one in self._anew
            for (container,) in self.query("SELECT container_id FROM sessions WHERE id = ?", one)
        }
        self._requests_count += sum(request.container not in anew for request in sent[self._requests_seen :])
        self._requests_seen = len(sent)

    def answered(self, wish: Wish) -> None:
        """S1: what was answered as accepted is in the ledger at that moment."""
        if wish.what != "create" or wish.answer is None:
            return
        # The edge reads what was just accepted: what it cannot find then has not been committed.
        taken = wish.answer.accepted or wish.answer.message.startswith("404")
        if taken and not self.query("SELECT 1 FROM sessions WHERE id = ?", wish.answer.session_id or wish.session_id):
            self._world.violated("S1", f"the session {wish.session} was accepted, and is not in the ledger")

    def after_life(self) -> None:
        """S1: what was committed is there after the death, whatever kind of death it was, or old enough to go."""
        self._age()
        self._writes = -1
        limit = self._oldest_kept
        (found,) = self.query(
            "SELECT count(*) FROM journal WHERE seq <= ? AND committed_at >= ?", self._seq, limit
        ) or [(0,)]
        wanted = sum(at >= limit for at in self._committed_at)
        if found[0] != wanted:
            self._world.violated("S1", f"{wanted - found[0]} journal rows are lost")
        self.look()

    def explain(self) -> None:
        """In the midst of it, too, each session can be told in words."""
        verdict.explained(self._world, self.sessions())

    def _explain_one(self) -> None:
        """One session after the other, while things happen to it."""
        self._looks += 1
        bodies = self.query("SELECT body FROM sessions ORDER BY id") if self._looks % EXPLAIN_EVERY == 0 else []
        if bodies:
            (body,) = bodies[self._looks // EXPLAIN_EVERY % len(bodies)]
            verdict.explained(self._world, [codec.SESSION.from_text(body)])

    def at_the_end(self) -> None:
        """Everything that can be judged only when all is over."""
        self._writes = -1
        self.look()
        verdict.at_the_end(self._world)
        if can_be_asked(self._world):
            self.asked["worlds asked for recall"] += 1
            self.recall = recall(self._world)
            if self.recall.lost or self.recall.invented:
                told = f"{self.recall.lost} transitions are lost without a sign, {self.recall.invented} are invented"
                self._world.violated("S19", told)
