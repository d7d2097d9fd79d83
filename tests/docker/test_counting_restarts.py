"""The count of restarts that the kill cycles are judged by finds what is too much and what is missing."""

from collections.abc import Sequence

import pytest

from tests.support.restart_count import RestartCount, count_restarts
from tests.support.stream_oracle import Happening, Stretch

S = 1_000_000_000
SCHEDULE = (0, 12, 34, 78)
"""When a session is started that fails after a second and may be restarted three times."""


def told(starts: Sequence[int], *, exit_code: int = 3) -> list[Happening]:
    found = []
    for at in starts:
        found.append(happening("start", at))
        found.append(happening("die", at + 1, exitCode=str(exit_code)))
    return found


def happening(action: str, at: int, **attributes: str) -> Happening:
    return Happening(container="c" * 64, action=action, at=at * S, attributes={"name": "agentd-flap", **attributes})


def counted(happened: list[Happening], *deaf: Stretch, now: int = 1_000) -> RestartCount:
    return count_restarts(happened, deaf, containers=["agentd-flap"], granted=3, now=now * S)


def test_a_schedule_by_the_book_is_right() -> None:
    assert counted(told(SCHEDULE)) == RestartCount(counted=3)


def test_one_start_too_many_is_extra() -> None:
    assert len(counted(told([*SCHEDULE, 200])).extra) == 1


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_restart_that_never_comes_is_forgotten(count: int) -> None:
    assert len(counted(told(SCHEDULE[:count])).forgotten) == 1


def test_a_restart_that_comes_much_too_late_was_forgotten() -> None:
    assert len(counted(told((0, 300, 320, 360))).forgotten) == 1


def test_a_restart_that_is_not_due_yet_is_not_forgotten() -> None:
    assert counted(told(SCHEDULE[:3]), now=80).forgotten == []


def test_where_the_oracle_was_deaf_nothing_is_forgotten() -> None:
    assert counted(told(SCHEDULE[:3]), Stretch(begin=60 * S, end=70 * S)).forgotten == []


def test_what_ended_well_or_by_a_signal_is_owed_nothing() -> None:
    assert counted(told([0], exit_code=0)).forgotten == []
    assert counted(told([0], exit_code=137)).forgotten == []
