"""Linux signal numbers by name, as a literal table: the `signal` module's differs with the platform we run on.

Pure data for `diagnosis` and `transitions`. It tells what a signal is, never who sent it.
"""

from typing import Final

SIGHUP: Final = 1
SIGKILL: Final = 9
SIGTERM: Final = 15
SIGNAL_BASE: Final = 128
"""Shells and engines report a process that a signal ended as 128 + its number."""

_NAMES: Final = {
    1: "SIGHUP",
    2: "SIGINT",
    3: "SIGQUIT",
    4: "SIGILL",
    5: "SIGTRAP",
    6: "SIGABRT",
    7: "SIGBUS",
    8: "SIGFPE",
    9: "SIGKILL",
    10: "SIGUSR1",
    11: "SIGSEGV",
    12: "SIGUSR2",
    13: "SIGPIPE",
    14: "SIGALRM",
    15: "SIGTERM",
    16: "SIGSTKFLT",
    17: "SIGCHLD",
    18: "SIGCONT",
    19: "SIGSTOP",
    20: "SIGTSTP",
    21: "SIGTTIN",
    22: "SIGTTOU",
    23: "SIGURG",
    24: "SIGXCPU",
    25: "SIGXFSZ",
    26: "SIGVTALRM",
    27: "SIGPROF",
    28: "SIGWINCH",
    29: "SIGIO",
    30: "SIGPWR",
    31: "SIGSYS",
}
_FIRST_REALTIME: Final = 34
_LAST_REALTIME: Final = 64
_NEVER_ENDS: Final = frozenset({17, 18, 19, 20, 21, 22, 23, 28})
"""Ignored by default, or they stop and continue a process; none of them ends one."""


def signal_name(signal: int) -> str:
    """`SIGTERM` for 15, `SIGRTMIN+1` for 35, `signal 99` for a number that Linux does not have."""
    if _FIRST_REALTIME <= signal <= _LAST_REALTIME:
        offset = signal - _FIRST_REALTIME
        return f"SIGRTMIN+{offset}" if offset else "SIGRTMIN"
    return _NAMES.get(signal, f"signal {signal}")


def can_end(signal: int) -> bool:
    """Whether this signal can end a process that does not expect it."""
    if signal in _NEVER_ENDS:
        return False
    return signal in _NAMES or _FIRST_REALTIME <= signal <= _LAST_REALTIME


def from_exit_code(exit_code: int) -> int | None:
    """The signal that a code of 128 + n tells of. None for a code that is more likely the program's own.

    Real-time signals are left out: nothing sends them to end a process, and programs use such codes.
    """
    signal = exit_code - SIGNAL_BASE
    return signal if signal in _NAMES and can_end(signal) else None
