"""All loops, put together on what the ledger knows, and run side by side.

Used by `app.py`, which hands in the concrete rooms. What each loop may do is what it gets here: the engine's changing
half goes to `act` alone, the committing ledger to `react` alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import anyio

from controller.core.rules import Rules
from controller.interfaces import Clock, ExecutionBackend, Ledger, Meta, Rng
from controller.loops import prune
from controller.loops.act import Act
from controller.loops.condition import ControllerCondition
from controller.loops.creation import Creation
from controller.loops.gaps import Gaps
from controller.loops.inbox import Envelope, Inbox, Slot
from controller.loops.log import Log, Paper
from controller.loops.look import Look
from controller.loops.publish import Publish
from controller.loops.react import Outlets, React
from controller.loops.replay import EventKey, SeenEvents
from controller.loops.requests import InboxRequests
from controller.loops.roster import Roster
from controller.loops.second_opinion import SecondOpinion
from controller.loops.shutdown import Shutdown
from controller.loops.surroundings import Surroundings
from controller.loops.sweep import Sweep
from controller.loops.wake import Wake
from controller.loops.watch import Watch
from controller.model.action import Action
from controller.model.ids import ContainerId, SessionId
from controller.model.journal import Gap
from controller.model.observation import ControllerStarted
from controller.model.session import Session
from controller.settings import FORWARDED_KEYS, Settings

ENGINE_NAME = "docker"
"""The one engine there is so far; ids in the ledger carry it, so that one controller can later hold several."""
OPEN_GAPS_MAX = 1_000


@dataclass(frozen=True, kw_only=True)
class Known:
    """What the ledger has at the start of a life."""

    meta: Meta
    sessions: Sequence[Session]
    containers: Mapping[ContainerId, SessionId]
    open_actions: Sequence[Action]
    open_gaps: list[Gap]
    seen_keys: list[EventKey]

    @classmethod
    async def read(cls, ledger: Ledger) -> Self:
        """All of it. Raises LedgerError."""
        gaps = await ledger.gaps(limit=OPEN_GAPS_MAX)
        return cls(
            meta=await ledger.meta(),
            sessions=await ledger.sessions(include_removed=True),
            containers=await ledger.known_containers(),
            open_actions=await ledger.open_actions(),
            open_gaps=[gap for gap in reversed(gaps) if gap.closed_at is None],
            seen_keys=list(await ledger.seen_keys()),
        )


@dataclass(frozen=True, kw_only=True)
class Program:
    """One life of the controller."""

    clock: Clock
    settings: Settings
    inbox: Inbox
    condition: ControllerCondition
    look: Look
    second_opinion: SecondOpinion
    sweep: Sweep
    watch: Watch
    wake: Wake
    act: Act
    react: React
    publish: Publish
    shutdown: Shutdown
    requests: InboxRequests

    @classmethod
    async def load(
        cls,
        *,
        settings: Settings,
        ledger: Ledger,
        engine: ExecutionBackend,
        clock: Clock,
        rng: Rng,
        environment: Mapping[str, str],
        log: Log,
        paper: Paper,
    ) -> Self:
        """Everything as the ledger has it; nothing runs yet. Raises LedgerError."""
        known = await Known.read(ledger)
        rules = rules_of(settings, known.meta)
        inbox, condition = Inbox(), ControllerCondition(clock)
        condition.stream_seen_until = known.meta.seen_until
        gaps = Gaps(clock=clock, inbox=inbox, condition=condition)
        gaps.restore(known.open_gaps)
        around = Surroundings(clock=clock, rng=rng, inbox=inbox, condition=condition, gaps=gaps, log=log)
        roster = Roster(known.sessions, known=known.containers)
        publish = Publish(clock=clock, ledger=ledger, log=log, paper=paper, published=known.meta.published)
        await publish.resume()
        look = Look(clock=clock, engine=engine, inbox=inbox, condition=condition)
        sweep = Sweep(
            around,
            engine=engine,
            roster=roster,
            look=look,
            rules=rules,
            interval_s=settings.sweep_interval_s,
        )
        watch = Watch(
            around,
            engine=engine,
            sweep=sweep,
            seen=SeenEvents(known.seen_keys, last_at=known.meta.cursor, now=clock.now()),
            engine_id=known.meta.engine_id,
            seen_until=known.meta.seen_until,
            give_up_after_s=settings.exit_when_engine_lost_s,
        )
        act = Act(
            clock=clock,
            engine=engine,
            inbox=inbox,
            roster=roster,
            condition=condition,
            creation=_creation(settings, known.meta, roster=roster, rules=rules, environment=environment),
            rules=rules,
        )
        act.take(known.open_actions, resumed=True)
        wake = Wake(clock=clock, inbox=inbox, roster=roster)
        outlets = Outlets(act=act, look=look, publish=publish, wake=wake.bell)
        return cls(
            clock=clock,
            settings=settings,
            inbox=inbox,
            condition=condition,
            look=look,
            second_opinion=SecondOpinion(clock=clock, engine=engine, condition=condition),
            sweep=sweep,
            watch=watch,
            wake=wake,
            act=act,
            react=React(around, ledger=ledger, roster=roster, rules=rules, outlets=outlets, cursor=known.meta.cursor),
            publish=publish,
            shutdown=Shutdown(
                around,
                roster=roster,
                publish=publish,
                wake=wake,
                leave_running=settings.shutdown_leave_running,
                timeout_s=settings.shutdown_timeout_s,
                stops_sessions=settings.may_restart,
            ),
            requests=InboxRequests(inbox=inbox, look=look, sweep=sweep, watch=watch),
        )

    async def run(self, *, asked: anyio.Event, hurried: anyio.Event) -> None:
        """Run until told to stop. If one loop ends, all end; then what it raised is raised here, in a group."""
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self.react.run)
                group.start_soon(self.publish.run)
                group.start_soon(self._begin, group)
                await self.shutdown.run(asked=asked, hurried=hurried)
                group.cancel_scope.cancel()
        finally:
            # Only now: a loop that is about to take from the inbox when it is ended would see a closed stream.
            self.inbox.end()

    async def _begin(self, group: anyio.abc.TaskGroup) -> None:
        """First every session learns of its new life, then the engine is asked."""
        slot = Slot()
        started = ControllerStarted(observed_at=self.clock.now())
        await self.inbox.ask(Envelope(observation=started, slot=slot), slot)
        for loop in (self.look, self.second_opinion, self.sweep, self.wake, self.act, self.watch):
            group.start_soon(loop.run)
        await prune.run(clock=self.clock, inbox=self.inbox, retain_days=self.settings.retain_days)

    def close(self) -> None:
        """Refuse whatever still waits for an answer. Safe to repeat."""
        self.inbox.end()


def rules_of(settings: Settings, meta: Meta) -> Rules:
    """The settings that decisions depend on."""
    return Rules(
        controller_id=meta.controller_id,
        prefix=settings.prefix,
        engine=ENGINE_NAME,
        stop_grace_s=settings.stop_grace_s,
        connect_grace_s=settings.connect_grace_s,
        orphan_policy=settings.orphan_policy,
        orphan_grace_s=settings.orphan_grace_s,
        keep_failed_s=settings.keep_failed_s,
        keep_stopped_s=settings.keep_stopped_s,
        may_restart=settings.may_restart,
        may_manage=settings.may_manage,
    )


def _creation(
    settings: Settings, meta: Meta, *, roster: Roster, rules: Rules, environment: Mapping[str, str]
) -> Creation:
    return Creation(
        roster=roster,
        rules=rules,
        environment=environment,
        forwarded=FORWARDED_KEYS,
        key=meta.key,
        agent_url=settings.agent_url,
        host_url=settings.host_url,
    )
