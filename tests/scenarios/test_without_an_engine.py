"""The real controller as a process of its own, with no engine to talk to."""

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
