"""What `make test` can show without root: a session's whole life on the engine that the user has.

Under a prefix of its own, so that nothing else on that engine is touched. Root tries the same on a private engine.
"""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from tests.support.compose_stage import until

pytestmark = pytest.mark.docker


def docker(url: str, *arguments: str, given: bytes | None = None) -> str:
    done = subprocess.run(["docker", "-H", url, *arguments], input=given, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode().strip()


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    if os.geteuid() == 0:
        return str(request.getfixturevalue("engine").url)
    found = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if shutil.which("docker") is None:
        pytest.skip("docker is not installed")
    if subprocess.run(["docker", "-H", found, "version"], capture_output=True, timeout=20, check=False).returncode:
        pytest.skip(f"no engine that this user may use at {found}")
    return found


@pytest.fixture
def prefix() -> str:
    return f"agentd-test-{secrets.token_hex(3)}"


@pytest.fixture
def image(url: str, prefix: str) -> Iterator[str]:
    busybox = shutil.which("busybox")
    # A program that names a loader is not static, and would not run alone in an image.
    if busybox is None or b"/ld-linux" in Path(busybox).read_bytes()[:4096]:
        pytest.skip("no static busybox to make an image of")
    packed = BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(busybox, arcname="bin/busybox")
    docker(url, "import", "-", f"{prefix}:test", given=packed.getvalue())
    yield f"{prefix}:test"
    docker(url, "image", "rm", "--force", f"{prefix}:test")


class Controller:
    """The real program in a process of its own."""

    def __init__(self, *, url: str, prefix: str, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("AGENTD_", "DOCKER_"))}
        self.environment = kept | {
            "DOCKER_HOST": url,
            "AGENTD_PREFIX": prefix,
            "AGENTD_DB": str(folder / "controller.db"),
            "AGENTD_PORT": str(port),
            "AGENTD_STOP_GRACE_S": "1",
        }
        self._log = (folder / "log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "controller", "run"], env=self.environment, stdout=self._log, stderr=self._log
        )
        self.log = folder / "log"

    def agentdctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "controller", *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60, check=False)

    def items(self, *arguments: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.agentdctl(*arguments, "--format", "json").stdout.splitlines()]

    def end(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=40)
        self._log.close()
        return code


@pytest.fixture
def controller(url: str, prefix: str, tmp_path: Path) -> Iterator[Controller]:
    running = Controller(url=url, prefix=prefix, folder=tmp_path)
    try:
        until(lambda: running.agentdctl("healthcheck").returncode == 0, what="the controller is ready")
        yield running
    finally:
        running.process.kill()
        running.process.wait()
        running._log.close()
        left = docker(url, "ps", "--all", "--quiet", "--filter", f"label=agentd.prefix={prefix}").split()
        if left:
            docker(url, "rm", "--force", *left)


def test_a_session_lives_and_ends_on_the_users_engine(
    url: str, prefix: str, image: str, controller: Controller
) -> None:
    made = controller.agentdctl("create", "trial", "--image", image, "--", "/bin/busybox", "sleep", "600")
    assert made.returncode == 0, made.stderr + controller.log.read_text()
    assert docker(url, "ps", "--quiet", "--filter", f"name={prefix}-trial")
    assert [(session["name"], session["phase"]) for session in controller.items("ps")] == [("trial", "running")]

    assert controller.agentdctl("stop", "trial").returncode == 0
    ends = [row for row in controller.items("timeline", "trial") if row["to"] == "stopped"]
    assert ends[0]["reason"] == "stopped_by_request"

    assert controller.agentdctl("rm", "trial").returncode == 0
    assert docker(url, "ps", "--all", "--quiet", "--filter", f"label=agentd.prefix={prefix}") == ""
    assert controller.end() == 0
