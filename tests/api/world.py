"""A small world for the HTTP edge: the real ledger, the real server on a real socket, and hand-moved everything else.

`World` plays the loops: it answers requests, and moves sessions when the test says so, by commits like the real ones.
"""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event, Thread

import anyio
from aiohttp import ClientSession

from controller.api.server import IDLE_TIMEOUT_S, build_app, serve
from controller.clock import RealClock, RealRng
from controller.errors import ContainerGone, EngineUnavailable
from controller.interfaces import Answer, Batch, Clock, CommittedDecision, PlanLine, Readiness, SweepReport
from controller.model.container import ContainerFacts, LogTail
from controller.model.ids import ContainerId, SessionId, SessionName
from controller.model.instant import Instant
from controller.model.journal import Evidence, JournalDraft, RowKind
from controller.model.observation import ConnectionChanged, Observation, SessionRequested, Verb, VerbRequested
from controller.model.phase import Desired, Health, Phase
from controller.model.reason import Reason, Source
from controller.model.session import Attempt, Origin, Session
from controller.settings import Settings
from controller.store.committer import SqliteLedger
from controller.store.ledger import open_ledger


class HandClock:
    """Time stands until the test moves it."""

    def __init__(self) -> None:
        self._real = RealClock()
        self._ahead_s = 0.0
        self._sleepers: list[tuple[float, anyio.Event]] = []
        self._limits: list[tuple[float, anyio.CancelScope]] = []

    def now(self) -> Instant:
        return Instant(self._real.now() + round(self._ahead_s * 1_000_000_000))

    async def sleep(self, seconds: float) -> None:
        due = anyio.Event()
        self._sleepers.append((self._ahead_s + seconds, due))
        await due.wait()

    @contextmanager
    def move_on_after(self, seconds: float) -> Iterator[anyio.CancelScope]:
        limit = (self._ahead_s + seconds, anyio.CancelScope())
        self._limits.append(limit)
        try:
            with limit[1] as scope:
                yield scope
        finally:
            self._limits.remove(limit)

    @property
    def sleepers_count(self) -> int:
        return sum(not due.is_set() for _, due in self._sleepers) + len(self._limits)

    def pass_s(self, seconds: float) -> None:
        self._ahead_s += seconds
        for at, due in self._sleepers:
            if at <= self._ahead_s:
                due.set()
        for at, scope in list(self._limits):
            if at <= self._ahead_s:
                scope.cancel()


class JournalFeed:
    """Committed rows as they come."""

    def __init__(self) -> None:
        self._seq = 0
        self._more = anyio.Event()

    def committed(self) -> int:
        return self._seq

    async def wait_beyond(self, seq: int) -> int:
        while self._seq <= seq:
            await self._more.wait()
        return self._seq

    def tell(self, seq: int) -> None:
        self._seq = seq
        self._more.set()
        self._more = anyio.Event()


class PrintedLines:
    """What containers printed; a container that is not in `printed` is gone."""

    def __init__(self) -> None:
        self.printed: dict[str, list[str]] = {}
        self.reachable = True

    async def tail(
        self, container: ContainerId, *, lines: int, max_bytes: int, since: Instant | None, until: Instant | None
    ) -> LogTail:
        if not self.reachable:
            return LogTail(lines=(), truncated=False, absent="could not ask")
        if container not in self.printed:
            return LogTail(lines=(), truncated=False, absent="container gone")
        return LogTail(lines=tuple(self.printed[container][-lines:] if lines else ()), truncated=False)

    @asynccontextmanager
    async def follow(self, container: ContainerId, *, lines: int) -> AsyncIterator[AsyncIterator[str]]:
        if not self.reachable:
            raise EngineUnavailable("connection refused")
        if container not in self.printed:
            raise ContainerGone(container)

        async def each() -> AsyncIterator[str]:
            for line in self.printed[container]:
                yield line

        yield each()


@dataclass(kw_only=True)
class World:
    """The loops, the engine and the condition, as far as the edge can see them."""

    ledger: SqliteLedger
    clock: Clock
    feed: JournalFeed = field(default_factory=JournalFeed)
    logs: PrintedLines = field(default_factory=PrintedLines)
    ready: Readiness = field(default_factory=lambda: Readiness(ready=True, reachable=True, checks={"ledger": "ok"}))
    prompt: bool = True
    """Whether what is accepted comes true at once."""
    refusal: str = ""
    """When set, every verb is refused with it."""
    failure: str = ""
    """When set, no start succeeds, and the engine says this."""
    lines: Sequence[PlanLine] = ()
    crash: bool = False
    submitted: list[Observation] = field(default_factory=list)
    connections: list[tuple[SessionId, bool]] = field(default_factory=list)
    connection_told: anyio.Event = field(default_factory=anyio.Event)

    def readiness(self) -> Readiness:
        if self.crash:
            raise RuntimeError("<script>a bug\x1b[31m</script>")
        return self.ready

    async def create(self, observation: Observation) -> Answer:
        assert isinstance(observation, SessionRequested)
        self.submitted.append(observation)
        if self.refusal:
            return Answer(accepted=False, message=self.refusal)
        session = a_session(observation.name, session_id=observation.session_id, now=self.clock.now())
        session = replace(session, spec=observation.spec, spec_hash=observation.spec_hash)
        await self.commit(session)
        if self.prompt:
            await self.run(session)
        return Answer(accepted=True, session_id=session.id)

    async def verb(self, session_id: SessionId, observation: Observation) -> Answer:
        self.submitted.append(observation)
        if isinstance(observation, ConnectionChanged):
            self.connections.append((session_id, observation.connected))
            self.connection_told.set()
            self.connection_told = anyio.Event()
            return Answer(accepted=True)
        if self.refusal:
            return Answer(accepted=False, message=self.refusal)
        assert isinstance(observation, VerbRequested)
        if self.prompt:
            [session] = [each for each in await self.ledger.sessions() if each.id == session_id]
            await self.come_true(session, observation)
        return Answer(accepted=True)

    async def sweep(self, *, dry_run: bool, remove_orphans: bool = False) -> SweepReport:
        if not self.ready.reachable:
            raise EngineUnavailable("connection refused")
        at = self.clock.now()
        return SweepReport(at=at, dry_run=dry_run, sessions_count=2, containers_count=3, lines=self.lines)

    async def adopt(self, container: str, *, actor: str) -> Answer:
        if self.refusal:
            return Answer(accepted=False, message=self.refusal)
        return Answer(accepted=True, message=f"adopted {container}")

    async def accept_engine(self) -> Answer:
        return Answer(accepted=not self.refusal, message=self.refusal)

    async def come_true(self, session: Session, wanted: VerbRequested) -> None:
        match wanted.verb:
            case Verb.START | Verb.RESTART:
                await self.run(session)
            case Verb.STOP:
                await self.commit(self._at(session, Phase.STOPPED, Reason.STOPPED_BY_REQUEST))
            case Verb.REMOVE:
                await self.commit(replace(session, removed_at=self.clock.now()))
            case Verb.RENEW:
                await self.commit(replace(session, reason=Reason.RENEWED))

    async def run(self, session: Session) -> Session:
        if self.failure:
            return await self.fail(session, Reason.START_FAILED, self.failure)
        number = session.attempt_count + 1
        facts = ContainerFacts(id=container_of(session.name), name=f"agentd-{session.name}", image="demo")
        now = self.clock.now()
        attempt = Attempt(number=number, container=facts.id, started_at=now, opened_at=now)
        running = self._at(session, Phase.RUNNING, Reason.STARTED)
        return await self.commit(replace(running, container=facts, attempt=attempt, attempt_count=number))

    async def fail(self, session: Session, reason: Reason, message: str) -> Session:
        return await self.commit(replace(self._at(session, Phase.FAILED, reason), message=message))

    async def commit(self, session: Session, *, evidence: Sequence[Evidence] = ()) -> Session:
        decision = CommittedDecision(observation=None, rows=(row_of(session, self.clock.now()),))
        rows = await self.ledger.commit(Batch(decisions=(decision,), sessions=(session,), evidence=evidence))
        self.feed.tell(rows[-1].seq)
        return session

    def _at(self, session: Session, phase: Phase, reason: Reason) -> Session:
        return replace(session, phase=phase, reason=reason, since=self.clock.now())


def container_of(name: str) -> ContainerId:
    """Sixty-four digits that tell the session."""
    return ContainerId((name.encode().hex() + "0" * 64)[:64])


def a_session(name: str, *, session_id: str = "", now: Instant) -> Session:
    """A session that was asked for and has no container yet."""
    return Session(
        id=SessionId(session_id or f"id-of-{name}"),
        name=SessionName(name),
        engine="local",
        origin=Origin.REQUESTED,
        desired=Desired.RUNNING,
        phase=Phase.PENDING,
        reason=Reason.CREATED,
        created_at=now,
        since=now,
    )


def row_of(session: Session, now: Instant) -> JournalDraft:
    """The journal row that goes with a session as it is."""
    return JournalDraft(
        kind=RowKind.TRANSITION,
        session_id=session.id,
        session=session.name,
        attempt=session.attempt_count,
        from_phase=None,
        to_phase=session.phase,
        health_from=None,
        health_to=Health.UNKNOWN,
        reason=session.reason,
        message=session.message,
        source=Source.REQUEST,
        actor="user:test",
        at=None,
        observed_at=now,
        container_id=session.container_id,
    )


def an_evidence(session: Session, *lines: str) -> Evidence:
    """What the first attempt left behind."""
    return Evidence(
        session_id=session.id,
        attempt=1,
        container_id=container_of(session.name),
        kept_at=session.created_at,
        tail=LogTail(lines=lines, truncated=False),
        probes=(),
        state="exited 1",
    )


@asynccontextmanager
async def a_world(folder: Path, *, clock: Clock | None = None) -> AsyncIterator[World]:
    """A world with an empty ledger."""
    clock = clock or RealClock()
    async with open_ledger(folder / "controller.db", clock=clock, rng=RealRng()) as ledger:
        yield World(ledger=ledger, clock=clock)


@dataclass(frozen=True, kw_only=True)
class Site:
    """A running server and a client of it."""

    url: str
    port: int
    client: ClientSession


def settings_for(folder: Path, **changes: object) -> Settings:
    """Loopback, any free port, no token, unless told otherwise."""
    given: dict[str, object] = {"docker_host": "unix:///nowhere", "db": str(folder / "controller.db"), "port": 0}
    return Settings(**(given | changes))  # type: ignore[arg-type]


@asynccontextmanager
async def a_site(
    world: World,
    settings: Settings,
    *,
    headers: Mapping[str, str] | None = None,
    idle_s: float = IDLE_TIMEOUT_S,
) -> AsyncIterator[Site]:
    """The real server over that world."""
    app = build_app(
        settings=settings,
        ledger=world.ledger,
        requests=world,
        condition=world,
        feed=world.feed,
        logs=world.logs,
        clock=world.clock,
        rng=RealRng(),
    )
    async with serve(app, settings, idle_s=idle_s) as port:
        url = f"http://127.0.0.1:{port}"
        async with ClientSession(url, headers=headers) as client:
            yield Site(url=url, port=port, client=client)


@contextmanager
def hosted(folder: Path) -> Iterator[str]:
    """The address of a server with two running sessions, in a thread of its own: for who blocks while it waits."""
    found: list[str] = []
    started, done = Event(), Event()

    async def host() -> None:
        # No time limit ends while nobody moves that clock: on a busy machine 0.1 s would be over before a commit.
        async with a_world(folder, clock=HandClock()) as world:
            for name in ("alpha", "beta"):
                await world.run(a_session(name, now=world.clock.now()))
            async with a_site(world, settings_for(folder)) as site:
                found.append(site.url)
                started.set()
                await anyio.to_thread.run_sync(done.wait)

    thread = Thread(target=anyio.run, args=(host,))
    thread.start()
    assert started.wait(20)
    try:
        yield found[0]
    finally:
        done.set()
        thread.join(20)
