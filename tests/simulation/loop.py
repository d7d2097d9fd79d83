"""A deterministic asyncio loop: virtual time, seeded task order, an executor without threads, and `kill -9`.

One loop is one life of the controller. It runs unmodified asyncio, anyio and (through `sqlite.py`) aiosqlite code; the
same seed gives the same steps in every process. It never touches a socket, a thread or the real clock.

Two things had to be made equal between processes: tasks and cancel scopes sit in sets inside anyio, whose order follows
the objects' hashes, which are addresses. Here tasks count their hashes, and the scopes' sets keep their order.
"""

import asyncio
import contextlib
import heapq
import random
import zlib
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final, TypeVar

from anyio._backends import _asyncio as anyio_backend

from tests.simulation.timeline import Timeline

T = TypeVar("T")
STEPS_AT_ONCE_MAX: Final = 100_000
"""Steps without any time passing: more is a loop without an end."""
_PURGE_ABOVE: Final = 200


class Stalled(AssertionError):
    """No task can run and nothing is due (a deadlock), or the step budget is spent (a livelock)."""


class Crash(BaseException):
    """A simulated `kill -9`: raised by the loop between two steps. No task ever sees it."""


class NumberedTask(asyncio.Task[Any]):
    """A task whose hash is its number, so that sets of tasks have one order in every process."""

    count = 0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        NumberedTask.count += 1
        self.number = NumberedTask.count
        super().__init__(*arguments, **options)

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other


class OrderedSet(dict[Any, None]):
    """As much of a set as anyio's cancel scopes use, in the order of insertion."""

    def add(self, item: Any) -> None:
        self[item] = None

    def discard(self, item: Any) -> None:
        self.pop(item, None)

    def remove(self, item: Any) -> None:
        del self[item]


_scope_init = anyio_backend.CancelScope.__init__


def _ordered_scope_init(self: Any, *arguments: Any, **options: Any) -> None:
    _scope_init(self, *arguments, **options)
    self._tasks, self._child_scopes = OrderedSet(), OrderedSet()


@contextlib.contextmanager
def _ordered_scopes() -> Iterator[None]:
    anyio_backend.CancelScope.__init__ = _ordered_scope_init  # type: ignore[method-assign]
    try:
        yield
    finally:
        anyio_backend.CancelScope.__init__ = _scope_init  # type: ignore[method-assign]


class SimulatedLoop(asyncio.BaseEventLoop):
    """One life of a process. Time belongs to the timeline, which may hold it up at its own appointments."""

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]
    _timer_cancelled_count: int
    _stopping: bool

    def __init__(self, timeline: Timeline, *, seed: str, reorder: float = 0.5) -> None:
        super().__init__()
        self.timeline = timeline
        self.rng = random.Random(seed)
        self.reorder = reorder
        self.steps = 0
        self._then, self._steps_then = timeline.now, 0
        self.crash_at: int | None = None
        """The number of the step before which the process is killed."""
        self.step_hook: Callable[[int], None] | None = None
        self.crashing = False
        self.dead = False
        self.digest = 0
        self.at_death: list[Callable[[], None]] = []
        """What the operating system does for a dead process: closes its files."""
        self.complaints: list[str] = []
        self._clock_resolution = 1e-9
        self.set_task_factory(lambda loop, coro, **options: NumberedTask(coro, loop=loop, **options))
        self.set_exception_handler(self._complain)

    # --- time --------------------------------------------------------------------------------------------------

    def time(self) -> float:
        return self.timeline.now

    def _advance(self) -> None:
        timer = self._next_timer()
        appointment = self.timeline.next_at()
        if timer is None and appointment is None:
            names = ", ".join(sorted(task.get_name() for task in asyncio.all_tasks(self)))
            raise Stalled(f"deadlock at {self.timeline.now:.3f} s: {names}")
        if appointment is not None and (timer is None or appointment <= timer):
            self.timeline.keep_next()
        elif timer is not None:
            self.timeline.now = max(self.timeline.now, timer)

    def _next_timer(self) -> float | None:
        if len(self._scheduled) > _PURGE_ABOVE and self._timer_cancelled_count * 2 > len(self._scheduled):
            self._scheduled = [timer for timer in self._scheduled if not timer.cancelled()]
            heapq.heapify(self._scheduled)
            self._timer_cancelled_count = 0
        while self._scheduled and self._scheduled[0].cancelled():
            heapq.heappop(self._scheduled)
            self._timer_cancelled_count -= 1
        return self._scheduled[0].when() if self._scheduled else None

    # --- steps -------------------------------------------------------------------------------------------------

    def _run_once(self) -> None:
        if not self._ready and not self._stopping:
            self._advance()
        if self.crashing:
            raise Crash
        now = self.timeline.now
        if now > self._then:
            self._then, self._steps_then = now, self.steps
        while (timer := self._next_timer()) is not None and timer <= now:
            due = heapq.heappop(self._scheduled)
            due._scheduled = False  # type: ignore[attr-defined]
            self._ready.append(due)
        self._shuffle()
        self.digest = zlib.crc32(b"%d %d" % (len(self._ready), round(now * 1e9)), self.digest)
        for _ in range(len(self._ready)):
            handle = self._ready.popleft()
            if not handle.cancelled():
                self._step(handle)
        if self.crashing:
            raise Crash

    def _step(self, handle: asyncio.Handle) -> None:
        self.steps += 1
        if self.step_hook is not None:
            self.step_hook(self.steps)
        if self.crashing or self.steps == self.crash_at:
            raise Crash
        if self.steps - self._steps_then > STEPS_AT_ONCE_MAX:
            raise Stalled(f"livelock at {self.timeline.now:.3f} s: {_what_runs(handle)}")
        handle._run()

    def _shuffle(self) -> None:
        """Change the order of task steps; plain callbacks keep theirs, because anyio and asyncio rely on it."""
        ready = self._ready
        if len(ready) < 2 or self.rng.random() >= self.reorder:
            return
        places = [place for place, handle in enumerate(ready) if _is_task_step(handle)]
        if len(places) < 2:
            return
        steps = [ready[place] for place in places]
        self.rng.shuffle(steps)
        for place, step in zip(places, steps, strict=True):
            ready[place] = step

    # --- what a real loop does with threads and signals ------------------------------------------------------------

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> "asyncio.Future[T]":
        future: asyncio.Future[T] = self.create_future()

        def work() -> None:
            if future.done():
                return
            try:
                future.set_result(func(*args))
            except Exception as error:  # noqa: BLE001  whatever it is, it belongs to the one who waits
                future.set_exception(error)

        self.call_later(self.rng.expovariate(1000), work)
        return future

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def _process_events(self, event_list: Any) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def _asyncgen_finalizer_hook(self, agen: Any) -> None:
        if not self.dead:
            self.create_task(agen.aclose())

    def _complain(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.complaints.append(f"{context.get('message')}: {context.get('exception')!r}")

    # --- death -------------------------------------------------------------------------------------------------

    def crash(self) -> None:
        """Kill the process before any other step of it runs."""
        self.crashing = True

    def bury(self) -> None:
        """After the end, however it came: files are closed first, then the coroutines, whose `finally` runs in vain."""
        self.dead = True
        for close in self.at_death:
            close()
        tasks = [task for task in asyncio.all_tasks(self) if isinstance(task, NumberedTask)]
        for task in sorted(tasks, key=lambda task: task.number):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            with contextlib.suppress(BaseException):
                coroutine = task.get_coro()
                assert coroutine is not None
                coroutine.close()
        self._ready.clear()
        self._scheduled.clear()


def _is_task_step(handle: asyncio.Handle) -> bool:
    return isinstance(getattr(handle._callback, "__self__", None), asyncio.Task)  # type: ignore[attr-defined]


def _what_runs(handle: asyncio.Handle) -> str:
    """The task of a step and the lines it is at, innermost last."""
    task = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined]
    if not isinstance(task, asyncio.Task):
        return repr(handle)
    places: list[str] = []
    waiting: Any = task.get_coro()
    while waiting is not None and getattr(waiting, "cr_frame", None) is not None:
        places.append(f"{waiting.cr_code.co_qualname}:{waiting.cr_frame.f_lineno}")
        waiting = waiting.cr_await
    return f"{task.get_name()}: {' > '.join(places)}"


def live(loop: SimulatedLoop, main: Callable[[], Coroutine[Any, Any, None]]) -> bool:
    """Run one life to its end. True when it was killed; whatever `main` raises is raised."""
    asyncio.set_event_loop(loop)
    try:
        with _ordered_scopes():
            loop.run_until_complete(main())
    except Crash:
        return True
    else:
        return False
    finally:
        loop.bury()
        asyncio.set_event_loop(None)
        loop.close()
