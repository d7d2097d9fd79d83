"""Where a real engine has to be there, a test that was skipped for want of one shows nothing: the run fails.

On with AGENTD_REQUIRE_ENGINE=1; loaded by `.ci/run` with `-p tests.support.require_engine`.
"""

import os
from collections.abc import Generator

import pytest

_skipped: list[str] = []


def is_required() -> bool:
    return os.environ.get("AGENTD_REQUIRE_ENGINE", "") not in ("", "0")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if is_required() and report.skipped and item.get_closest_marker("docker") and not hasattr(report, "wasxfail"):
        _skipped.append(item.nodeid)
    return report


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if is_required() and report.skipped and report.nodeid.startswith("tests/docker/"):
        _skipped.append(report.nodeid)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if _skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _skipped:
        terminalreporter.section("skipped, but an engine is required here", red=True)
        for nodeid in _skipped:
            terminalreporter.line(nodeid)
