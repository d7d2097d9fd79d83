"""The whole program on a real ledger, a fake engine and a manual clock: what a test of the loops acts on."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from controller.app import run_core
from controller.core.specs import spec_hash
from controller.interfaces import Answer, Condition, ExecutionBackend, Feed, JournalFilter, Ledger, Requests
from controller.model.ids import SessionId, SessionName
from controller.model.journal import Gap, JournalRow
from controller.model.observation import SessionRequested, Verb, VerbRequested
from controller.model.session import Session
from controller.model.spec import SessionSpec
from controller.settings import Settings, load
from controller.store.ledger import open_ledger
from tests.support.fake_engine import FakeEngine
from tests.support.manual_clock import FixedRng, ManualClock, turns

PATIENCE_S = 10.0
"""Of real time, before a test says that what it waits for does not come."""


class Lines:
    """Implements the loops' `Log`: what was printed."""

    def __init__(self) -> None:
        self.printed: list[tuple[str, dict[str, object]]] = []

    def info(self, event: str, **fields: object) -> None:
        self.printed.append((event, fields))

    warning = error = info

    def of(self, event: str) -> list[dict[str, object]]:
        return [fields for said, fields in self.printed if said == event]


class Stage:
    """One life of the controller."""

    def __init__(self, *, ledger: Ledger, engine: FakeEngine, clock: ManualClock, settings: Settings) -> None:
        self.ledger = ledger
        self.engine = engine
        self.clock = clock
        self.settings = settings
        self.log = Lines()
        self.shutdown = anyio.Event()
        self.hurry = anyio.Event()
        self.ended = anyio.Event()
        self.exit_code: int | None = None
        self.requests: Requests
        self.condition: Condition
        self.feed: Feed
        self._up = anyio.Event()

    @asynccontextmanager
    async def serve(self, requests: Requests, condition: Condition, feed: Feed) -> AsyncIterator[None]:
        self.requests, self.condition, self.feed = requests, condition, feed
        self._up.set()
        yield

    async def live(self, *, engine: ExecutionBackend | None = None) -> None:
        self.exit_code = await run_core(
            settings=self.settings,
            ledger=self.ledger,
            engine=engine or self.engine,
            clock=self.clock,
            rng=FixedRng(),
            environment={"OPENAI_API_KEY": "sk-1"},
            shutdown=self.shutdown,
            hurry=self.hurry,
            log=self.log,
            serve=self.serve,
        )
        self.ended.set()

    async def up(self) -> None:
        await self._up.wait()

    # --- waiting ---

    async def until(self, holds: Callable[[], bool], *, step_s: float = 0.0) -> None:
        """Give everybody turns until it holds; with a step, time passes too."""
        with anyio.fail_after(PATIENCE_S):
            while not holds():
                await self.settle()
                if step_s:
                    await self.clock.advance(step_s)

    async def settle(self) -> None:
        """Whatever is in the inbox by now is decided and committed."""
        await turns(20)
        if not self.ended.is_set():
            await self.requests.verb(SessionId("nobody"), _verb(Verb.START, self.clock))
        await turns(20)

    async def ready(self) -> None:
        """The first stream is open and the first sweep has ended."""
        await self.until(lambda: self.condition.readiness().ready, step_s=0.25)

    async def rows(self) -> Sequence[JournalRow]:
        return await self.ledger.journal(JournalFilter(limit=1000))

    async def row(self, holds: Callable[[JournalRow], bool], *, step_s: float = 0.0) -> JournalRow:
        """The first such row of the journal, once it is committed."""
        with anyio.fail_after(PATIENCE_S):
            while True:
                for row in await self.rows():
                    if holds(row):
                        return row
                await self.settle()
                if step_s:
                    await self.clock.advance(step_s)

    async def session(self, name: str) -> Session:
        found = await self.ledger.find(SessionName(name))
        assert found is not None, f"no session {name}"
        return found

    async def gaps(self) -> Sequence[Gap]:
        return await self.ledger.gaps(limit=100)

    # --- asking ---

    async def create(self, name: str, *, start: bool = True, spec: SessionSpec | None = None) -> Answer:
        meta = await self.ledger.meta()
        wanted = spec or SessionSpec(image="busybox")
        return await self.requests.create(
            SessionRequested(
                session_id=SessionId(f"id-of-{name}"),
                name=SessionName(name),
                spec=wanted,
                spec_hash=spec_hash(wanted, meta.key),
                start=start,
                actor="user:test",
                observed_at=self.clock.now(),
            )
        )

    async def verb(self, name: str, verb: Verb) -> Answer:
        return await self.requests.verb((await self.session(name)).id, _verb(verb, self.clock))


@asynccontextmanager
async def on_stage(
    folder: Path,
    engine: FakeEngine,
    *,
    ready: bool = True,
    settings: Settings | None = None,
) -> AsyncIterator[Stage]:
    """One life, from the opening of the ledger; cut short like a `kill -9` when the block ends and it still lives."""
    clock = engine.clock
    assert isinstance(clock, ManualClock)
    async with open_ledger(folder / "controller.db", clock=clock, rng=FixedRng()) as ledger:
        stage = Stage(ledger=ledger, engine=engine, clock=clock, settings=settings or plain_settings())
        async with anyio.create_task_group() as group:
            group.start_soon(stage.live)
            await stage.up()
            if ready:
                await stage.ready()
            yield stage
            group.cancel_scope.cancel()


def plain_settings(**changes: str) -> Settings:
    environment = {f"AGENTD_{name.upper()}": value for name, value in changes.items()}
    return load({"DOCKER_HOST": "unix:///nowhere", "HOME": "/nowhere", **environment})


def _verb(verb: Verb, clock: ManualClock) -> VerbRequested:
    return VerbRequested(verb=verb, actor="user:test", observed_at=clock.now())
