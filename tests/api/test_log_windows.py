"""Which stretch of a container's log belongs to one attempt."""

from controller.api.routes_logs import SLACK_S, Window, window_of
from controller.model.ids import ContainerId
from controller.model.instant import Instant, after
from controller.model.session import Attempt

NOW = Instant(1_780_000_000_000_000_000)
HERE, ELSEWHERE = ContainerId("a" * 64), ContainerId("b" * 64)


def _attempt(number: int, *, start_s: float | None, end_s: float | None, container: ContainerId = HERE) -> Attempt:
    return Attempt(
        number=number,
        container=container,
        started_at=None if start_s is None else after(NOW, start_s),
        opened_at=NOW,
        finished_at=None if end_s is None else after(NOW, end_s),
    )


def test_a_program_may_print_a_moment_before_its_engine_says_that_it_started() -> None:
    found = window_of(_attempt(1, start_s=10, end_s=20), None)
    assert found == Window(container=HERE, since=after(NOW, 10 - SLACK_S), until=after(NOW, 20 + SLACK_S))


def test_the_last_words_of_the_attempt_before_are_not_taken_for_its_own() -> None:
    found = window_of(_attempt(2, start_s=10, end_s=None), _attempt(1, start_s=0, end_s=9.5))
    assert (found.since, found.until) == (after(NOW, 9.5), None)


def test_another_containers_end_bounds_nothing() -> None:
    earlier = _attempt(1, start_s=0, end_s=9.5, container=ELSEWHERE)
    assert window_of(_attempt(2, start_s=10, end_s=None), earlier).since == after(NOW, 10 - SLACK_S)


def test_what_never_started_has_no_bounds() -> None:
    assert window_of(_attempt(1, start_s=None, end_s=None), None) == Window(container=HERE)
