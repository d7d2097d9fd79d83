"""How long the engine may take over each kind of call, and how much of its output is read.

A limit that is too short turns a busy engine into an unreachable one; one that is too long keeps a loop waiting for
an engine that is wedged. Tests pass shorter ones.
"""

from dataclasses import dataclass
from typing import Final

PARALLEL_CALLS: Final = 32
"""Open connections for questions. Engines queue beyond about that many; more only cost file descriptors."""

PARALLEL_CHANGES: Final = 32
"""Creates, starts and removes. A start can take a minute, and must not keep an inspect waiting."""

PARALLEL_STOPS: Final = 512
"""A stop holds its connection for its whole grace. Many at once are one grace then, and not one for each handful."""

PARALLEL_STREAMS: Final = 4
"""Event streams: the old window, the new one, and room for two that are still being closed."""

PARALLEL_FOLLOWERS: Final = 64
"""People who follow a log. On connections of their own, so that they can never hold up a stop."""

EVENT_LINE_MAX_BYTES: Final = 1024 * 1024
"""One event. Labels come with each event, and 200 KiB of them have been seen."""

LOG_LINE_MAX_BYTES: Final = 16 * 1024
"""One line of a container's output; the rest of it is dropped."""

ERROR_TEXT_MAX_CHARS: Final = 500
"""An engine's message: enough for the longest runtime error, too little to fill a journal."""

ERROR_BODY_MAX_BYTES: Final = 64 * 1024
"""What is read of an error's body on the streaming calls."""


@dataclass(frozen=True, kw_only=True)
class TimeLimits:
    """Seconds per call."""

    connect_s: float = 5.0
    """To open one connection: local sockets answer in microseconds, a remote engine in a round trip or two."""
    info_s: float = 10.0
    """`/version` and `/info`: the latter asks every plugin."""
    list_s: float = 30.0
    """1,000 containers take 0.1 s; engines that inspect each one for a list (Podman) need many times that."""
    inspect_s: float = 5.0
    """Answers in milliseconds or hangs on the container's lock."""
    create_s: float = 30.0
    """Prepares the container's layers on disk."""
    network_s: float = 30.0
    """Lists or creates a network."""
    start_s: float = 60.0
    """Mounts, networks and the runtime's own work."""
    stop_extra_s: float = 10.0
    """Beyond the grace: the kill and its clean-up."""
    remove_s: float = 30.0
    """Deletes layers and volumes."""
    logs_s: float = 10.0
    """To read a whole tail."""
    head_s: float = 10.0
    """Until a stream's response head comes."""
    overdue_s: float = 15.0
    """A stream that has not ended so long after its `until` is dead: silence alone proves nothing."""
