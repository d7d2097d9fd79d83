"""A fault proxy in a thread of its own, for tests that wait in the ordinary way."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from anyio.from_thread import BlockingPortal, start_blocking_portal

from tests.support.fault_proxy import FaultProxy, Hold
from tests.support.private_engine import PrivateEngine


class ProxyThread:
    """The proxy, and the way to reach it from another thread."""

    def __init__(self, proxy: FaultProxy, portal: BlockingPortal) -> None:
        self.proxy = proxy
        """Its rule may be set and its requests read from here."""
        self.url = proxy.url
        self._portal = portal

    def release(self, hold: Hold) -> None:
        """Let go on what is held."""
        self._portal.call(hold.release)

    def freeze(self) -> None:
        """Let nothing through, and break nothing."""
        self._portal.call(self.proxy.freeze)

    def thaw(self) -> None:
        """Let everything through again."""
        self._portal.call(self.proxy.thaw)

    def break_all(self) -> None:
        """Break every open connection."""
        self._portal.call(self.proxy.kill_all)

    def inject(self, line: bytes) -> int:
        """Write a line into every open stream under a line fault; gives how many there were."""
        return self._portal.call(self.proxy.inject, line)

    def stop_listening(self) -> None:
        """No socket any more."""
        self._portal.call(self.proxy.stop_listening)

    def listen(self) -> None:
        """The socket is back."""
        self._portal.call(self.proxy.listen)

    def lead_to(self, engine: PrivateEngine) -> None:
        """From now on another engine is behind this address; open connections break."""
        self.proxy.upstream = engine.socket
        self._portal.call(self.proxy.kill_all)


@contextmanager
def proxy_before(engine: PrivateEngine, name: str = "p") -> Iterator[ProxyThread]:
    """A proxy before that engine, on a socket of that name in its folder."""
    listen = Path(engine.folder) / f"{name}.sock"
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(FaultProxy(listen=listen, upstream=engine.socket)) as proxy,
    ):
        yield ProxyThread(proxy, portal)
