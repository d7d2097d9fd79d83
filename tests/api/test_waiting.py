"""When a verb has come true, by the session before and after it."""

from dataclasses import replace

import pytest

from controller.api.waiting import creation_settled, is_settled
from controller.model.container import ContainerFacts
from controller.model.ids import ContainerId, SessionId
from controller.model.instant import Instant, after
from controller.model.observation import Verb
from controller.model.phase import Phase
from controller.model.session import Session
from tests.api.world import a_session

NOW = Instant(1_780_000_000_000_000_000)
START = a_session("alpha", now=NOW)


def _at(phase: Phase, *, attempt: int = 1, later_s: float = 0, again: bool = False) -> Session:
    since = after(NOW, later_s)
    return replace(START, phase=phase, attempt_count=attempt, since=since, restart_wanted=again)


@pytest.mark.parametrize(
    ("verb", "before", "now", "settled"),
    [
        (Verb.START, _at(Phase.STOPPED), _at(Phase.STOPPED), False),
        (Verb.START, _at(Phase.STOPPED), _at(Phase.STARTING, later_s=1), False),
        (Verb.START, _at(Phase.STOPPED), _at(Phase.RUNNING, attempt=2, later_s=1), True),
        (Verb.START, _at(Phase.PENDING), _at(Phase.RUNNING, attempt=1, later_s=1), True),
        (Verb.START, _at(Phase.RUNNING), _at(Phase.RUNNING), True),
        (Verb.START, _at(Phase.FAILED), _at(Phase.FAILED, later_s=1), True),
        (Verb.START, _at(Phase.STOPPED), _at(Phase.STOPPED, attempt=2, later_s=2), True),
        (Verb.START, _at(Phase.STOPPED), _at(Phase.BACKOFF, attempt=2, later_s=2), True),
        (Verb.START, _at(Phase.STOPPING), _at(Phase.STOPPED, later_s=1, again=True), False),
        (Verb.START, _at(Phase.STOPPING), _at(Phase.RUNNING, later_s=1), False),
        (Verb.START, _at(Phase.STOPPING), _at(Phase.RUNNING, attempt=2, later_s=1), True),
        (Verb.STOP, _at(Phase.RUNNING), _at(Phase.STOPPING, later_s=1), False),
        (Verb.STOP, _at(Phase.RUNNING), _at(Phase.STOPPED, later_s=1), True),
        (Verb.STOP, _at(Phase.RUNNING), _at(Phase.BACKOFF, later_s=1), False),
        (Verb.STOP, _at(Phase.FAILED), _at(Phase.FAILED), True),
        (Verb.RESTART, _at(Phase.RUNNING), _at(Phase.RUNNING), False),
        (Verb.RESTART, _at(Phase.RUNNING), _at(Phase.STOPPED, later_s=1, again=True), False),
        (Verb.RESTART, _at(Phase.RUNNING), _at(Phase.RUNNING, attempt=2, later_s=2), True),
        (Verb.RESTART, _at(Phase.RUNNING), _at(Phase.FAILED, later_s=2), True),
        (Verb.RESTART, _at(Phase.STOPPED), _at(Phase.RUNNING, attempt=2, later_s=2), True),
        (Verb.REMOVE, _at(Phase.RUNNING), _at(Phase.STOPPED, later_s=1), False),
        (Verb.REMOVE, _at(Phase.STOPPED), replace(START, removed_at=NOW), True),
        (Verb.REMOVE, _at(Phase.STOPPED), replace(START, id=SessionId("another")), True),
        (Verb.RENEW, _at(Phase.RUNNING), _at(Phase.RUNNING), True),
    ],
)
def test_a_verb_has_come_true(verb: Verb, before: Session, now: Session, *, settled: bool) -> None:
    assert is_settled(verb, before=before, now=now) is settled


@pytest.mark.parametrize(
    ("now", "start", "settled"),
    [
        (_at(Phase.PENDING), True, False),
        (_at(Phase.STARTING), True, False),
        (_at(Phase.RUNNING), True, True),
        (_at(Phase.FAILED), True, True),
        (_at(Phase.PENDING), False, False),
        (replace(START, container=ContainerFacts(id=ContainerId("c"), name="c", image="i")), False, True),
        (_at(Phase.FAILED), False, True),
    ],
)
def test_a_creation_has_come_true(now: Session, *, start: bool, settled: bool) -> None:
    assert creation_settled(now, start=start) is settled
