"""The truth table on a real engine: each cause produced for real, many times, and what the controller made of it.

`make diagnosis`, or `python -m tests.docker.diagnosis --runs 10`: prints right / wrong / unknown for each cause. It
starts a private engine and a controller of its own beside it (`python -m controller run`), and reads the ledger. A
cause counts as right when the verdict is the one that the cause deserves; for a bare 137 that is the sentence which
says that nobody can know.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

from controller.core.diagnosis import SIGKILL_UNEXPLAINED
from controller.model.exit import Confidence, Verdict
from tests.docker.bench import Bench, Told

LOOP: Final = "while :; do sleep 0.1; done"
OBEYS: Final = f"trap 'exit 0' TERM; {LOOP}"
IGNORES: Final = f"trap '' TERM; {LOOP}"
EATS: Final = "dd if=/dev/zero of=/dev/null bs=64M count=1"
"""It takes 64 MiB at once, and the kernel ends it. Not in the first moments of a container, when its engine does not
yet watch for it: then neither flag nor event tells."""
SMALL: Final = ("--memory", "16m", "--memory-swap", "16m")


@dataclass(frozen=True, kw_only=True)
class Cause:
    """One way to end, how to bring it about, and which verdicts tell the truth about it."""

    name: str
    produce: Callable[[Bench, list[str]], None]
    """Brings the end about for each of the named sessions."""
    right: frozenset[Verdict]
    sentence: str = ""
    """Words that the evidence must hold besides."""
    disrupts: bool = False
    """It stops the engine or the controller, so that nothing else can go on beside it."""

    def judge(self, told: Told | None) -> str:
        """Right, wrong or unknown. Unknown is what claims nothing: it is never false."""
        if told is None:
            return "wrong"
        if told.verdict in self.right and (not self.sentence or self.sentence in told.evidence):
            return "right"
        return "unknown" if told.confidence is Confidence.UNKNOWN else "wrong"


Item = TypeVar("Item")


def _each(items: Iterable[Item], act: Callable[[Item], object]) -> None:
    with ThreadPoolExecutor(4) as threads:
        for _ in threads.map(act, items):
            pass


def _runs(script: str, *options: str) -> Callable[[Bench, list[str]], None]:
    """Watched containers that end by themselves."""

    def produce(bench: Bench, names: list[str]) -> None:
        _each(names, lambda name: bench.watch(name, script, *options))

    return produce


def _then(script: str, *commands: tuple[str, ...], options: tuple[str, ...] = ()) -> Callable[[Bench, list[str]], None]:
    """Watched containers that run, and to which somebody does something through the engine."""

    def produce(bench: Bench, names: list[str]) -> None:
        _each(names, lambda name: bench.watch(name, script, *options))
        bench.await_phase(names, "running")
        for command in commands:
            _each([(*command, name) for name in names], lambda words: bench.engine.cli(*words))

    return produce


def _killed_on_host(bench: Bench, names: list[str]) -> None:
    _each(names, lambda name: bench.watch(name, LOOP))
    bench.await_phase(names, "running")
    _each(names, bench.kill_on_host)


def _ours(script: str) -> Callable[[Bench, list[str]], None]:
    """Sessions of our own, stopped on request."""

    def produce(bench: Bench, names: list[str]) -> None:
        _each(names, lambda name: bench.create(name, script))
        bench.await_phase(names, "running")
        _each(names, lambda name: bench.agentdctl("stop", name))

    return produce


def _fails_to_start(*options: str, command: str = "/bin/true") -> Callable[[Bench, list[str]], None]:
    def produce(bench: Bench, names: list[str]) -> None:
        _each(names, lambda name: bench.watch_command(name, command, *options, check=False))

    return produce


def _mount_vanished(bench: Bench, names: list[str]) -> None:
    # Ours: an engine that is asked by somebody else keeps no trace of this refusal, so that nobody can know of it.
    def refused(name: str) -> None:
        source = bench.engine.folder / f"mount-{name}"
        source.mkdir()
        bench.create(name, LOOP, "--no-start", "--mount", f"{source}:/x")
        source.rmdir()
        bench.agentdctl("start", name, check=False)

    _each(names, refused)


def _port_taken(bench: Bench, names: list[str]) -> None:
    bench.engine.run("--name", "holder", "-p", "127.0.0.1:7999:80", "--", "sh", "-c", LOOP)
    _each(names, lambda name: bench.watch(name, LOOP, "-p", "127.0.0.1:7999:80", check=False))


def _no_image(bench: Bench, names: list[str]) -> None:
    _each(names, lambda name: bench.create(name, LOOP, image="nowhere/nothing:1", check=False))


def _engine_goes(*, kill: bool) -> Callable[[Bench, list[str]], None]:
    def produce(bench: Bench, names: list[str]) -> None:
        _each(names, lambda name: bench.watch(name, OBEYS))
        bench.await_phase(names, "running")
        bench.engine.restart(kill=kill)

    return produce


def _unseen(*options: str) -> Callable[[Bench, list[str]], None]:
    """Gone while no controller watched."""

    def produce(bench: Bench, names: list[str]) -> None:
        _each(names, lambda name: bench.watch(name, LOOP, *options))
        bench.await_phase(names, "running")
        bench.stop_controller(kill=True)
        for name in names:
            bench.engine.cli("rm", "-f", name)
        # More events than the engine keeps, so that nothing of it is left to be replayed.
        bench.fill_ring()
        bench.start_controller()

    return produce


CAUSES: Final = (
    Cause(name="clean exit", produce=_runs("exit 0"), right=frozenset({Verdict.CLEAN_EXIT})),
    Cause(name="error exit", produce=_runs("sleep 0.2; exit 3"), right=frozenset({Verdict.ERROR_EXIT})),
    Cause(
        name="SIGSEGV",
        produce=_runs("sh -c 'kill -SEGV $$'; exit $?"),
        right=frozenset({Verdict.APPLICATION_SIGNAL}),
    ),
    Cause(
        name="SIGABRT",
        produce=_runs("sh -c 'kill -ABRT $$'; exit $?"),
        right=frozenset({Verdict.APPLICATION_SIGNAL}),
    ),
    Cause(
        name="out of memory", produce=_runs(f"sleep 0.5; exec {EATS}", *SMALL), right=frozenset({Verdict.OUT_OF_MEMORY})
    ),
    Cause(
        name="child out of memory, survived",
        produce=_runs(f"sleep 0.5; {EATS}; sleep 0.5; exit 0", *SMALL),
        right=frozenset({Verdict.SURVIVED_CHILD_OOM}),
    ),
    Cause(
        name="child out of memory, then error",
        produce=_runs(f"sleep 0.5; {EATS}; sleep 0.5; exit 3", *SMALL),
        right=frozenset({Verdict.ERROR_AFTER_CHILD_OOM}),
    ),
    Cause(name="stopped by request", produce=_ours(OBEYS), right=frozenset({Verdict.STOPPED_IN_TIME})),
    Cause(name="stopped by request, killed", produce=_ours(IGNORES), right=frozenset({Verdict.STOPPED_BY_FORCE})),
    Cause(
        name="docker stop",
        produce=_then(OBEYS, ("stop", "-t", "5")),
        right=frozenset({Verdict.STOPPED_EXTERNALLY}),
    ),
    Cause(
        name="docker stop, killed",
        produce=_then(IGNORES, ("stop", "-t", "1")),
        right=frozenset({Verdict.STOPPED_EXTERNALLY}),
        sentence="It did not end in time and was killed",
    ),
    Cause(name="docker kill", produce=_then(LOOP, ("kill",)), right=frozenset({Verdict.KILLED_EXTERNALLY})),
    Cause(
        # A label of that name overwrites the event's own attribute. Podman's events name no signal at all.
        name="docker kill, its signal unknown",
        produce=_then(LOOP, ("kill",), options=("--label", "signal=none")),
        right=frozenset({Verdict.KILLED_EXTERNALLY}),
    ),
    Cause(name="docker rm -f", produce=_then(LOOP, ("rm", "-f")), right=frozenset({Verdict.REMOVED_EXTERNALLY})),
    Cause(name="--rm, watched", produce=_runs("sleep 1; exit 3", "--rm"), right=frozenset({Verdict.ERROR_EXIT})),
    Cause(name="--rm, unwatched", produce=_unseen("--rm"), right=frozenset({Verdict.AUTO_REMOVED}), disrupts=True),
    Cause(name="removed, unwatched", produce=_unseen(), right=frozenset({Verdict.UNKNOWN}), disrupts=True),
    Cause(
        name="no such command",
        produce=_fails_to_start(command="/bin/nope"),
        right=frozenset({Verdict.START_FAILED}),
    ),
    Cause(
        name="no permission",
        produce=_fails_to_start(command="/etc/passwd"),
        right=frozenset({Verdict.START_FAILED}),
    ),
    Cause(
        name="mount onto a file",
        produce=_fails_to_start("--volume", "/tmp:/etc/passwd"),
        right=frozenset({Verdict.START_FAILED}),
    ),
    Cause(name="missing mount", produce=_mount_vanished, right=frozenset({Verdict.START_FAILED})),
    Cause(name="port taken", produce=_port_taken, right=frozenset({Verdict.START_FAILED})),
    Cause(name="no such image", produce=_no_image, right=frozenset({Verdict.START_FAILED})),
    Cause(
        name="kill -9 on the host",
        produce=_killed_on_host,
        right=frozenset({Verdict.SIGKILL_UNEXPLAINED}),
        sentence=SIGKILL_UNEXPLAINED,
    ),
    Cause(
        name="the program's own exit(137)",
        produce=_runs("sleep 0.2; exit 137"),
        right=frozenset({Verdict.SIGKILL_UNEXPLAINED}),
        sentence=SIGKILL_UNEXPLAINED,
    ),
    Cause(
        name="engine stopped",
        produce=_engine_goes(kill=False),
        right=frozenset({Verdict.ENGINE_STOPPED}),
        disrupts=True,
    ),
    Cause(
        name="engine crashed", produce=_engine_goes(kill=True), right=frozenset({Verdict.ENGINE_STOPPED}), disrupts=True
    ),
)


def count(bench: Bench, cause: Cause, *, runs: int) -> Counter[str]:
    """Bring one cause about `runs` times and judge what the ledger says of each."""
    names = [bench.fresh_name() for _ in range(runs)]
    cause.produce(bench, names)
    told = bench.await_ends(names)
    found = Counter(cause.judge(told.get(name)) for name in names)
    for name in names:
        if cause.judge(told.get(name)) == "wrong":
            sys.stderr.write(f"  {cause.name}: {name}: {told.get(name)}\n{bench.timeline(name)}\n")
    bench.tidy()
    return found


def main() -> int:
    """Print the table; the exit code is 1 when any answer was wrong."""
    parser = argparse.ArgumentParser(description="The truth table on a private engine.")
    parser.add_argument("--runs", type=int, default=10, help="of each cause (10)")
    parser.add_argument("--only", default="", help="causes whose name contains this")
    wanted = parser.parse_args()
    wrong = 0
    with Bench() as bench:
        sys.stdout.write(
            f"{'cause':36} right wrong unknown   (engine {bench.engine_version}, {wanted.runs} runs each)\n"
        )
        for cause in CAUSES:
            if wanted.only in cause.name:
                found = count(bench, cause, runs=wanted.runs)
                wrong += found["wrong"]
                sys.stdout.write(f"{cause.name:36} {found['right']:5} {found['wrong']:5} {found['unknown']:7}\n")
                sys.stdout.flush()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
