"""A deterministic asyncio loop: virtual time, seeded task order, an executor without threads, and `kill -9`.

One loop is one life of the controller. It runs unmodified asyncio, anyio and (through `sqlite.py`) aiosqlite code; the
same seed gives the same steps in every process. It never touches a socket, a thread or the real clock.

One thing had to be made equal between processes: tasks and cancel scopes sit in sets inside anyio, whose order follows
the objects' hashes, which are addresses. For the length of a life these are sets that keep their order.
"""

import asyncio
import asyncio.tasks
import contextlib
import contextvars
import heapq
import random
import sys
import zlib
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from functools import cache, partial
from typing import Any, Final, TypeVar

from anyio._backends import _asyncio as anyio_backend
from anyio._core import _eventloop as anyio_eventloop

from tests.simulation.timeline import Timeline

T = TypeVar("T")
STEPS_AT_ONCE_MAX: Final = 100_000
"""Steps without any time passing: more is a loop without an end."""
_PURGE_ABOVE: Final = 200
_TASKS_KEPT: Final = 64


class Stalled(AssertionError):
    """No task can run and nothing is due (a deadlock), or the step budget is spent (a livelock)."""


class Crash(BaseException):
    """A simulated `kill -9`: raised by the loop between two steps. No task ever sees it."""


class QuietTask(asyncio.Task[Any]):
    """A task that is told briefly: anyio writes down with every cancellation whose it was."""

    def __repr__(self) -> str:
        return f"<task {self.get_name()}>"


class Handle(asyncio.Handle):
    """A callback that waits for its step. What asyncio's own also does is for debugging."""

    __slots__ = ()

    def __init__(self, callback: Any, args: Any, loop: Any, context: Any) -> None:
        self._context = contextvars.copy_context() if context is None else context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._repr = None
        self._source_traceback = None


class Timer(asyncio.TimerHandle):
    """The same, for a set time."""

    __slots__ = ()

    def __init__(self, when: float, callback: Any, args: Any, loop: Any, context: Any) -> None:
        self._context = contextvars.copy_context() if context is None else context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._repr = None
        self._source_traceback = None
        self._when = when
        self._scheduled = True


class OrderedSet(dict[Any, None]):
    """As much of a set as anyio uses of one, in the order of insertion."""

    add = dict.setdefault
    remove = dict.__delitem__

    def discard(self, item: Any) -> None:
        self.pop(item, None)


def _its_backend(asynclib_name: str | None = None) -> Any:
    del asynclib_name
    return anyio_backend.AsyncIOBackend


@cache
def _who_asks() -> list[Any]:
    """Anyio's modules that look their backend up at each call."""
    return [
        module
        for name, module in sys.modules.items()
        if name.startswith("anyio.") and vars(module).get("get_async_backend") is anyio_eventloop.get_async_backend
    ]


def _replacements(loop: asyncio.AbstractEventLoop) -> list[tuple[Any, str, Any]]:
    """What anyio is lent for one life: sets that keep their order, and short answers to what it asks all the time."""
    current = partial(asyncio.tasks._current_tasks.get, loop)  # type: ignore[attr-defined]
    return [
        (anyio_backend, "set", OrderedSet),
        (anyio_backend, "current_task", current),
        *((module, "get_async_backend", _its_backend) for module in _who_asks()),
    ]


@contextlib.contextmanager
def _lent_to_anyio(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    before = []
    for module, name, new in _replacements(loop):
        before.append((module, name, vars(module).get(name)))
        setattr(module, name, new)
    try:
        yield
    finally:
        for module, name, old in before:
            if old is None:
                delattr(module, name)
            else:
                setattr(module, name, old)


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
        self._tasks: list[QuietTask] = []
        self._tasks_max = _TASKS_KEPT
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
        ready = self._ready
        if not ready and not self._stopping:
            self._advance()
        if self.crashing:
            raise Crash
        now = self.timeline.now
        if now > self._then:
            self._then, self._steps_then = now, self.steps
        self._take_due(now)
        if len(ready) > 1:
            self._shuffle()
        self.digest = zlib.crc32(b"%d %d" % (len(ready), round(now * 1e9)), self.digest)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                self._step(handle)
        if self.crashing:
            raise Crash

    def _take_due(self, now: float) -> None:
        scheduled = self._scheduled
        while scheduled:
            timer: Any = scheduled[0]
            if timer._cancelled:
                heapq.heappop(scheduled)
                self._timer_cancelled_count -= 1
            elif timer._when <= now:
                heapq.heappop(scheduled)
                timer._scheduled = False
                self._ready.append(timer)
            else:
                break

    def _step(self, handle: Any) -> None:
        self.steps += 1
        if self.step_hook is not None:
            self.step_hook(self.steps)
        if self.crashing or self.steps == self.crash_at:
            self._ready.appendleft(handle)
            raise Crash
        if self.steps - self._steps_then > STEPS_AT_ONCE_MAX:
            raise Stalled(f"livelock at {self.timeline.now:.3f} s: {_what_runs(handle)}")
        try:
            handle._context.run(handle._callback, *handle._args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001  as asyncio's own handles do
            self._complain(self, {"message": f"Exception in callback {handle!r}", "exception": error})

    def _shuffle(self) -> None:
        """Change the order of task steps; plain callbacks keep theirs, because anyio and asyncio rely on it."""
        ready = self._ready
        if self.rng.random() >= self.reorder:
            return
        places = [place for place, handle in enumerate(ready) if _is_task_step(handle)]
        if len(places) < 2:
            return
        steps = [ready[place] for place in places]
        self.rng.shuffle(steps)
        for place, step in zip(places, steps, strict=True):
            ready[place] = step

    # --- asyncio's own, without what is for debugging and for threads ------------------------------------------------

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.Handle:
        if self._closed:  # type: ignore[attr-defined]
            raise RuntimeError("Event loop is closed")
        handle = Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        if self._closed:  # type: ignore[attr-defined]
            raise RuntimeError("Event loop is closed")
        timer = Timer(when, callback, args, self, context)
        heapq.heappush(self._scheduled, timer)
        return timer

    def create_task(self, coro: Any, *, name: Any = None, context: Any = None) -> asyncio.Task[Any]:
        if self._closed:  # type: ignore[attr-defined]
            raise RuntimeError("Event loop is closed")
        task = QuietTask(coro, loop=self, name=name, context=context)
        self._tasks.append(task)
        if len(self._tasks) > self._tasks_max:
            self._tasks = [one for one in self._tasks if not one.done()]
            self._tasks_max = max(_TASKS_KEPT, 2 * len(self._tasks))
        return task

    def tasks_count(self) -> int:
        """Tasks that are not done."""
        return sum(not task.done() for task in self._tasks)

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
        self.at_death.clear()
        for task in self._tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            with contextlib.suppress(BaseException):
                coroutine = task.get_coro()
                assert coroutine is not None
                coroutine.close()
        self._tasks.clear()
        # It has what a task's scope holds as its value, and that holds the task: nobody of a killed loop ever leaves.
        states = anyio_backend._task_states
        for state in [one for one in states if one.get_loop() is self]:
            del states[state]
        for handle in self._ready:
            # Whoever was to be told of a task's error has been killed in the same moment.
            for ended in handle._args or ():
                if isinstance(ended, asyncio.Task):
                    ended._log_traceback = False
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
        with _lent_to_anyio(loop):
            loop.run_until_complete(main())
    except Crash:
        return True
    else:
        return False
    finally:
        loop.bury()
        asyncio.set_event_loop(None)
        loop.close()
