"""One simulated world: an engine, a disk, people and a nemesis; and one life of the controller after the other.

The controller in it is the real program: `controller.app`'s loops on the real ledger code and real SQLite. A world is
made from its seed alone and gives the same digest in every process.
"""

import gc
import random
import shutil
import traceback
import zlib
from collections import Counter as Tally
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import anyio

from controller.errors import LedgerBusy, LedgerError
from controller.loops.program import Program
from controller.model.instant import Instant
from controller.model.session import Session
from controller.model.spec import SessionSpec
from tests.simulation.clock import SimulatedClock
from tests.simulation.composition import run_controller
from tests.simulation.daemon import Daemon
from tests.simulation.engine import travel
from tests.simulation.exchange import Wire
from tests.simulation.faults import FaultMenu
from tests.simulation.http_edge import forget_all
from tests.simulation.knobs import RECALL, Knobs, draw, recallable, remove_slowly, turned, usual
from tests.simulation.loop import SimulatedLoop, Stalled, live
from tests.simulation.nemesis import calm, moments, run_bystander, unleash
from tests.simulation.oracle import Oracle
from tests.simulation.rarer import strike_rarely
from tests.simulation.shortcuts import lent
from tests.simulation.sqlite import Disk
from tests.simulation.timeline import Timeline
from tests.simulation.wishes import Counter, Wish, carry, make_wishes

SETTLE_S: Final = 600.0
"""After the quiet hour: within this, everything is as it was asked for ..."""
STILL_LEAST_S: Final = 120.0
STILL_TURNS: Final = 2
"""... and then nothing moves for two turns of the slowest thing that this world does again and again."""
CHECK_EVERY_S: Final = 5.0
TRACE_MAX: Final = 4000


class Violation(AssertionError):
    """An invariant does not hold."""


class World:
    """Everything that outlives a controller. Public attributes are for nemesis, wishes and oracle."""

    def __init__(  # noqa: PLR0915  a world has many parts, and each is one line
        self,
        seed: str,
        folder: Path,
        *,
        knobs: Knobs | None = None,
        script: "Callable[[World], None] | None" = None,
        sessions_count: int | None = None,
        quiet_at_s: float | None = None,
        as_usual: bool = False,
    ) -> None:
        self.seed = seed
        self.script = script
        """What happens, instead of a random nemesis and random wishes."""
        self.expect: Callable[[World], str] = lambda world: ""
        """What must have come of the script: a complaint, or nothing."""
        self.settle_s = SETTLE_S
        self.folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.path = folder / "controller.db"
        self.timeline = Timeline()
        self.knobs = knobs or draw(
            self.dice("knobs"),
            path=str(self.path),
            keep=self.dice("keep"),
            sessions_count=sessions_count,
            quiet_at_s=quiet_at_s,
        )
        if as_usual:
            self.knobs = usual(self.knobs)
        if seed.startswith(RECALL):
            self.knobs = recallable(self.knobs)
        self.still_s = max(STILL_LEAST_S, STILL_TURNS * self.knobs.slowest_turn_s)
        self.daemon = Daemon(timeline=self.timeline, rng=self.dice("engine"), traits=self.knobs.traits)
        self.daemon.missing_images.add("no-such")
        if script is None:
            remove_slowly(self.knobs.traits, self.dice("removals"))
        self.menu = self._menu()
        self.wire = Wire(
            daemon=self.daemon,
            rng=self.dice("wire"),
            menu=self.menu,
            limits=self.knobs.limits,
            latency_s=self.knobs.wire_latency_s,
        )
        self.daemon.events.deliver = travel(self.wire)
        self.disk = self._disk()
        self.wall_offset_s = 0.0
        self.clock = SimulatedClock(self.timeline, wall_offset_s=lambda: self.wall_offset_s)
        """Time as the present life counts it."""
        self.bystanders: dict[str, str] = {}
        """Container id -> what kind somebody else's container is."""
        self.struck: Tally[str] = Tally()
        self.half_open: list[tuple[int, float, float]] = []
        """Of each stream that went half open: the life that read it, since when, and when that was to be found out."""
        self.deaths: dict[int, float] = {}
        """When each life ended."""
        self.wishes: list[Wish] = []
        self.last_sessions: list[Session] = []
        """As they are in the ledger when all is over."""
        self.trace: list[str] = []
        self.violations: list[str] = []
        self.lives = 0
        self.life_began = 0.0
        self.ends: Tally[str] = Tally()
        """How the lives ended."""
        self.steps = 0
        self.digest = 0
        self.loop: SimulatedLoop | None = None
        self.program: Program | None = None
        """Of the present life, once it is loaded."""
        self.stop_at: float | None = None
        """When the present life was told to stop."""
        self.holder: SimulatedLoop | None = None
        self.on_life: Callable[[SimulatedLoop], None] = lambda loop: None
        self._counts: Tally[str] = Tally()
        self._wish_queue: list[tuple[Wish, SessionSpec | None]] = []
        self._wish_bell: anyio.Event | None = None
        self._signal: anyio.Event | None = None
        self._root: anyio.CancelScope | None = None
        self.beside: list[Callable[[World, SimulatedClock], Coroutine[Any, Any, None]]] = []
        """Further controllers, which live and die with this one's machine."""
        self._lives_dice = self.dice("lives")
        self.oracle = Oracle(self)
        self.wire.before_request = self.oracle.before_request
        self.wire.after_effect = self.oracle.after_effect

    def _menu(self) -> FaultMenu:
        faults = self.knobs.event_faults
        return FaultMenu(
            rng=self.dice("faults"),
            calls=self.knobs.call_faults,
            drop=faults.get("drop", 0.0),
            double=faults.get("double", 0.0),
            swap=faults.get("swap", 0.0),
            delay=faults.get("delay", 0.0),
            bad_line=faults.get("bad_line", 0.0),
        )

    def _disk(self) -> Disk:
        return Disk(
            rng=self.dice("disk"),
            latency_s=self.knobs.disk_latency_s,
            stall_s=self.knobs.disk_stall_s,
            stall_probability=self.knobs.disk_stall_probability,
            fault_probability=self.knobs.disk_fault_probability,
        )

    # --- for those who act in it -----------------------------------------------------------------------------------

    def dice(self, name: str) -> random.Random:
        """A generator of its own for each purpose, so that one more throw here changes nothing there."""
        return random.Random(f"{self.seed}/{name}")

    def tell(self, what: str) -> None:
        """One line of the trace."""
        self.trace.append(f"{self.timeline.now:9.3f} {what}")
        if len(self.trace) > TRACE_MAX:
            del self.trace[: TRACE_MAX // 2]

    def count(self, what: str) -> int:
        """The next number of that kind."""
        self._counts[what] += 1
        return self._counts[what]

    def violated(self, invariant: str, what: str) -> None:
        """Note that an invariant does not hold, and end the world."""
        self.violations.append(f"{invariant} at {self.timeline.now:.3f} s: {what}")
        self.tell(f"VIOLATION {invariant}: {what}")
        if self.loop is not None:
            self.loop.crash()

    @property
    def alive(self) -> bool:
        """Whether a controller lives."""
        return self.loop is not None and not self.loop.dead and not self.loop.crashing

    def kill_controller(self) -> bool:
        """kill -9, between two steps."""
        if not self.alive or self.loop is None:
            return False
        self.loop.crash()
        return True

    def stop_controller(self) -> bool:
        """SIGTERM."""
        if not self.alive or self.stop_at is not None:
            return False
        if self._signal is None:
            return False
        self.stop_at = self.timeline.now
        self._signal.set()
        return True

    def cancel_controller(self) -> bool:
        """The program's root scope is cancelled from outside, as whoever embeds it would. It has to end, and soon."""
        if not self.alive or self._root is None or self._root.cancel_called:
            return False
        self.stop_at = self.timeline.now if self.stop_at is None else self.stop_at
        self._root.cancel()
        return True

    def wish(self, asked: tuple[Wish, SessionSpec | None]) -> None:
        """Somebody asks; lost when nobody is there."""
        self.wishes.append(asked[0])
        if self.alive and self._wish_bell is not None:
            self._wish_queue.append(asked)
            self._wish_bell.set()

    @contextmanager
    def hold(self, path: Path, now: Instant) -> Iterator[None]:
        """The lock on the ledger: freed by the death of its holder, as the kernel does."""
        if self.holder is not None and not self.holder.dead:
            raise LedgerBusy(f"ledger {path} is held by another controller")
        self.holder = self.loop
        try:
            yield
        finally:
            if self.loop is not None and not self.loop.dead:
                self.holder = None

    # --- lives -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """From the beginning to the end, or to the first violation."""
        end_at = self.knobs.quiet_at_s + self.settle_s + self.still_s
        shown = self.knobs.settings
        self.tell(f"sweep {shown.sweep_interval_s}, orphans {shown.orphan_policy} {shown.orphan_grace_s}, {self.knobs}")
        if self.script is not None:
            self.script(self)
        else:
            self._at_random()
        self.timeline.at(self.knobs.quiet_at_s, lambda: calm(self))
        self.oracle.begin()
        with turned(self.knobs), lent():
            while self.timeline.now < end_at and not self.violations:
                self._live(end_at)
                self.oracle.after_life()
                self.timeline.move_to(self.timeline.now + self._lives_dice.choice((0.1, 1.0, 5.0)))
            if not self.violations:
                self.oracle.at_the_end()
            if not self.violations and (complaint := self.expect(self)):
                self.violated("expected otherwise", complaint)
        self.last_sessions = self.oracle.sessions()
        self.oracle.close()
        forget_all()
        self.digest = zlib.crc32(repr((self.oracle.digest, len(self.daemon.history))).encode(), self.digest)

    def _at_random(self) -> None:
        bystanders = self.dice("bystanders")
        for _ in range(self.knobs.bystanders_count):
            run_bystander(self, bystanders)
        unleash(self)
        make_wishes(self)
        self._cancels()
        strike_rarely(self)

    def _cancels(self) -> None:
        """Now and then somebody who embeds the program cancels it: on dice of its own."""
        dice = self.dice("cancels")
        for when in moments(self, dice, dice.choice((0.0, 0.0, 0.5))):
            self.timeline.at(when, self._cancel)

    def _cancel(self) -> None:
        if self.cancel_controller():
            self.struck["cancel controller"] += 1
            self.tell("nemesis: cancel controller now")

    def _live(self, end_at: float) -> None:
        self.lives += 1
        loop = self.loop = SimulatedLoop(
            self.timeline, seed=f"{self.seed}/life {self.lives}", reorder=self.knobs.reorder
        )
        self.stop_at = self.program = None
        self.disk.connections, self.disk.left_open = [], 0
        self._wish_queue.clear()
        self._wish_bell = self._signal = self._root = None
        quiet = self.timeline.now >= self.knobs.quiet_at_s
        if self.knobs.crash_steps is not None and not quiet:
            loop.crash_at = self._lives_dice.randint(*self.knobs.crash_steps)
        self.on_life(loop)
        self.tell(f"life {self.lives} begins")
        began = self.life_began = self.timeline.now
        how = "ended"
        gc.disable()
        try:
            if live(loop, lambda: self._main(end_at)):
                how = "killed"
        except Stalled as error:
            self.violated("L8", str(error))
        except BaseException as error:  # noqa: BLE001  whatever ends the program is what is looked for
            how = self._broke(error)
        finally:
            gc.enable()
            self.daemon.events.close_all()
        if how != "killed" and self.disk.left_open:
            self.violated("S10", f"it {how}, and left {self.disk.left_open} connections to its ledger open")
        self.ends[how] += 1
        self.deaths[self.lives] = self.timeline.now
        self.steps += loop.steps
        self.digest = zlib.crc32(b"%d %d" % (loop.digest, loop.steps), self.digest)
        for complaint in loop.complaints:
            self.violated("M5", f"an exception that nobody caught: {complaint}")
        self.tell(f"life {self.lives} {how} after {self.timeline.now - began:.3f} s")

    def _broke(self, error: BaseException) -> str:
        """How a life ended that raised something: only a ledger that failed may end a program."""
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if isinstance(error, LedgerError):
            self._gave_up(str(error))
        else:
            lines = "".join(traceback.format_exception(error)).splitlines()
            self.violated("L8", f"the program broke: {error!r}\n" + "\n".join(lines[-12:]))
        return f"gave up: {type(error).__name__}"

    def _gave_up(self, why: str) -> None:
        self.tell(f"the controller gave up: {why}")
        if not self.disk.failures:
            self.violated("L8", f"the program gave up, and no disk had failed: {why}")

    async def _main(self, end_at: float) -> None:
        clock = self.clock = SimulatedClock(self.timeline, wall_offset_s=lambda: self.wall_offset_s)
        assert self.loop is not None
        self.timeline.at(end_at, self._finish(self.loop))
        self._signal = anyio.Event()
        with anyio.CancelScope() as self._root:
            async with anyio.create_task_group() as group:
                for one in self.beside:
                    group.start_soon(one, self, clock)
                code = await run_controller(self, clock, self._signal)
                group.cancel_scope.cancel()
            self.tell(f"exit code {code}")
            if code:
                self._gave_up(f"exit code {code}")

    def _finish(self, loop: SimulatedLoop) -> Callable[[], None]:
        """The end of the world is a kill like any other."""

        def finish() -> None:
            if self.loop is loop and not loop.dead:
                loop.crash()

        return finish

    async def serve_wishes(self, counter: Counter, clock: SimulatedClock) -> None:
        """What the HTTP server does: each wish in a task of its own, for as long as this life lasts."""
        self._wish_bell = anyio.Event()
        async with anyio.create_task_group() as group:
            while True:
                await self._wish_bell.wait()
                self._wish_bell = anyio.Event()
                queue, self._wish_queue = self._wish_queue, []
                for wish, spec in queue:
                    group.start_soon(carry, self, wish, spec, counter, clock.now())
