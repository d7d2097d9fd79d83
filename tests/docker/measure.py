"""The figures of the closing note: `python -m tests.docker.measure` prints them as a table.

One engine, one controller, and beside it a bare reader of the same events, so that the engine's own delay is known and
the rest is ours. Read them on a machine that does nothing else.
"""

import argparse
import http.client
import json
import os
import socket
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import anyio

from controller.model.instant import from_rfc3339
from tests.docker.test_a_thousand_sessions import SESSIONS_COUNT, medians
from tests.support.controller_process import ControllerProcess, until
from tests.support.engine_client import EngineClient, create_many
from tests.support.fault_proxy import HalfOpen, always
from tests.support.private_engine import PrivateEngine, missing
from tests.support.proxy_thread import proxy_before

ROUNDS_COUNT: Final = 200
"""Each is a pause and an unpause, and each of the two is a transition."""
SWEEP_S: Final = 5.0
SWEEP_ROUNDS_COUNT: Final = 10
CONTROLLER: Final = Path(__file__).parents[2] / "controller"
Delays = list[float]
Key = tuple[str, int]


class BareReader(threading.Thread):
    """Reads the event stream with nothing between; notes when each line was there."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.arrived: dict[Key, int] = {}
        self._connection = http.client.HTTPConnection("engine")
        self._connection.sock = socket.socket(socket.AF_UNIX)
        self._connection.sock.connect(str(path))
        self._connection.request("GET", "/events")
        self._answer = self._connection.getresponse()

    def run(self) -> None:
        while line := self._answer.readline():
            now = time.time_ns()
            event = json.loads(line)
            if event.get("Type") == "container":
                self.arrived[event["Actor"]["ID"], event["timeNano"]] = now


def latencies(engine: PrivateEngine, controller: ControllerProcess) -> tuple[Delays, Delays, Delays]:
    """Milliseconds from the engine's stamp to the bare reader, the row's commit and its log line, event by event."""
    reader = BareReader(engine.socket)
    reader.start()
    with closing(EngineClient(engine.socket)) as client:
        container = client.create("blinks", "/bin/sleep", "100000", labels={"agentd.watch": "true"}, start=True)
        controller.wait_for("blinks", phase="running")
        for _ in range(ROUNDS_COUNT):
            for verb in ("pause", "unpause"):
                client.ask("POST", f"/containers/{container}/{verb}")
                time.sleep(0.02)
    until(lambda: len(committed(controller, container)) >= 2 * ROUNDS_COUNT, what="all are committed", timeout_s=60)
    rows = committed(controller, container)
    lines = until(lambda: printed(controller, container, len(rows)), what="all are printed")
    instants = [at for at in rows if (container, at) in reader.arrived and at in lines]
    ends = ({at: reader.arrived[container, at] for at in instants}, rows, lines)
    bare, ours, said = ([(end[at] - at) / 1e6 for at in instants] for end in ends)
    return bare, ours, said


def committed(controller: ControllerProcess, container: str) -> dict[int, int]:
    """Commit times of the rows that pauses and resumptions made, by engine time; both clocks are this machine's."""
    query = (
        "SELECT json_extract(body, '$.at'), committed_at FROM journal WHERE json_extract(body, '$.source') = 'event'"
        " AND json_extract(body, '$.reason') IN ('paused', 'unpaused') AND json_extract(body, '$.container_id') = ?"
    )
    with closing(sqlite3.connect(f"file:{controller.db}?mode=ro", uri=True, timeout=10)) as connection:
        return {int(at): int(when) for at, when in connection.execute(query, (container,))}


def printed(controller: ControllerProcess, container: str, count: int) -> dict[int, int]:
    """When the log line of each was written, which is after its commit; empty until so many are there."""
    found = {
        nanos(str(line["at"])): nanos(str(line["ts"]))
        for line in controller.lines()
        if line.get("container_id") == container and line.get("reason") in ("paused", "unpaused") and line["at"]
    }
    return found if len(found) >= count else {}


def nanos(told: str) -> int:
    """An RFC 3339 instant as the model counts it."""
    instant = from_rfc3339(told)
    assert instant is not None
    return instant


def memory_mib(controller: ControllerProcess) -> float:
    """Resident."""
    status = Path(f"/proc/{controller.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def is_idle(controller: ControllerProcess) -> bool:
    """Whether it used next to no processor for two seconds."""
    began_s = processor_s(controller)
    time.sleep(2)
    return processor_s(controller) - began_s < 0.06


def processor_s(controller: ControllerProcess) -> float:
    """Of its whole life."""
    fields = Path(f"/proc/{controller.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def code_lines() -> dict[str, int]:
    """Lines that are neither blank nor only a comment, by room."""
    found: dict[str, int] = {}
    for path in sorted(CONTROLLER.rglob("*.py")):
        parts = path.relative_to(CONTROLLER).parts
        room = parts[0] if len(parts) > 1 else "(top)"
        lines = [line.strip() for line in path.read_text().splitlines()]
        found[room] = found.get(room, 0) + sum(1 for line in lines if line and not line.startswith("#"))
    return found


def spread(values: Sequence[float]) -> str:
    """Median and 99th percentile."""
    return f"{statistics.median(values):.1f} ms, {statistics.quantiles(values, n=100)[98]:.1f} ms"


def figures(engine: PrivateEngine, folder: Path) -> list[tuple[str, str]]:
    """What was measured, and how much."""
    with ControllerProcess(folder=folder, engine_url=engine.url, sweep_interval_s="3600") as controller:
        empty = memory_mib(controller)
        bare, ours, said = latencies(engine, controller)
        engine.remove_all()
        controller.kill()
        create_many(engine.socket, SESSIONS_COUNT, labels={"agentd.watch": "true"}, running_count=20)
        controller.start()
        until(lambda: known_count(controller) >= SESSIONS_COUNT, what="all are known", timeout_s=120)
        # One that is only created is looked at for half a minute; those looks are no part of a sweep.
        until(lambda: is_idle(controller), what="no more looks", timeout_s=120)
        lists, sweep = anyio.run(medians, controller, engine.url)
        full = memory_mib(controller)
    return [
        (f"events measured, of {2 * ROUNDS_COUNT}", str(len(ours))),
        ("engine's stamp to a bare reader: median, p99", spread(bare)),
        ("engine's stamp to the committed row: median, p99", spread(ours)),
        ("engine's stamp to its log line, after the commit: median, p99", spread(said)),
        (
            "of it ours, up to the row, event by event: median, p99",
            spread([a - b for a, b in zip(ours, bare, strict=True)]),
        ),
        (f"two bare lists of {SESSIONS_COUNT}: median of 7", f"{lists * 1000:.0f} ms"),
        (f"sweep of {SESSIONS_COUNT} on request: median of 7", f"{sweep * 1000:.0f} ms ({sweep / lists:.2f} x)"),
        ("memory (RSS) with no session", f"{empty:.0f} MiB"),
        (f"memory (RSS) with {SESSIONS_COUNT} sessions", f"{full:.0f} MiB"),
        *((f"lines of code, {room}", str(count)) for room, count in code_lines().items()),
        ("lines of code, all", str(sum(code_lines().values()))),
    ]


def sweep_latencies(engine: PrivateEngine, folder: Path) -> Delays:
    """Seconds from a pause or its end to the committed row, where the event stream is dead and only sweeps see."""
    took: Delays = []
    with (
        proxy_before(engine) as between,
        ControllerProcess(folder=folder, engine_url=between.url, sweep_interval_s=f"{SWEEP_S:g}") as controller,
        closing(EngineClient(engine.socket)) as client,
    ):
        between.proxy.rule = always(HalfOpen(after_bytes=400), when=lambda request: request.is_events)
        between.break_all()
        container = client.create("unheard", "/bin/sleep", "100000", labels={"agentd.watch": "true"}, start=True)
        controller.wait_for("unheard", phase="running", timeout_s=60)
        for number in range(SWEEP_ROUNDS_COUNT):
            # At no time of its own within the interval.
            time.sleep(SWEEP_S * (number % 7) / 7)
            for verb, phase in (("pause", "paused"), ("unpause", "running")):
                began = time.monotonic()
                client.ask("POST", f"/containers/{container}/{verb}")
                controller.wait_for("unheard", phase=phase, timeout_s=60)
                took.append(time.monotonic() - began)
    return took


def known_count(controller: ControllerProcess) -> int:
    """Sessions that are not removed."""
    return len(controller.sessions(all_of_them=False))


def main() -> None:
    """Print the table."""
    if lacking := missing():
        raise SystemExit(f"no private engine here: {lacking}")
    parser = argparse.ArgumentParser(prog="python -m tests.docker.measure", description=__doc__)
    parser.add_argument("--json", type=Path, help="write them there, too")
    asked = parser.parse_args()
    with PrivateEngine() as engine, tempfile.TemporaryDirectory() as folder:
        rows = figures(engine, Path(folder) / "events")
        engine.remove_all()
        by_sweep = sweep_latencies(engine, Path(folder) / "sweeps")
    rows.insert(
        4,
        (
            f"a change to its committed row by sweeps alone, every {SWEEP_S:g} s: median, longest of {len(by_sweep)}",
            f"{statistics.median(by_sweep):.1f} s, {max(by_sweep):.1f} s",
        ),
    )
    if asked.json is not None:
        asked.json.write_text(json.dumps(rows), encoding="utf-8")
    print("| figure | value |\n|---|---|")
    for name, value in rows:
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()
