"""Agents for the tests of the connection registry: one of busybox in its container, and one in the test itself."""

import base64
import json
import os
import socket
import struct
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from tests.support.controller_process import until
from tests.support.private_engine import PrivateEngine

IDLE = ("/bin/sh", "-c", "trap 'exit 0' TERM; sleep 100000 & wait")
# It connects to the URL that it was given, sends a pong now and then as any client may, and starts anew when it is cut.
AGENT = (
    "/bin/sh",
    "-c",
    """
    trap 'exit 0' TERM
    rest=${AGENTD_WS_URL#ws://}; where=${rest%%/*}; path=/${rest#*/}
    talk() {
        printf 'GET %s HTTP/1.1\\r\\nHost: %s\\r\\n' "$path" "$where"
        printf 'Authorization: Bearer %s\\r\\n' "$AGENTD_SESSION_TOKEN"
        printf 'Upgrade: websocket\\r\\nConnection: Upgrade\\r\\nSec-WebSocket-Version: 13\\r\\n'
        printf 'Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\\r\\n\\r\\n'
        while sleep 2; do printf '\\212\\200\\0\\0\\0\\0' || exit; done
    }
    while :; do talk | nc ${where%:*} ${where##*:} | head -c 300; echo; sleep 0.2; done & wait
    """,
)


def environment_of(engine: PrivateEngine, session: str) -> dict[str, str]:
    """What the session's container has in its environment."""
    told = json.loads(engine.cli("inspect", "--format", "{{json .Config.Env}}", f"agentd-{session}"))
    return dict(line.split("=", 1) for line in told)


class Agent:
    """A WebSocket client that only ever connects and, if told to, answers pings. Close it."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self.socket = socket.create_connection((parts.hostname, parts.port or 80), timeout=10)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {token}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        head = b""
        while b"\r\n\r\n" not in head and (more := self.socket.recv(1)):
            head += more
        self.status = int(head.split()[1]) if head else 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def send_text(self, text: str) -> None:
        """One message."""
        self.socket.sendall(_frame(0x1, text.encode()))

    def pong(self) -> None:
        """Say that it lives."""
        self.socket.sendall(_frame(0xA, b""))

    def close_code(self) -> int:
        """The code of the close frame that comes; 0 when the connection just ends."""
        data = b""
        while more := self.socket.recv(4096):
            data += more
            for at in range(len(data) - 3):
                if data[at] == 0x88:
                    return int(struct.unpack("!H", data[at + 2 : at + 4])[0])
        return 0

    def close(self) -> None:
        """Gone, without a word."""
        self.socket.close()


def connect(url: str, token: str) -> Agent:
    """An agent that is let in, as soon as the controller listens."""

    def tried() -> Agent | None:
        try:
            return Agent(url, token)
        except OSError:
            return None

    agent = until(tried, what=f"somebody listens at {url}")
    assert agent is not None
    assert agent.status == 101, agent.status
    return agent


def _frame(opcode: int, payload: bytes) -> bytes:
    return bytes((0x80 | opcode, 0x80 | len(payload))) + b"\0\0\0\0" + payload
