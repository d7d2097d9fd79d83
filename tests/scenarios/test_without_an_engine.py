"""The real controller as a process of its own, with no engine to talk to."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.controller_process import ControllerProcess, free_port, until


def test_the_password_of_an_engine_that_is_away_is_told_nowhere(tmp_path: Path) -> None:
    controller = ControllerProcess(folder=tmp_path, engine_url=f"http://me:s3cretpw@127.0.0.1:{free_port()}")
    controller.start(wait_ready=False)
    try:
        until(lambda: any(line["event"] == "engine trouble" for line in controller.lines()), what="it says so")
        told = [controller.request("GET", path) for path in ("/readyz", "/healthz")]
        assert [status for status, _ in told] == [503, 503]
        assert all("127.0.0.1" in str(body) for _, body in told)
        assert "s3cretpw" not in str(told) + controller.log.read_text()
    finally:
        controller.kill()


def test_a_log_that_nobody_reads_holds_up_nothing_and_is_said_again_in_the_next_life(tmp_path: Path) -> None:
    controller = ControllerProcess(
        folder=tmp_path, engine_url=f"unix://{tmp_path}/none.sock", shutdown_leave_running="true"
    )
    with a_full_pipe() as full:
        controller.start(wait_ready=False, stdout=full)
        try:
            until(lambda: answers(controller), what="it answers")
            controller.create("one", wait=False)
            assert controller.session("one")["phase"] == "pending"
            began = time.monotonic()
            assert controller.stop() == 0
            assert time.monotonic() - began < 10
            controller.start(wait_ready=False)
            until(lambda: [line for line in controller.lines() if "seq" in line], what="it prints")
            told = [line for line in controller.lines() if "seq" in line]
            assert (told[0]["session"], told[0]["reason"], told[0]["repeated"]) == ("one", "created", True)
        finally:
            controller.kill()


def answers(controller: ControllerProcess) -> bool:
    with suppress(OSError):
        return controller.request("GET", "/livez")[0] == 200
    return False


@contextmanager
def a_full_pipe() -> Iterator[int]:
    """The end to write to; whoever does so waits."""
    reader, writer = os.pipe()
    with os.fdopen(reader), os.fdopen(writer, "w"):
        os.set_blocking(writer, False)
        with suppress(BlockingIOError):
            while True:
                os.write(writer, b"." * 4096)
        os.set_blocking(writer, True)
        yield writer
