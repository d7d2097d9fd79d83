"""What goes into the ledger comes out of it, exactly."""

from collections.abc import Mapping
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from controller.errors import LedgerError
from controller.model.action import Action
from controller.model.journal import Evidence, JournalDraft
from controller.model.observation import (
    ConnectionChanged,
    ContainerAbsent,
    ContainerAdmitted,
    ContainerSeen,
    ControllerStarted,
    ControllerStopping,
    DeadlineReached,
    EngineLost,
    EventSeen,
    Observation,
    OutcomeSeen,
    SessionRequested,
    VerbRequested,
)
from controller.model.session import Attempt, Session
from controller.store import codec
from controller.store.codec import Codec
from tests.store.records import session

T = TypeVar("T")

# The model's mappings are plain dicts wherever they are made.
st.register_type_strategy(Mapping, lambda _: st.dictionaries(st.text(), st.text(), max_size=3))
st.register_type_strategy(float, st.floats(allow_nan=False, allow_infinity=False))
relaxed = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)


def back(kind: Codec[T], value: T) -> T:
    return kind.from_text(kind.to_text(value))


@relaxed
@given(st.from_type(Session))
def test_a_session_comes_back_as_it_was(value: Session) -> None:
    assert back(codec.SESSION, value) == value


@relaxed
@given(st.one_of(st.from_type(Attempt)))
def test_an_attempt_comes_back_as_it_was(value: Attempt) -> None:
    assert back(codec.ATTEMPT, value) == value


@relaxed
@given(st.from_type(Action))
def test_an_action_comes_back_as_it_was(value: Action) -> None:
    assert back(codec.ACTION, value) == value


@relaxed
@given(st.from_type(Evidence))
def test_evidence_comes_back_as_it_was(value: Evidence) -> None:
    assert back(codec.EVIDENCE, value) == value


@relaxed
@given(st.from_type(JournalDraft))
def test_a_journal_row_comes_back_as_it_was(value: JournalDraft) -> None:
    assert back(codec.DRAFT, value) == value


@pytest.mark.parametrize(
    "kind",
    [
        EventSeen,
        ContainerSeen,
        ContainerAbsent,
        ContainerAdmitted,
        SessionRequested,
        VerbRequested,
        OutcomeSeen,
        DeadlineReached,
        ControllerStarted,
        ControllerStopping,
        EngineLost,
        ConnectionChanged,
    ],
)
@settings(relaxed, max_examples=30)
@given(data=st.data())
def test_an_observation_comes_back_as_the_kind_it_was(kind: type[Observation], data: st.DataObject) -> None:
    value = data.draw(st.from_type(kind))
    assert back(codec.OBSERVATION, value) == value


def test_every_kind_of_observation_is_tried_above() -> None:
    tried = next(mark for mark in test_an_observation_comes_back_as_the_kind_it_was.pytestmark).args[1]
    assert set(tried) == set(Observation.__args__)


def test_lone_surrogates_become_the_replacement_sign() -> None:
    hostile = session("alpha", session_id="s1").__class__(**{**vars(session("alpha")), "message": "a\ud800b\0c\x1b"})
    assert back(codec.SESSION, hostile).message == "a\ufffdb\0c\x1b"


def test_text_that_no_longer_fits_the_model_is_refused_in_one_line() -> None:
    with pytest.raises(LedgerError, match=r"a session that cannot be read: phase: Input should be") as refused:
        codec.SESSION.from_text(codec.SESSION.to_text(session()).replace('"phase":"running"', '"phase":"dancing"'))
    assert "\n" not in str(refused.value)
