"""What the soak complains about, with what a controller may have held: a leak is found, and nothing else is."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.docker.growth import JUDGED_MIN_S, TASKS_AT_REST_MAX, WARM_UP_S, Sample, judge_growth

STEADY_S = 300
"""Of a soak of ten minutes."""


def samples(
    rss_mib: Callable[[int], float], *, tasks: Callable[[int], int] = lambda _: 17, length_s: int = STEADY_S
) -> list[Sample]:
    """One a second, at rest once a minute."""
    return [
        Sample(
            life=7,
            at_s=300.0 + second,
            sessions=second,
            steady=True,
            at_rest=second % 60 == 0,
            rss_mib=rss_mib(second),
            files=40,
            threads=3,
            tasks=tasks(second),
        )
        for second in range(length_s + 1)
    ]


def flat(_: int) -> float:
    return 68.0


def test_a_life_that_holds_what_it_held_is_well() -> None:
    figures, complaints = judge_growth(samples(flat))
    assert not complaints
    assert figures["rss_grown_mib"] == 0.0


def test_what_settles_in_the_warm_up_is_no_growth() -> None:
    assert not judge_growth(samples(lambda second: 50.0 + min(second, WARM_UP_S) / 3))[1]


def test_a_peak_is_no_growth() -> None:
    assert not judge_growth(samples(lambda second: 168.0 if 200 < second < 230 else 68.0))[1]


@pytest.mark.parametrize("kib_per_s", [40, 400])
def test_a_leak_is_found_in_ten_minutes(kib_per_s: int) -> None:
    complaints = judge_growth(samples(lambda second: 68.0 + second * kib_per_s / 1024))[1]
    assert ["memory grew" in one for one in complaints] == [True]


def test_a_small_leak_is_found_in_two_hours() -> None:
    complaints = judge_growth(samples(lambda second: 68.0 + 45.0 * second / 3600, length_s=3600))[1]
    assert ["memory grew" in one for one in complaints] == [True]


def test_the_lives_that_are_killed_are_not_compared() -> None:
    killed = [replace(one, steady=False, life=one.life - 1) for one in samples(lambda second: 20.0 + second)]
    assert not judge_growth([*killed, *samples(flat)])[1]


def test_a_run_that_is_too_short_says_that_memory_was_not_judged() -> None:
    figures, _ = judge_growth(samples(lambda second: 68.0 + second, length_s=int(WARM_UP_S + JUDGED_MIN_S - 1)))
    assert figures["rss_grown_mib"] is None


@pytest.mark.parametrize("tasks", [lambda second: 17 + second // 60 * 2, lambda _: TASKS_AT_REST_MAX + 1])
def test_tasks_that_stay_behind_are_found(tasks: Callable[[int], int]) -> None:
    complaints = judge_growth(samples(flat, tasks=tasks))[1]
    assert ["tasks at rest" in one for one in complaints] == [True]


def test_more_tasks_under_load_are_no_leak() -> None:
    assert not judge_growth(samples(flat, tasks=lambda second: 17 if second % 60 == 0 else 90))[1]
