"""How a daemon goes and comes back: `kill -9`, an orderly stop, a freeze; and what it makes of what happened meanwhile.

A daemon that starts again has an empty ring. It writes no `die` for what ended without it; what it stops or starts on
its own while it restores is in the new ring before the API answers.
"""

from controller.model.container import EngineRestart
from controller.model.phase import Health
from tests.simulation.containers import Container, Process, Status
from tests.simulation.daemon import Daemon
from tests.simulation.stream import EventService

SHUTDOWN_S = 15.0
"""What a stopping daemon gives its containers before it kills them."""


def kill_daemon(daemon: Daemon) -> None:
    """`kill -9`: containers go on, everything else is cut."""
    if not daemon.up:
        return
    daemon.up, daemon.stopping, daemon.frozen = False, False, False
    daemon.on_thaw.clear()
    daemon.events.cut("connection reset by peer")
    for tell in daemon.on_down[:]:
        tell()
    daemon.on_down.clear()
    for container in daemon.containers.values():
        if container.next_probe is not None:
            container.next_probe.call_off()
            container.next_probe = None
        for stop in container.stops:
            if stop.kill is not None:
                stop.kill.call_off()
        container.stops.clear()
        container.removal_failed = False
        if container.status is Status.REMOVING:
            # That it was being removed is not written down anywhere.
            container.status, container.removing = container.before_removal, False


def stop_daemon(daemon: Daemon) -> None:
    """An orderly stop: refuses new requests, stops its containers unless they survive it, ends the streams, goes."""
    if not daemon.up or daemon.stopping:
        return
    daemon.stopping = True
    if daemon.traits.live_restore:
        kill_daemon(daemon)
        return
    for container in list(daemon.containers.values()):
        if container.status is Status.RESTARTING and container.next_start is not None:
            container.next_start.call_off()
            container.next_start = None
            container.status = Status.EXITED
        elif container.running:
            daemon.stop(container, grace_s=10.0, done=lambda _: _leave_when_empty(daemon), by="daemon")
    daemon.timeline.after(SHUTDOWN_S, lambda: _leave(daemon))
    _leave_when_empty(daemon)


def _leave_when_empty(daemon: Daemon) -> None:
    if not any(container.alive for container in daemon.containers.values()):
        daemon.timeline.after(0.05, lambda: _leave(daemon))


def _leave(daemon: Daemon) -> None:
    if daemon.up and daemon.stopping:
        if daemon.traits.clean_stream_end:
            daemon.events.cut(None)
        kill_daemon(daemon)


def start_daemon(daemon: Daemon) -> None:
    """Start again and restore: an empty ring, exits that nobody saw, policies applied, then the API answers."""
    if daemon.up:
        return
    half_open = daemon.events.readers
    deliver = daemon.events.deliver
    daemon.events = EventService()
    daemon.events.readers = half_open
    daemon.events.deliver = deliver
    daemon.up = True
    for container in list(daemon.containers.values()):
        _restore(daemon, container)


def freeze_daemon(daemon: Daemon) -> None:
    """SIGSTOP: connections stay, nothing answers, nothing is noticed."""
    if daemon.up and not daemon.stopping:
        daemon.frozen = True


def thaw_daemon(daemon: Daemon) -> None:
    """SIGCONT: everything that waited happens now."""
    daemon.frozen = False
    waiting, daemon.on_thaw = daemon.on_thaw, []
    for act in waiting:
        act()


def _restore(daemon: Daemon, container: Container) -> None:
    process = container.process
    believed = container.running
    if not believed or process is None:
        _restart_by_policy(daemon, container)
        return
    if process.alive and daemon.traits.live_restore:
        _reattach(daemon, container)
        return
    if process.alive:
        _shut_down(daemon, container, process)
    elif container.status is not Status.RESTARTING:
        _find_ended(daemon, container, process)
    container.status = Status.EXITED
    if container.health is not None:
        container.health = Health.UNHEALTHY
    if container.auto_remove:
        daemon.remove(container, by="daemon")
    else:
        _restart_by_policy(daemon, container)


def _reattach(daemon: Daemon, container: Container) -> None:
    """A live one goes on: same StartedAt, no event; health begins anew."""
    if container.probe is not None and container.status is Status.RUNNING:
        container.health, container.streak = Health.STARTING, 0
        daemon._watch_health(container)


def _shut_down(daemon: Daemon, container: Container, process: Process) -> None:
    """A survivor of a killed daemon is stopped by the new one: kill, die, stop in the new ring only."""
    container.manually_stopped = True
    container.restart_cancelled = True
    daemon.emit(container, "kill", signal="15")
    if container.status is Status.PAUSED:
        daemon.unpause(container, by="daemon")
    code = 137 if container.program.ends_after_term_s is None else container.program.term_code
    if container.program.ends_after_term_s is None:
        daemon.emit(container, "kill", signal="9")
    daemon.process_ends(container, code, by="daemon")
    daemon.emit(container, "stop")


def _find_ended(daemon: Daemon, container: Container, process: Process) -> None:
    """It ended without a daemon: the code if it is still known, else an invented 255; never a `die`."""
    if daemon.rng.random() < daemon.traits.status_survives:
        container.exit_code = process.code
        container.finished_at = type(daemon.clock())(
            daemon.clock() - round((daemon.timeline.now - process.ended) * 1e9)
        )
    else:
        container.exit_code, container.finished_at = 255, daemon.clock()


def _restart_by_policy(daemon: Daemon, container: Container) -> None:
    """At its start the daemon starts those whose policy says so. RestartCount begins at 0 again."""
    match container.restart:
        case EngineRestart.ALWAYS:
            wanted = container.starts > 0
        case EngineRestart.UNLESS_STOPPED:
            wanted = container.starts > 0 and not container.manually_stopped
        case EngineRestart.ON_FAILURE:
            # Who stopped it, and when, does not matter: it ended with a failure, and has restarts left.
            left = container.restart_limit == 0 or container.restart_count < container.restart_limit
            wanted = container.starts > 0 and container.exit_code != 0 and left
        case _:
            wanted = False
    if wanted and not container.running and container.status is not Status.DEAD:
        container.restart_count = container.failures = 0
        container.backoff_s = 0.1
        container.restart_cancelled = container.manually_stopped = False
        daemon._run(container, by="daemon")
