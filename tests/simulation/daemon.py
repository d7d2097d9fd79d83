"""The simulated engine itself: containers, processes, restart policies, probes, events. It outlives every controller.

Semantics are those of `engine-facts`: what has an event and what has none, what is written before the event and what
after, what an inspect says in between. Times are virtual; each method happens at once, and what takes time is an
appointment on the timeline. How a client reaches it, and what may go wrong on the way, is `engine.py`.
"""

import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from controller.errors import ContainerGone, EngineConflict, EngineRefused, EngineUnavailable
from controller.model.container import EngineRestart, ProbeResult
from controller.model.ids import ContainerId, EngineId
from controller.model.instant import Instant, after
from controller.model.phase import Health
from tests.simulation.containers import Container, Probe, Process, Program, Status, StopWaiting, program_of
from tests.simulation.stream import EventService, event_of
from tests.simulation.timeline import Timeline

_LETHAL: Final = (2, 3, 9, 15)
FIRST_ENGINE: Final = EngineId("engine-1")
_BETWEEN_STOP_AND_START_S: Final = 0.1
_RESTART_RESET_S: Final = 10.0
_RESTART_MAX_S: Final = 60.0
Done = Callable[[object], None]


START_ERRORS: Final = (
    'exec: "/no-such-program": no such file or directory: unknown',
    'error mounting "/a\nb": \x1b[31mno such device\x1b[0m',
    "driver failed programming external connectivity: " + "port is already allocated " * 60,
)
"""What an engine says may hold anything, and may be long."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """One thing that really happened, whoever saw it."""

    at: float
    container: ContainerId
    what: str
    """`created`, `started`, `ended`, `removed`, `paused`, `unpaused`, `healthy`, `unhealthy`."""
    by: str
    """Who caused it: `self`, `client`, `outsider`, `policy`, `daemon`."""
    engine_at: Instant
    code: int | None = None


@dataclass(kw_only=True)
class Traits:
    """What differs between engines, drawn per world."""

    version: str = "28.5.2"
    stop_first: float = 0.8
    """How likely `stop` comes before `die`; 0 for Engine 20.10."""
    live_restore: bool = False
    clean_stream_end: bool = True
    """Whether an orderly stop of the daemon ends the streams in order (Engine 29) or cuts them."""
    status_survives: float = 0.7
    """How likely containerd still has the exit status of a container that ended while the daemon was down."""
    oom_after_die: float = 0.3
    removal_s: float = 0.0
    """How long a removal takes on its disk, at the most."""
    removal_fails: float = 0.0
    """How likely a removal fails half-way, because something holds its files."""
    id: EngineId = FIRST_ENGINE


@dataclass(kw_only=True)
class Daemon:
    """One engine. Public attributes are its state, for the oracle to read."""

    timeline: Timeline
    rng: random.Random
    traits: Traits = field(default_factory=Traits)
    up: bool = True
    stopping: bool = False
    frozen: bool = False
    tame: bool = False
    """From the quiet hour on every program runs until it is stopped."""
    skew_s: float = 0.0
    """How far the engine's clock is from the true time."""
    containers: dict[ContainerId, Container] = field(default_factory=dict)
    policies: dict[str, EngineRestart] = field(default_factory=dict)
    """The engine's restart policy of every container that ever was."""
    events: EventService = field(default_factory=EventService)
    history: list[Truth] = field(default_factory=list)
    on_down: list[Callable[[], None]] = field(default_factory=list)
    """Requests in flight: each is told when the daemon goes."""
    on_thaw: list[Callable[[], None]] = field(default_factory=list)
    missing_images: set[str] = field(default_factory=set)
    _last_ns: int = 0

    # --- clock, events, look-ups -----------------------------------------------------------------------------------

    def clock(self) -> Instant:
        """The engine's wall clock: no two readings are equal while it is not set back."""
        true = after(self.timeline.instant(), self.skew_s) + self.rng.randrange(1000)
        if 0 <= self._last_ns - true < 1_000_000:
            true = self._last_ns + 1 + self.rng.randrange(1000)
        self._last_ns = true
        return Instant(true)

    def emit(self, container: Container, action: str, **attributes: str) -> None:
        """Log one event of a container."""
        self.events.publish(event_of(container, action, self.clock(), **attributes))

    def note(self, container: Container, what: str, by: str, code: int | None = None) -> None:
        """Write down the truth."""
        at = container.started_at if what == "started" and container.started_at else self.clock()
        self.history.append(
            Truth(at=self.timeline.now, container=container.id, what=what, by=by, engine_at=at, code=code)
        )

    def find(self, wanted: str) -> Container:
        """By full id, name or id prefix. Raises ContainerGone."""
        found = self.containers.get(ContainerId(wanted)) or self.named(wanted)
        if found is None and len(wanted) >= 12:
            found = next((one for key, one in self.containers.items() if key.startswith(wanted)), None)
        if found is None:
            raise ContainerGone(f"No such container: {wanted}")
        return found

    def named(self, name: str) -> Container | None:
        """The container of that name, if there is one."""
        return next((container for container in self.containers.values() if container.name == name), None)

    # --- create, start, remove -------------------------------------------------------------------------------------

    def create(
        self,
        *,
        name: str,
        image: str = "busybox",
        command: tuple[str, ...] = (),
        labels: dict[str, str] | None = None,
        restart: EngineRestart = EngineRestart.NO,
        restart_limit: int = 0,
        auto_remove: bool = False,
        probe: Probe | None = None,
        memory_bytes: int = 0,
        by: str = "client",
    ) -> ContainerId:
        """Create, not start. Raises EngineConflict on a taken name."""
        if image in self.missing_images:
            raise EngineRefused(f"No such image: {image}")
        if (other := self.named(name)) is not None:
            raise EngineConflict(f'Conflict. The container name "/{name}" is already in use by container "{other.id}".')
        container = Container(
            id=ContainerId(f"{self.rng.getrandbits(256):064x}"),
            name=name,
            image=image,
            labels=dict(labels or {}),
            created_at=self.clock(),
            program=Program() if self.tame else program_of(command),
            command=command,
            restart=restart,
            restart_limit=restart_limit,
            auto_remove=auto_remove,
            probe=probe,
            memory_bytes=memory_bytes,
        )
        self.containers[container.id] = container
        self.policies[container.id] = restart
        self.note(container, "created", by)
        self.emit(container, "create")
        return container.id

    def start(self, container: Container, *, by: str = "client") -> None:
        """Start by hand. A start that fails has no event. Raises EngineRefused, EngineConflict when paused."""
        if container.status is Status.PAUSED:
            raise EngineConflict("cannot start a paused container, try unpause instead")
        if container.removing:
            raise EngineConflict("container is marked for removal and cannot be started")
        if container.running and container.status is not Status.RESTARTING:
            return
        self._call_off_restart(container)
        container.restart_count = container.failures = 0
        container.backoff_s = 0.1
        container.manually_stopped = container.restart_cancelled = False
        if not self._run(container, by=by):
            raise EngineRefused(container.error)

    def _run(self, container: Container, *, by: str) -> bool:
        """Start the process; False when that fails, which leaves the words of the engine and no event."""
        program = container.program
        if program.start_fails or (program.runs_once and container.starts):
            container.error = START_ERRORS[int(container.id[-1], 16) % len(START_ERRORS)]
            container.exit_code = 127
            if container.status is not Status.CREATED:
                container.status = Status.EXITED
            if container.auto_remove:
                self._destroy(container, by=by)
            return False
        now = self.timeline.now
        container.status, container.error, container.oom_killed = Status.RUNNING, "", False
        container.exit_code, container.started_at = 0, self.clock()
        container.starts += 1
        container.lines.append(f"run {container.starts}")
        process = container.process = Process(started=now)
        if program.oom_at_s is not None:
            process.end = self.timeline.after(program.oom_at_s, lambda: self._out_of_memory(container, process))
        elif program.runs_s is not None:
            process.end_code = program.code
            process.end = self.timeline.after(program.runs_s, lambda: self.process_ends(container, program.code))
        if program.child_oom_at_s is not None:
            self.timeline.after(program.child_oom_at_s, lambda: self._child_out_of_memory(container, process))
        self.note(container, "started", by)
        self.events.noise(self.clock(), 1)  # It joins its network.
        self.emit(container, "start")
        self._begin_probes(container)
        return True

    def remove(self, container: Container, *, force: bool = False, by: str = "client") -> None:
        """Remove. Raises EngineConflict when it runs and force is not given."""
        if container.running and not force:
            raise EngineConflict(f"cannot remove container {container.name!r}: container is running: stop it first")
        container.removing = container.restart_cancelled = True
        self._call_off_restart(container)
        if container.alive:
            self.emit(container, "kill", signal="9")
            self._end_now(container, 137, by=by)
        container.status = Status.EXITED
        self._destroy(container, by=by)

    def remove_in_time(self, container: Container, *, done: Done, by: str = "client") -> None:
        """As a client asks: it is `removing` for a while, and may be `dead` after that. Raises EngineConflict."""
        if not self.traits.removal_s or container.running:
            self.remove(container, by=by)
            done(None)
            return
        if container.status is Status.REMOVING:
            raise EngineConflict(f"removal of container {container.name} is already in progress")
        container.removing = container.restart_cancelled = True
        container.before_removal, container.status = container.status, Status.REMOVING
        self.timeline.after(self.rng.uniform(0, self.traits.removal_s), lambda: self._end_removal(container, done, by))

    def _end_removal(self, container: Container, done: Done, by: str) -> None:
        if container.status is not Status.REMOVING:
            return  # The daemon was killed meanwhile, and has forgotten that it was about to; or it is gone.
        if self.frozen:
            self.on_thaw.append(lambda: self._end_removal(container, done, by))
        elif self.rng.random() < self.traits.removal_fails:
            container.removal_failed = True
            container.status, container.error = Status.DEAD, "driver failed to remove root filesystem: device busy"
            done(EngineUnavailable(f"500: {container.error}"))
        else:
            self._destroy(container, by=by)
            done(None)

    def _destroy(self, container: Container, *, by: str) -> None:
        self._stop_probes(container)
        if self.containers.pop(container.id, None) is not None:
            container.removed = True
            self.note(container, "removed", by)
            self.emit(container, "destroy")

    # --- the end of a process --------------------------------------------------------------------------------------

    def process_ends(self, container: Container, code: int, *, by: str = "self") -> None:
        """The main process is over; the daemon learns of it when it is there."""
        process = container.process
        if process is None or not process.alive:
            return
        process.alive, process.code, process.ended = False, code, self.timeline.now
        if process.end is not None:
            process.end.call_off()
        self.note(container, "ended", by, code)
        if self.frozen:
            self.on_thaw.append(lambda: self._handle_exit(container, process))
        elif self.up:
            self._handle_exit(container, process)

    def _end_now(self, container: Container, code: int, *, by: str) -> None:
        self.process_ends(container, code, by=by)

    def _handle_exit(self, container: Container, process: Process) -> None:
        """What the daemon does about an exit: state first, then `die`, then the restart policy."""
        if container.removed or container.process is not process or not self.up:
            return
        self._stop_probes(container)
        container.exit_code = process.code
        container.finished_at = after(self.clock(), process.ended - self.timeline.now)
        duration = process.ended - process.started
        again = not self.stopping and self._restarts(container, process.code)
        if again:
            container.restart_count += 1
            container.status = Status.RESTARTING
        else:
            container.status = Status.EXITED
        self._tell_end(container, process.code, duration)
        if again:
            container.backoff_s = 0.1 if duration >= _RESTART_RESET_S else container.backoff_s
            container.next_start = self.timeline.after(container.backoff_s, lambda: self._start_again(container))
            container.backoff_s = min(container.backoff_s * 2, _RESTART_MAX_S)
        elif container.auto_remove:
            self.timeline.after(0.01, lambda: self._auto_remove(container))

    def _tell_end(self, container: Container, code: int, duration: float) -> None:
        """`die`, and each waiting stop's `stop` before or after it."""
        waiting, container.stops = container.stops, []
        for stop in waiting:
            if stop.kill is not None:
                stop.kill.call_off()
            if stop.first:
                self.emit(container, "stop")
        self.emit(container, "die", exitCode=str(code), execDuration=str(int(duration)))
        for stop in waiting:
            if not stop.first:
                self.emit(container, "stop")
            stop.done(None)
        self.events.noise(self.clock(), 1)  # It leaves its network.

    def _restarts(self, container: Container, code: int) -> bool:
        if container.restart_cancelled:
            return False
        match container.restart:
            case EngineRestart.ALWAYS:
                return True
            case EngineRestart.UNLESS_STOPPED:
                return not container.manually_stopped
            case EngineRestart.ON_FAILURE:
                container.failures += code != 0
                limit = container.restart_limit
                return code != 0 and (limit == 0 or container.failures <= limit)
            case _:
                return False

    def _start_again(self, container: Container) -> None:
        container.next_start = None
        if self.frozen:
            self.on_thaw.append(lambda: self._start_again(container))
        elif self.up and not container.removed and container.status is Status.RESTARTING:
            code = container.exit_code
            if not self._run(container, by="policy"):
                container.exit_code = code  # The last run's, beside the words of the start that failed.

    def _call_off_restart(self, container: Container) -> None:
        if container.next_start is not None:
            container.next_start.call_off()
            container.next_start = None
            container.status = Status.EXITED

    def _auto_remove(self, container: Container) -> None:
        if self.up and not container.removed and container.status is Status.EXITED:
            self._destroy(container, by="self")

    # --- memory ----------------------------------------------------------------------------------------------------

    def out_of_memory(self, container: Container) -> None:
        """The main process runs out of memory now."""
        if container.process is not None:
            self._out_of_memory(container, container.process)

    def _out_of_memory(self, container: Container, process: Process) -> None:
        if not process.alive or container.process is not process:
            return
        late = self.rng.random() < self.traits.oom_after_die
        if not late:
            self._oom_event(container)
        self.process_ends(container, 137)
        if late:
            self.timeline.after(0.002, lambda: self._oom_event(container))

    def _child_out_of_memory(self, container: Container, process: Process) -> None:
        if process.alive and container.process is process:
            self._oom_event(container)

    def _oom_event(self, container: Container) -> None:
        if self.up and not self.frozen and not container.removed:
            container.oom_killed = True
            self.emit(container, "oom")

    # --- signals ---------------------------------------------------------------------------------------------------

    def stop(self, container: Container, *, grace_s: float, done: Done, by: str = "client") -> None:
        """Ask, kill after the grace, and call `done` at the end. During a back-off it only says `stop`."""
        if not container.running:
            done(None)
            return
        if not self.stopping:
            container.manually_stopped = True
        container.restart_cancelled = True
        if container.status is Status.RESTARTING:
            self._call_off_restart(container)
            self.emit(container, "stop")
            done(None)
            return
        self.emit(container, "kill", signal="15")
        if container.status is Status.PAUSED:
            self.unpause(container, by=by)
        force = self.timeline.after(grace_s, lambda: self._force(container, container.process, by))
        first = self.rng.random() < self.traits.stop_first
        container.stops.append(StopWaiting(kill=force, first=first, done=done))
        self._deliver_signal(container, 15, by)

    def _force(self, container: Container, process: Process | None, by: str) -> None:
        if container.process is process and container.alive and self.up and not container.removed:
            self.emit(container, "kill", signal="9")
            self.timeline.after(0.005, lambda: self._end_if(container, process, 137, by))

    def kill(self, container: Container, signal: int, *, by: str = "outsider") -> None:
        """Send one signal. Raises EngineConflict when it does not run."""
        if not container.running:
            raise EngineConflict(f"cannot kill container: {container.name}: container is not running")
        container.manually_stopped = container.restart_cancelled = True
        if container.status is Status.RESTARTING:
            self._call_off_restart(container)
            return
        self.emit(container, "kill", signal=str(signal))
        if container.status is Status.PAUSED and signal != 9:
            # A paused process does not get a signal before it goes on; SIGKILL ends it as it is, without an `unpause`.
            self.unpause(container, by=by)
        self._deliver_signal(container, signal, by)

    def _deliver_signal(self, container: Container, signal: int, by: str) -> None:
        process, program = container.process, container.program
        if signal == 9:
            self.timeline.after(0.005, lambda: self._end_if(container, process, 137, by))
        elif signal in _LETHAL and program.ends_after_term_s is not None:
            code = program.term_code
            self.timeline.after(program.ends_after_term_s, lambda: self._end_if(container, process, code, by))

    def _end_if(self, container: Container, process: Process | None, code: int, by: str) -> None:
        if process is not None and container.process is process:
            self.process_ends(container, code, by=by)

    def restart(self, container: Container, *, grace_s: float, by: str = "outsider") -> None:
        """As `docker restart`: kill, die and stop in some order, start, restart."""

        def begin() -> None:
            if self.up and not (container.removing or container.removed or container.running):
                with contextlib.suppress(EngineRefused):  # Who asked is told so.
                    self.start(container, by=by)
                    self.emit(container, "restart")

        def stopped(_: object) -> None:
            self.timeline.after(_BETWEEN_STOP_AND_START_S, begin)

        if container.running:
            self.stop(container, grace_s=grace_s, done=stopped, by=by)
        else:
            begin()

    def pause(self, container: Container) -> None:
        """Freeze the process. Health silently turns unhealthy."""
        process = container.process
        if container.status is not Status.RUNNING or process is None:
            raise EngineConflict(f"container {container.name} is not running")
        if process.end is not None and not process.end.called_off:
            process.frozen_left_s = max(0.0, process.end.when - self.timeline.now)
            process.end.call_off()
        container.status = Status.PAUSED
        self._stop_probes(container)
        self.note(container, "paused", "outsider")
        self.emit(container, "pause")

    def unpause(self, container: Container, *, by: str = "outsider") -> None:
        """Let it go on. Health stays as it is until a probe says otherwise."""
        process = container.process
        if container.status is not Status.PAUSED or process is None:
            raise EngineConflict(f"container {container.name} is not paused")
        if process.frozen_left_s is not None:
            left, process.frozen_left_s = process.frozen_left_s, None
            if container.program.oom_at_s is not None:
                process.end = self.timeline.after(left, lambda: self._out_of_memory(container, process))
            else:
                process.end = self.timeline.after(left, lambda: self.process_ends(container, process.end_code))
        container.status = Status.RUNNING
        self._watch_health(container)
        self.note(container, "unpaused", by)
        self.emit(container, "unpause")

    def rename(self, container: Container, name: str) -> None:
        """Give it another name. Raises EngineConflict when that is taken."""
        if self.named(name) is not None:
            raise EngineConflict(f'Conflict. The container name "/{name}" is already in use')
        old, container.name = container.name, name
        self.emit(container, "rename", oldName=f"/{old}")

    # --- probes ----------------------------------------------------------------------------------------------------

    def _begin_probes(self, container: Container) -> None:
        if container.probe is None:
            return
        container.health, container.streak = Health.STARTING, 0
        self._watch_health(container)

    def _watch_health(self, container: Container) -> None:
        probe = container.probe
        if probe is not None:
            process = container.process
            container.next_probe = self.timeline.after(probe.interval_s, lambda: self._probe(container, process, probe))

    def _stop_probes(self, container: Container) -> None:
        if container.next_probe is not None:
            container.next_probe.call_off()
            container.next_probe = None
        if container.probe is not None and container.health is not None:
            container.health = Health.UNHEALTHY

    def _probe(self, container: Container, process: Process | None, probe: Probe) -> None:
        if container.process is not process or not container.alive or process is None or container.removed:
            return
        if container.status is not Status.RUNNING or not self.up:
            return
        container.next_probe = self.timeline.after(probe.interval_s, lambda: self._probe(container, process, probe))
        if self.frozen:
            return
        self.events.noise(self.clock(), 3)
        age, program = self.timeline.now - process.started, container.program
        good = age >= program.healthy_at_s and (program.sick_at_s is None or age < program.sick_at_s)
        output = "ok" if good else "" if probe.silent else "no answer"
        result = ProbeResult(started_at=self.clock(), exit_code=int(not good), output=output)
        container.probes = [*container.probes[-4:], result]
        if good:
            container.streak = 0
            self._set_health(container, Health.HEALTHY)
        elif not (container.health is Health.STARTING and age < probe.start_period_s):
            container.streak += 1
            if container.streak >= probe.retries:
                self._set_health(container, Health.UNHEALTHY)

    def _set_health(self, container: Container, health: Health) -> None:
        if container.health is not health:
            container.health = health
            self.note(container, health.value, "self")
            self.emit(container, f"health_status: {health.value}")
