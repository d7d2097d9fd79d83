"""The bearer token that the controller makes for itself when it can be reached from beyond this host.

It lies beside the ledger in a file that only its owner can read; `agentdctl` on the same host finds it there.
"""

import os
import secrets
from contextlib import suppress
from pathlib import Path
from stat import S_IMODE, S_IRWXO

from controller.errors import SettingsError
from controller.settings import Settings


def token_path(db: str) -> Path:
    """Where the token of that ledger's controller lies."""
    return Path(f"{db}.token")


def ensure_token(settings: Settings) -> str:
    """The token in force: the one that was set, none on loopback, else the private file's, made if need be."""
    if settings.token or settings.binds_loopback:
        return settings.token
    return _read_or_make(token_path(settings.db))


def stored_token(db: str) -> str:
    """The private file's token; empty when there is none that we may read."""
    try:
        return token_path(db).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _read_or_make(path: Path) -> str:
    try:
        if not os.path.lexists(path):
            _make(path)
        token = _read_private(path)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"AGENTD_TOKEN is not set and {path} cannot be used: {error}; set AGENTD_TOKEN") from error
    if not token:
        raise SettingsError(f"{path} is empty: remove it, or set AGENTD_TOKEN")
    return token


def _read_private(path: Path) -> str:
    # What others may write they may have written, and a link may lead to what they have.
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), encoding="ascii") as file:
        if S_IMODE(os.fstat(file.fileno()).st_mode) & S_IRWXO:
            raise SettingsError(f"{path} is open to others: remove it and a new one is made, or set AGENTD_TOKEN")
        return file.read().strip()


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, f"{secrets.token_hex(32)}\n".encode("ascii"))
        os.fsync(descriptor)
        # A half-written file never gets the final name, and link() never replaces a token that clients already hold.
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        os.close(descriptor)
        draft.unlink()
