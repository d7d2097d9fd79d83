"""The client's errors stop here: each becomes one of `errors.py`, raised from the original.

The question behind every line is whether the answer is definite. A 404 is an absence only in the engine's own words
(a proxy says 404 too); a 5xx, a time-out, an answer that cannot be read are no answer at all.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp
import anyio
from aiodocker import DockerError

from controller.engine.cleaning import brief
from controller.errors import ContainerGone, EngineConflict, EngineError, EngineRefused, EngineUnavailable

_NO_CONNECTION: Final = 900
"""aiodocker's status for a connection that could not be made, or broke."""

_UNREADABLE: Final = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What parsing an answer raises when it is cut, garbled, or of another shape."""

_GONE: Final = ("no such container", "no container with")
"""Docker's words, and Podman's (`no container with name or ID "x" found: no such container`)."""

_RETRY_STATUS: Final = frozenset({408, 425, 429})

_RETRY_START: Final = (
    "context deadline exceeded",
    "context canceled",
    "connection refused",
    "transport is closing",
    "ttrpc: closed",
    "shutting down",
    "no space left",
    "too many open files",
    "resource temporarily unavailable",
    "cannot allocate memory",
)
"""In a failed start: the engine's own trouble, whatever else the message says."""

_REFUSED_START: Final = (
    "oci runtime",
    "runtime create failed",
    "failed to create shim task",
    "failed to create task",
    "executable file not found",
    "exec format error",
    "port is already allocated",
    "address already in use",
    "failed to bind",
    "external connectivity",
    "invalid mount",
    "mount",
    "not a directory",
    "no such file or directory",
    "permission denied",
    "device driver",
    "unable to find user",
    "unable to find group",
    "network",
    "crun:",
    "runc:",
)
"""In a failed start: the command, a mount, a port or a network will not do, whichever status the engine gave it."""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """An answer of the engine with a status of 400 or more."""

    what: str
    status: int
    message: str

    def __str__(self) -> str:
        return brief(f"{self.what}: {self.message or 'no reason given'} (HTTP {self.status})")

    @property
    def says_gone(self) -> bool:
        """Whether this is the engine's own word that the container does not exist."""
        # At its beginning: further on it is about another one, whose network or volumes ours was to join.
        return self.status == 404 and self.message.lower().startswith(_GONE)

    @property
    def is_passing(self) -> bool:
        """Whether the same request may work later, or on a new connection."""
        # After a downgrade the engine finds our API version too new; the next connect negotiates it again.
        wrong_version = self.status == 400 and "client version" in self.message
        return self.status >= 500 or self.status in _RETRY_STATUS or wrong_version

    def mentions(self, phrases: tuple[str, ...]) -> bool:
        """Whether the message holds one of these phrases."""
        message = self.message.lower()
        return any(phrase in message for phrase in phrases)


Judge = Callable[[Refusal], EngineError]


def about_question(refusal: Refusal) -> EngineError:
    """A question has an answer, a definite absence, or none: nothing else can be refused about it."""
    return ContainerGone(str(refusal)) if refusal.says_gone else EngineUnavailable(str(refusal))


def about_change(refusal: Refusal) -> EngineError:
    """A stop or a remove. Podman answers 500, not 409, to the removal of what runs."""
    if refusal.says_gone:
        return ContainerGone(str(refusal))
    if refusal.status == 409 or (refusal.status == 500 and "without force" in refusal.message):
        return EngineConflict(str(refusal))
    if refusal.is_passing or refusal.status == 404:
        return EngineUnavailable(str(refusal))
    return EngineRefused(str(refusal))


def about_start(refusal: Refusal) -> EngineError:
    """A start. Engines answer 400, 404 or 500 to a command, mount, port or network that will never do.

    Which status it is differs by engine and version (a missing command: Docker 400, Podman 500; a port in use:
    Docker 500), so the message decides. What it does not settle is EngineUnavailable, and an inspect tells.
    """
    if refusal.says_gone or refusal.status == 409:
        return about_change(refusal)
    if refusal.mentions(_RETRY_START):
        return EngineUnavailable(str(refusal))
    if refusal.status == 404 or refusal.mentions(_REFUSED_START):
        return EngineRefused(str(refusal))
    return about_change(refusal)


def about_create(refusal: Refusal) -> EngineError:
    """A create; the only 404 there is about the image or a network.

    Podman answers 500 where it has no init process to put into the container: that is for its owner to mend.
    """
    if "already in use" in refusal.message and refusal.status in (409, 500):
        return EngineConflict(str(refusal))
    final = refusal.status == 404 or "init binary" in refusal.message
    return EngineRefused(str(refusal)) if final else about_change(refusal)


@asynccontextmanager
async def asking(what: str, *, limit_s: float, judge: Judge = about_question) -> AsyncIterator[None]:
    """Run one call under a time limit; whatever goes wrong in it leaves as an error of ours."""
    try:
        with anyio.fail_after(limit_s):
            yield
    except EngineError:
        raise
    except DockerError as error:
        raise _from_docker_error(error, what=what, judge=judge) from error
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        raise unavailable(error, what=what) from error
    except _UNREADABLE as error:
        raise EngineUnavailable(brief(f"{what}: the answer cannot be read ({type(error).__name__})")) from error
    except RuntimeError as error:
        if "closed" not in str(error):
            raise
        # aiohttp's way to say that a connect() replaced this client before the request was sent.
        raise EngineUnavailable(f"{what}: the connection was replaced", request_sent=False) from error
    except AssertionError as error:
        # The same, met by a request that aiohttp repeats because its first connection broke: nothing checks again
        # whether the client is closed. Nothing of ours asserts in here.
        raise EngineUnavailable(f"{what}: the connection was replaced") from error


def unavailable(error: BaseException | None, *, what: str) -> EngineUnavailable:
    """The engine gave no answer; and whether it may have got the request."""
    sent = not isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError))
    if isinstance(error, TimeoutError):
        reason = "no answer in time" if sent else "no connection in time"
    else:
        reason = str(error) or type(error).__name__
    return EngineUnavailable(brief(f"{what}: {reason}"), request_sent=sent)


def _from_docker_error(error: DockerError, *, what: str, judge: Judge) -> EngineError:
    if error.status == _NO_CONNECTION:
        return unavailable(error.__context__, what=what)
    return judge(Refusal(what=what, status=error.status, message=str(error.message)))
