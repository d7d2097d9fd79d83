"""Keeps a second controller off the ledger: an exclusive `flock` on a file beside it.

Taken before the ledger is opened and held until it is closed; the kernel frees it when the holder dies, so there is
nothing to take over. The lock file is never removed: a second controller could then lock another file of that name.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from controller.errors import LedgerBusy, LedgerError
from controller.model.instant import Instant, to_rfc3339

_HOLDER_MAX_BYTES: Final = 300


@contextmanager
def held(path: Path, now: Instant) -> Iterator[None]:
    """Hold the ledger at `path`. Raises LedgerBusy, with what the holder wrote, when another controller has it."""
    beside = Path(f"{path}.lock")
    try:
        # Never through a link: what it leads to would be emptied.
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise LedgerError(f"ledger {path}: cannot be locked: {beside}: {error.strerror}") from error
    try:
        _lock(descriptor, path)
        _write_holder(descriptor, now)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        # What stands in the file is for people to read, and anybody could have written it.
        written = os.pread(descriptor, _HOLDER_MAX_BYTES, 0).decode("utf-8", "replace").strip()
        holder = "".join(sign if sign.isprintable() else "?" for sign in written)
        raise LedgerBusy(f"ledger {path} is held by another controller: {holder or 'it has not said which'}") from error
    except OSError as error:
        raise LedgerError(f"ledger {path}: its file system takes no lock: {error.strerror}") from error


def _write_holder(descriptor: int, now: Instant) -> None:
    holder = f"host {os.uname().nodename}, pid {os.getpid()}, since {to_rfc3339(now)}\n".encode()
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, holder, 0)
    except OSError:
        # The lock holds without its text; a full disk is reported by the ledger itself.
        return
