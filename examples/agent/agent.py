"""The smallest agent: works in rounds, says so, leaves when asked, and can tell a probe that it is alive.

Replace `work` with what your agent does. Standard library only. An agent that holds a connection to the controller
finds the address in AGENTD_WS_URL and the bearer token for it in AGENTD_SESSION_TOKEN.
"""

import os
import pathlib
import signal
import sys
import threading
import time

ROUND_S = 5.0
STALE_AFTER_S = 60.0
HEARTBEAT = pathlib.Path("/tmp/heartbeat")


def work(round_number: int) -> None:
    """One round of the agent's work."""
    kind = os.environ.get("AGENT_TYPE", "general")
    model = os.environ.get("MODEL_NAME") or "no model"
    print(f"round {round_number}: a {kind} agent with {model} at work in {os.getcwd()}")


def probe() -> int:
    """What the image's HEALTHCHECK calls: 0 while rounds are being finished."""
    try:
        age_s = time.time() - HEARTBEAT.stat().st_mtime  # noqa: TID251 - a file's time is wall time
    except FileNotFoundError:
        print("no round finished yet")
        return 1
    print(f"last round {age_s:.0f} s ago")
    return 0 if age_s < STALE_AFTER_S else 1


def main() -> int:
    """Work until SIGTERM or SIGINT, then finish the round and leave with 0."""
    if sys.argv[1:] == ["--probe"]:
        return probe()
    asked_to_leave = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked_to_leave.set())
    round_number = 0
    while not asked_to_leave.is_set():
        round_number += 1
        work(round_number)
        HEARTBEAT.touch()
        asked_to_leave.wait(ROUND_S)
    print("asked to leave, done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
