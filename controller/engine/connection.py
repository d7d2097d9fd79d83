"""The connections to one engine: made anew at each connect, closed together.

One client for each kind of request, so that none can starve another: questions, changes, stops, event streams, and
followers of logs. The address is always given explicitly, so that neither a docker context nor an environment variable
can send us to another engine.
"""

import json
import ssl
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import aiohttp
import anyio
from aiodocker import Docker, DockerError

from controller.engine import translate
from controller.engine.failures import asking
from controller.engine.limits import (
    ERROR_BODY_MAX_BYTES,
    PARALLEL_CALLS,
    PARALLEL_CHANGES,
    PARALLEL_FOLLOWERS,
    PARALLEL_STOPS,
    PARALLEL_STREAMS,
    TimeLimits,
)
from controller.errors import EngineUnavailable, SettingsError
from controller.model.container import EngineInfo
from controller.model.instant import NANOS_PER_S, Instant, after, seconds_between
from controller.settings import without_credentials

_UNIX: Final = "unix://"


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where the engine is, and how to prove who we are."""

    url: str = field(repr=False)
    """`unix:///path`, `tcp://host:port`, `http(s)://…`; a user and a password may stand before the host."""
    tls_verify: bool = False
    cert_path: str = ""
    """Folder with `ca.pem`, `cert.pem` and `key.pem`."""

    @property
    def shown(self) -> str:
        """The URL as it may be told, and as a client may have it: whatever that says of it holds no password."""
        return without_credentials(self.url)

    def headers(self) -> Mapping[str, str]:
        """What goes with every request: the user and the password that the URL has."""
        before, at, _ = self.url.partition("://")[2].rpartition("@")
        if not at or self.url.startswith(_UNIX):
            return {}
        return {"Authorization": f"Basic {b64encode(unquote(before).encode()).decode()}"}

    def tls(self) -> ssl.SSLContext | None:
        """The context for a verified connection; raises SettingsError when its files cannot be used."""
        if not self.tls_verify or self.url.startswith(_UNIX):
            return None
        folder = Path(self.cert_path or Path.home() / ".docker")
        try:
            context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
            context.load_cert_chain(str(folder / "cert.pem"), str(folder / "key.pem"))
        except OSError as error:  # ssl.SSLError is one
            raise SettingsError(
                f"DOCKER_CERT_PATH={str(folder)!r} cannot be used ({error}): it needs ca.pem, cert.pem and key.pem"
            ) from error
        return context


class EngineClock:
    """The engine's clock as it was at a connect, carried on by ours."""

    def __init__(self, *, engine_time: Instant | None, at: float) -> None:
        """`at` is the reading of anyio's clock that belongs to the engine's time."""
        wall = Instant(int(datetime.now(UTC).timestamp()) * NANOS_PER_S)
        self._engine_time = wall if engine_time is None else engine_time
        self._at = at

    def now(self) -> Instant:
        """What the engine's clock should show."""
        return after(self._engine_time, anyio.current_time() - self._at)

    def until(self, instant: Instant) -> float:
        """Seconds from now to an instant of the engine's clock; negative when it has passed."""
        return seconds_between(self.now(), instant)


@dataclass(frozen=True, kw_only=True)
class Clients:
    """What one connect made."""

    calls: Docker
    """Questions, each answered at once."""
    changes: Docker
    """Creates, starts and removes."""
    stops: Docker
    streams: Docker
    followers: Docker

    async def close(self) -> None:
        """Close them all, cutting what is still under way."""
        with anyio.CancelScope(shield=True):
            for docker in (self.calls, self.changes, self.stops, self.streams, self.followers):
                await docker.close()
                await docker.session.close()


@dataclass(frozen=True, kw_only=True)
class Connected:
    """One connect: its clients, who answered, and its clock."""

    clients: Clients
    info: EngineInfo
    clock: EngineClock
    cpu_count: int | None


class Connection:
    """Holds the present connect; whoever calls takes the clients from here, each time anew."""

    def __init__(self, address: Address, limits: TimeLimits) -> None:
        """Reads the TLS files, and raises SettingsError when they will not do."""
        self.limits = limits
        self.network_lock = anyio.Lock()
        """Held while a network is looked for and made: older engines make two of one name when asked at once."""
        self._address = address
        self._tls = address.tls()
        self._lock = anyio.Lock()
        self._connected: Connected | None = None

    @property
    def connected(self) -> Connected:
        """The present connect. Raises EngineUnavailable before the first one."""
        if self._connected is None:
            raise EngineUnavailable("the engine has not been connected to yet", request_sent=False)
        return self._connected

    async def connect(self) -> EngineInfo:
        """New clients, the API version negotiated again; the old ones are closed. Raises EngineUnavailable."""
        async with self._lock:
            await self.close()
            self._connected = await self._open()
            return self._connected.info

    async def close(self) -> None:
        """Close whatever is open. Safe to repeat."""
        connected, self._connected = self._connected, None
        if connected is not None:
            await connected.clients.close()

    async def _open(self) -> Connected:
        calls = self._docker("auto", parallel=PARALLEL_CALLS)
        try:
            async with asking(f"connect to {self._address.shown}", limit_s=self.limits.info_s):
                version = await calls.version()
                before = anyio.current_time()
                about = await calls.system.info()
                asked_at = (before + anyio.current_time()) / 2
            info = translate.engine_info(about, version)
            if info is None:
                raise EngineUnavailable(f"connect to {self._address.shown}: the engine does not say who it is")
        except BaseException:
            await Clients(calls=calls, changes=calls, stops=calls, streams=calls, followers=calls).close()
            raise
        return Connected(
            clients=Clients(
                calls=calls,
                changes=self._docker(calls.api_version, parallel=PARALLEL_CHANGES),
                stops=self._docker(calls.api_version, parallel=PARALLEL_STOPS),
                streams=self._docker(calls.api_version, parallel=PARALLEL_STREAMS),
                followers=self._docker(calls.api_version, parallel=PARALLEL_FOLLOWERS),
            ),
            info=info,
            clock=EngineClock(engine_time=info.system_time, at=asked_at),
            cpu_count=translate.cpu_count(about),
        )

    def _docker(self, api_version: str, *, parallel: int) -> Docker:
        # With a connector of our own aiodocker reads neither the environment nor a docker context.
        connector: aiohttp.BaseConnector
        if self._address.url.startswith(_UNIX):
            url = f"{_UNIX}localhost"
            connector = aiohttp.UnixConnector(self._address.url.removeprefix(_UNIX), limit=parallel)
        else:
            host = self._address.shown.partition("://")[2].rstrip("/")
            secure = self._tls is not None or self._address.url.startswith("https://")
            url = f"{'https' if secure else 'http'}://{host}"
            connector = aiohttp.TCPConnector(ssl=self._tls or True, limit=parallel)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self.limits.connect_s)
        session = aiohttp.ClientSession(connector=connector, timeout=timeout, headers=self._address.headers())
        return Docker(url=url, connector=connector, session=session, timeout=timeout, api_version=api_version)


async def get(docker: Docker, path: str, params: Mapping[str, str]) -> aiohttp.ClientResponse:
    """One GET whose body the caller reads, and closes. Raises DockerError as aiodocker does.

    For what aiodocker's own helpers hide: an empty list answer, the end of a stream, a response left open.
    """
    response = await docker.session.get(
        f"{docker.docker_host}/{docker.api_version}/{path}", params=params, allow_redirects=False
    )
    if response.status == 200:
        return response
    try:
        body = await response.content.read(ERROR_BODY_MAX_BYTES)
    finally:
        response.close()
    raise DockerError(response.status, _message(body))


def _message(body: bytes) -> str:
    try:
        told = json.loads(body)["message"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return body.decode("utf-8", "replace")
    return told if isinstance(told, str) else ""
