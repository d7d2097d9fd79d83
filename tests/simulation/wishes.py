"""What people ask of the controller in a simulated world: HTTP requests that enter in-process, without a socket.

A wish is made by the timeline and carried by the life that is running; when that life dies, the one who asked never
hears. What was answered with `accepted` is held against the ledger by the oracle.
"""

import random
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Final

from controller.core.restart_policy import unreachable
from controller.core.specs import spec_hash
from controller.core.wording import MIB
from controller.errors import ControllerError
from controller.interfaces import Answer, LedgerReader, Requests
from controller.model.ids import SessionId, SessionName
from controller.model.instant import Instant
from controller.model.observation import ConnectionChanged, SessionRequested, Verb, VerbRequested
from controller.model.session import Origin, Session
from controller.model.spec import RestartMode, RestartPolicy, SessionSpec
from tests.simulation.containers import Container
from tests.simulation.engine import PROBED
from tests.simulation.http_edge import READS, WISHED_ID, HttpEdge, Refused
from tests.simulation.nemesis import moments, random_program

if TYPE_CHECKING:
    from tests.simulation.world import World

ALL_CONNECT: Final = "all connect"
READ: Final = "read"
EMBEDDER: Final = "embedder"
_WITHOUT_SESSION: Final = {
    "sweep": ("POST", "/v1/reconcile"),
    "dry sweep": ("POST", "/v1/reconcile?dry_run=true"),
    "sweep orphans": ("POST", "/v1/orphans/apply"),
    "adopt": ("POST", "/v1/adopt"),
}
_HARD_TO_ADOPT: Final = ("orphan", "foreign", "controller")
CONNECTING_EVERY_S: Final = 4.0
CONNECTING_COUNT: Final = 150
_VERBS = (Verb.START, Verb.STOP, Verb.RESTART, Verb.REMOVE, Verb.RENEW)


@dataclass(kw_only=True)
class Wish:
    """One thing that somebody asked for, and what became of it."""

    at: float
    what: str
    session: str
    session_id: SessionId | None = None
    """Of a create: the id that the session gets."""
    start: bool = True
    """Of a create: whether the session is started, too."""
    verb: Verb | None = None
    answer: Answer | None = None
    """None: never heard."""
    answered_at: float | None = None


@dataclass(frozen=True, kw_only=True)
class Counter:
    """Where people ask: what a life offers them."""

    edge: HttpEdge
    requests: Requests
    ledger: LedgerReader


def make_wishes(world: "World") -> None:
    """Appointments for all wishes up to the quiet hour; the sessions are asked for early."""
    rng = world.dice("wishes")
    for number in range(world.knobs.sessions_count):
        world.timeline.at(rng.uniform(0.5, 20.0), lambda number=number: world.wish(_create(world, rng, number)))  # type: ignore[misc]
    _make_rarer_wishes(world)
    for when in moments(world, rng, world.knobs.wishes_a_minute, since_s=20.0):
        world.timeline.at(when, lambda: world.wish(_any(world, rng)))


def _make_rarer_wishes(world: "World") -> None:
    """Agents that come and go, adoptions, orphans to be removed at once: on dice of their own."""
    rng = world.dice("rarer wishes")
    a_minute = rng.choice((0.0, 1.0, 4.0))
    for when in moments(world, rng, a_minute, since_s=10.0):
        world.timeline.at(when, lambda: world.wish((_rare(world, rng), None)))
    _make_embedders_wishes(world)
    for turn in range(CONNECTING_COUNT):
        # Who must hold a connection has one from the quiet hour on.
        at = world.knobs.quiet_at_s + CONNECTING_EVERY_S * turn
        world.timeline.at(at, lambda: _connect_whom_it_lacks(world))


def _make_embedders_wishes(world: "World") -> None:
    """Somebody embeds the program and asks its port for requests, past all that HTTP would have refused before."""
    rng = world.dice("embedder")
    a_minute = rng.choice((0.0, 0.0, 2.0))
    for when in moments(world, rng, a_minute, since_s=15.0):
        world.timeline.at(when, lambda: world.wish((Wish(at=world.timeline.now, what=EMBEDDER, session=""), None)))


async def _ask_as_embedder(world: "World", wish: Wish, counter: Counter, now: Instant) -> Answer | None:
    """Any verb, of any session on record: orphans, external and removed ones too."""
    rng = world.dice(f"embedder at {wish.at}")
    if rng.random() < 0.2:
        return await _create_as_embedder(world, wish, counter, now, rng)
    found = await counter.ledger.sessions(include_removed=True)
    if not found:
        return None
    odd = [one for one in found if one.origin is not Origin.REQUESTED or one.removed_at is not None]
    session = rng.choice(odd if odd and rng.random() < 0.5 else found)
    wish.verb, wish.session_id, wish.session = rng.choice(tuple(Verb)), session.id, session.name
    wish.what = f"{wish.verb.value} by an embedder"
    if wish.verb is Verb.ADOPT and session.origin is Origin.ORPHAN and session.container is not None:
        world.bystanders[session.container.id] = "adopted"
    asked = VerbRequested(
        verb=wish.verb,
        actor="embedder",
        force=rng.random() < 0.5,
        ttl_s=rng.choice((None, 0.0, 60.0)),
        observed_at=now,
    )
    return await counter.requests.verb(session.id, asked)


async def _create_as_embedder(
    world: "World", wish: Wish, counter: Counter, now: Instant, rng: random.Random
) -> Answer | None:
    """A session under a name that is taken, or free; in a mode, perhaps, that forbids it."""
    spec = random_spec(rng)
    wish.session, wish.session_id = f"s{rng.randrange(world.knobs.sessions_count)}", SessionId(rng.randbytes(16).hex())
    wish.what = "create by an embedder"
    meta = await counter.ledger.meta()
    return await counter.requests.create(
        SessionRequested(
            session_id=wish.session_id,
            name=SessionName(wish.session),
            spec=spec,
            spec_hash=spec_hash(spec, meta.key),
            start=rng.random() < 0.9,
            actor="embedder",
            observed_at=now,
        )
    )


def _connect_whom_it_lacks(world: "World") -> None:
    sessions = world.program.act._roster.sessions.values() if world.program is not None else ()
    if any(_lacks_a_connection(one) for one in sessions):
        world.wish((Wish(at=world.timeline.now, what=ALL_CONNECT, session=""), None))


def _asked_for_adoption(world: "World", drawn: Container) -> Container:
    """One of whatever kind; often one that no session has, or that is not to be had."""
    dice = world.dice(f"adoption at {world.timeline.now}")
    others = [one for one in world.daemon.containers.values() if world.bystanders.get(one.id) in _HARD_TO_ADOPT]
    return dice.choice(others) if others and dice.random() < 0.5 else drawn


def _lacks_a_connection(session: Session) -> bool:
    return (
        session.spec is not None and session.spec.expect_connection and session.phase.is_live and not session.connected
    )


def _rare(world: "World", rng: random.Random) -> Wish:
    now, name = world.timeline.now, f"s{rng.randrange(world.knobs.sessions_count)}"
    what = rng.choice(("connect", "connect", "disconnect", "adopt", "sweep orphans", ALL_CONNECT, READ, READ))
    found = list(world.daemon.containers.values())
    if what == "adopt" and found:
        container = _asked_for_adoption(world, rng.choice(found))
        kind = world.bystanders.get(container.id, "" if container.labels else "plain")
        if kind in ("external", "orphan", "plain", "foreign", "copy"):
            world.bystanders[container.id] = "adopted"  # From now on it may be ours: nobody knows who was heard.
        return Wish(at=now, what=what, session=rng.choice((container.id, container.name, container.id[:12])))
    if what == READ:
        return Wish(at=now, what=what, session=rng.choice(READS).format(name))
    return Wish(at=now, what=what, session=name)


async def carry(world: "World", wish: Wish, spec: SessionSpec | None, counter: Counter, now: Instant) -> None:
    """Ask, wait for the answer, remember it."""
    world.tell(f"wish: {wish.what} {wish.session}")
    try:
        answer = await _ask(world, wish, spec, counter, now)
    except ControllerError as error:
        answer = Answer(accepted=False, message=str(error))
    except Refused as refused:
        answer = Answer(accepted=False, message=str(refused))
        if refused.is_defect and not world.disk.failures and world.alive:
            world.violated("M5", f"{wish.what} {wish.session}: the program says that it made a mistake")
    if answer is not None:
        wish.answer, wish.answered_at = answer, world.timeline.now
        world.oracle.answered(wish)
        world.tell(f"wish: {wish.what} {wish.session}: {'accepted' if answer.accepted else answer.message}")


async def _ask(world: "World", wish: Wish, spec: SessionSpec | None, counter: Counter, now: Instant) -> Answer | None:
    if spec is not None and wish.session_id is not None:
        return await _ask_for_session(world, wish, spec, counter)
    if wish.what == ALL_CONNECT:
        for one in await counter.ledger.sessions():
            if _lacks_a_connection(one):
                await counter.requests.verb(one.id, ConnectionChanged(connected=True, observed_at=now))
        return Answer(accepted=True)
    if wish.what == EMBEDDER:
        return await _ask_as_embedder(world, wish, counter, now)
    if wish.what in _WITHOUT_SESSION:
        method, path = _WITHOUT_SESSION[wish.what]
        await counter.edge.ask(method, path, {"container": wish.session} if wish.what == "adopt" else None)
        return Answer(accepted=True)
    if wish.what == READ:
        await counter.edge.ask("GET", wish.session)
        return Answer(accepted=True)
    session = await counter.ledger.find(SessionName(wish.session))
    if session is None:
        return None
    wish.session_id = session.id
    if wish.verb is None:
        # The agents' connection is a WebSocket: what its registry would report.
        changed = ConnectionChanged(connected=wish.what == "connect", observed_at=now)
        return await counter.requests.verb(session.id, changed)
    return await _ask_for_verb(world, wish, wish.verb, counter)


async def _ask_for_session(world: "World", wish: Wish, spec: SessionSpec, counter: Counter) -> Answer:
    WISHED_ID.set(wish.session_id or "")
    body = {"name": wish.session, "spec": asdict(spec), "start": wish.start}
    await counter.edge.ask("POST", f"/v1/sessions?{_patience(world, wish)}", body)
    found = await counter.ledger.find(SessionName(wish.session))
    return Answer(accepted=True, session_id=found.id if found is not None else None)


async def _ask_for_verb(world: "World", wish: Wish, verb: Verb, counter: Counter) -> Answer:
    path, patience = f"/v1/sessions/{wish.session}", _patience(world, wish)
    if verb is Verb.REMOVE:
        force = "true" if wish.what.endswith("force") else "false"
        await counter.edge.ask("DELETE", f"{path}?force={force}&{patience}")
    else:
        body = {"ttl_s": 60.0} if verb is Verb.RENEW else None
        await counter.edge.ask("POST", f"{path}/{verb}?{patience}", body)
    return Answer(accepted=True)


def _patience(world: "World", wish: Wish) -> str:
    """Some wait for what is observed, some do not."""
    rng = world.dice(f"patience {wish.at} {wish.session}")
    return rng.choice(("wait=false", "timeout_s=1", "timeout_s=30"))


def _create(world: "World", rng: random.Random, number: int) -> tuple[Wish, SessionSpec | None]:
    wish = Wish(
        at=world.timeline.now,
        what="create",
        session=f"s{number}",
        session_id=SessionId(f"{rng.getrandbits(128):032x}"),
    )
    spec = random_spec(rng)
    dice = world.dice(f"spec of {wish.session_id}")
    if dice.random() < 0.2:
        spec = replace(spec, expect_connection=True)
    if dice.random() < 0.2 and spec.image == "busybox":
        spec = replace(spec, image=PROBED)
    wish.start = dice.random() < 0.9
    if dice.random() < 0.3:
        spec = replace(spec, memory_bytes=dice.choice((64 * MIB, 100_000_000)))
    return wish, spec


def _any(world: "World", rng: random.Random) -> tuple[Wish, SessionSpec | None]:
    name = f"s{rng.randrange(world.knobs.sessions_count)}"
    ticket = rng.random()
    if ticket < 0.2:
        return _create(world, rng, int(name[1:]))
    if ticket < 0.25:
        return Wish(at=world.timeline.now, what=rng.choice(("sweep", "dry sweep")), session=""), None
    verb = rng.choice(_VERBS)
    what = f"{verb.value} by force" if verb is Verb.REMOVE and rng.random() < 0.7 else verb.value
    return Wish(at=world.timeline.now, what=what, session=name, verb=verb), None


def random_spec(rng: random.Random) -> SessionSpec:
    """A session as somebody may ask for it; its policy can always be reached."""
    policy = RestartPolicy(
        mode=rng.choice(tuple(RestartMode)),
        max_attempts=rng.choice((None, 1, 3)),
        window_s=rng.choice((120.0, 3600.0)),
        slow_retry_s=rng.choice((None, None, 30.0)),
        unhealthy_restart_s=rng.choice((None, 10.0)),
    )
    if unreachable(policy):
        policy = RestartPolicy(mode=policy.mode)
    return SessionSpec(
        image=rng.choice(("busybox",) * 9 + ("no-such",)),
        command=random_program(rng).command(),
        restart=policy,
        ttl_s=rng.choice((None, None, None, 20.0, 100.0)),
        stop_grace_s=rng.choice((None, 0.0, 3.0)),
    )
