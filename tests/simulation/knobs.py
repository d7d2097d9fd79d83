"""Everything that is drawn for one world: time-outs, intervals, sizes, back-offs, and how often each fault fires.

Drawing the knobs finds more than more seeds do: a bug often needs one long time-out beside one short interval. Each
probability is nothing, low or high, so that most worlds lack some faults and other faults can show what they do alone.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any, Final

from controller.engine.limits import TimeLimits
from controller.loops import program, windows
from controller.loops.inbox import INBOX_SIZE, Inbox
from controller.settings import Settings
from tests.simulation.daemon import Traits
from tests.simulation.faults import CALL_FAULTS, Fault
from tests.simulation.keeping import kept
from tests.simulation.nemesis import CLOCKS

SIZES: Final = (2, 5, 10, 20)
_LOOP_KNOBS: Final[tuple[tuple[str, str, tuple[float, ...]], ...]] = (
    ("controller.loops.look", "PARALLEL_MAX", (1, 2, 8)),
    ("controller.loops.look", "LIMIT_S", (1.0, 5.0)),
    ("controller.loops.look", "RETRY_FIRST_S", (0.1, 0.5, 2.0)),
    ("controller.loops.windows", "WINDOW_S", (30.0, 60.0, 300.0)),
    ("controller.loops.windows", "SILENCE_S", (0.1, 0.5, 2.0)),
    ("controller.loops.watch", "BACKOFF_MAX_S", (2.0, 10.0)),
    ("controller.loops.inbox", "BATCH_SIZE", (1, 3, 100)),
    ("controller.loops.prune", "EVERY_S", (60.0, 300.0, 3600.0)),
    ("controller.loops.look", "WISHES_MAX", (1, 8)),
    ("controller.loops.sweep", "ORDERS_MAX", (1, 32)),
    ("controller.loops.publish", "HELD_MAX", (3, 2000)),
    ("controller.loops.routing", "HELD_EVENTS_MAX", (1, 64)),
    ("controller.loops.routing", "HELD_CONTAINERS_MAX", (1, 256)),
)
EVENT_FAULTS: Final = ("drop", "double", "swap", "delay", "bad_line")
NEMESES: Final = (
    "kill daemon",
    "stop daemon",
    "freeze daemon",
    "half-open stream",
    "cut streams",
    "container dies",
    "container out of memory",
    "somebody stops",
    "somebody kills",
    "somebody hangs up",
    "somebody restarts",
    "somebody removes",
    "somebody pauses",
    "somebody renames",
    "somebody recreates",
    "somebody runs another",
    "disk full",
    "wall jumps",
    "engine clock jumps",
    "kill controller",
    "stop controller",
)
RECALL: Final = "recall-"
"""A seed that begins so draws a world in which every transition must be on record, or its absence."""


@dataclass(kw_only=True)
class Knobs:
    """One draw."""

    settings: Settings
    limits: TimeLimits
    traits: Traits
    call_faults: dict[Fault, float]
    event_faults: dict[str, float]
    disk_latency_s: float
    disk_stall_s: float
    disk_stall_probability: float
    disk_fault_probability: float
    wire_latency_s: float
    nemeses: dict[str, float]
    """How often a minute each strikes."""
    reorder: float
    sessions_count: int
    bystanders_count: int
    wishes_a_minute: float
    crash_steps: tuple[int, int] | None
    """A life ends after that many steps, drawn between the two; None leaves it alive."""
    quiet_at_s: float
    inbox_size: int
    loop_knobs: list[tuple[str, str, float]] = field(default_factory=list)

    @property
    def slowest_turn_s(self) -> float:
        """The longest of a sweep, an orphan's grace and a stream's window, once faults are over."""
        (window_s,) = [value for _, name, value in self.loop_knobs if name == "WINDOW_S"] or [windows.WINDOW_S]
        return max(self.settings.sweep_interval_s, self.settings.orphan_grace_s, window_s)


def draw(
    rng: random.Random,
    *,
    path: str,
    keep: random.Random | None = None,
    sessions_count: int | None = None,
    quiet_at_s: float | None = None,
) -> Knobs:
    """All knobs of one world. `keep` are the dice for how long containers are kept; without them, a day or more."""
    settings = _settings(rng, path)
    return Knobs(
        settings=settings if keep is None else kept(settings, keep),
        limits=_limits(rng),
        traits=Traits(
            version=rng.choice(("20.10.24", "28.5.2", "29.1.0")),
            stop_first=rng.choice((0.0, 0.5, 0.9)),
            live_restore=rng.random() < 0.4,
            clean_stream_end=rng.random() < 0.5,
            status_survives=rng.choice((0.0, 0.5, 1.0)),
            oom_after_die=rng.choice((0.0, 0.5)),
        ),
        call_faults={fault: rate for fault in CALL_FAULTS if (rate := rng.choice((0.0, 0.0, 0.005, 0.05)))},
        event_faults={what: rng.choice((0.0, 0.0, 0.01, 0.2)) for what in EVENT_FAULTS},
        disk_latency_s=rng.choice((0.0005, 0.002, 0.05)),
        disk_stall_s=rng.choice((0.5, 2.0)),
        disk_stall_probability=rng.choice((0.0, 0.0, 0.01)),
        disk_fault_probability=rng.choice((0.0, 0.0, 0.0, 0.0005)),
        wire_latency_s=rng.choice((0.0005, 0.005, 0.1)),
        nemeses={name: rate for name in NEMESES if (rate := rng.choice((0.0, 0.0, 0.3, 1.5)))},
        reorder=rng.choice((0.0, 0.5, 1.0)),
        sessions_count=sessions_count or rng.choice(SIZES),
        bystanders_count=rng.choice((0, 3, 6)),
        wishes_a_minute=rng.choice((0.5, 3.0, 12.0)),
        crash_steps=rng.choice((None, None, (1, 500), (200, 8000))),
        quiet_at_s=quiet_at_s or rng.choice((120.0, 300.0, 600.0)),
        inbox_size=rng.choice((4, 64, 4096)),
        loop_knobs=[(module, name, rng.choice(values)) for module, name, values in _LOOP_KNOBS],
    )


def usual(drawn: Knobs) -> Knobs:
    """The same world as people run the program: its own settings and limits, and of every fault a little."""
    named = {name: getattr(drawn.settings, name) for name in ("docker_host", "db", "prefix", "agent_url", "sources")}
    return replace(
        drawn,
        settings=Settings(**named),
        limits=TimeLimits(),
        call_faults=dict.fromkeys(CALL_FAULTS, 0.005),
        event_faults=dict.fromkeys(EVENT_FAULTS, 0.01),
        disk_latency_s=0.0005,
        disk_stall_probability=0.01,
        disk_fault_probability=0.0005,
        wire_latency_s=0.0005,
        nemeses=dict.fromkeys(NEMESES, 0.3),
        wishes_a_minute=3.0,
        crash_steps=None,
        inbox_size=INBOX_SIZE,
        loop_knobs=[],
    )


def recallable(drawn: Knobs) -> Knobs:
    """The same world without what makes it pointless to count what is on record: see `recall.py`."""
    return replace(
        drawn,
        settings=replace(drawn.settings, retain_days=30.0),
        event_faults={**drawn.event_faults, "drop": 0.0},
        nemeses={name: rate for name, rate in drawn.nemeses.items() if name not in CLOCKS},
    )


def remove_slowly(traits: Traits, rng: random.Random) -> None:
    """In one world of four a removal takes its time, and may fail: by dice of its own."""
    if rng.random() < 0.25:
        traits.removal_s = rng.choice((0.5, 5.0, 20.0))
        traits.removal_fails = rng.choice((0.0, 0.3))


def _settings(rng: random.Random, path: str) -> Settings:
    return Settings(
        docker_host="unix:///simulated",
        db=path,
        prefix="agentd",
        agent_url="ws://controller:7006",
        sources={"AGENTD_AGENT_URL": "environment"},
        sweep_interval_s=rng.choice((5.0, 20.0, 60.0)),
        orphan_policy=rng.choice(("remove", "remove", "report", "adopt")),
        orphan_grace_s=rng.choice((5.0, 60.0, 300.0)),
        stop_grace_s=rng.choice((0.0, 1.0, 10.0)),
        shutdown_leave_running=rng.random() < 0.5,
        shutdown_timeout_s=rng.choice((5.0, 30.0)),
        connect_grace_s=rng.choice((5.0, 60.0)),
        retain_days=rng.choice((0.01, 30.0)),
    )


def _limits(rng: random.Random) -> TimeLimits:
    return TimeLimits(
        info_s=rng.choice((2.0, 10.0)),
        list_s=rng.choice((2.0, 30.0)),
        inspect_s=rng.choice((1.0, 5.0)),
        create_s=rng.choice((2.0, 30.0)),
        start_s=rng.choice((2.0, 60.0)),
        stop_extra_s=rng.choice((2.0, 10.0)),
        remove_s=rng.choice((2.0, 30.0)),
        logs_s=rng.choice((2.0, 10.0)),
        head_s=rng.choice((2.0, 10.0)),
    )


@contextmanager
def turned(knobs: Knobs) -> Iterator[None]:
    """The loops' own constants, as drawn, for the time of one world."""
    before: list[tuple[Any, str, Any]] = []
    for module_name, name, value in knobs.loop_knobs:
        module = import_module(module_name)
        old = getattr(module, name)
        before.append((module, name, old))
        setattr(module, name, type(old)(value))
    before.append((program, "Inbox", Inbox))
    vars(program)["Inbox"] = lambda: Inbox(knobs.inbox_size)
    try:
        yield
    finally:
        for module, name, old in before:
            setattr(module, name, old)
