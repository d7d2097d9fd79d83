"""The ledger's file and folder on disk: made private and durable before SQLite sees them.

Called at opening and by copies. It never truncates or replaces a file that is there.
"""

import os
from pathlib import Path

from controller.errors import LedgerError


def absolute(path: str | os.PathLike[str]) -> Path:
    """The one path of that file, wherever the process goes: by a link to it nobody shall take another lock."""
    return Path(os.path.realpath(path))


def size_bytes(path: Path) -> int | None:
    """How long the file is; None when there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def discard(path: Path) -> None:
    """Remove a file that was only a try; success when it is not there."""
    path.unlink(missing_ok=True)


def create_private(path: Path) -> None:
    """Create an empty file for its owner only. Raises OSError when anything is there already."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def prepare_folder(path: Path) -> None:
    """Create the ledger's folder, for its owner only, where it is missing. Raises LedgerError."""
    folder = path.parent
    if folder.is_dir():
        return
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        make_durable(folder.parent)
    except OSError as error:
        raise LedgerError(f"ledger {path}: its folder cannot be made: {error.strerror}") from error


def prepare_file(path: Path) -> None:
    """Create the ledger's file, empty and private, where it is missing; see that it can be written otherwise."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.close(descriptor)
        make_durable(path.parent)
    except OSError as error:
        raise LedgerError(f"ledger {path}: cannot be written: {error.strerror}; it was left as it is") from error


def make_durable(*paths: Path) -> None:
    """Return once the content of these files and folders would survive a power loss. Raises OSError."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
