"""What the program is lent for speed answers as the original does."""

import dataclasses
import sys
from typing import Any

import pytest

from controller.core import draft
from controller.model.session import Session
from controller.store.codec import ACTION, DRAFT, EVIDENCE, OBSERVATION, SESSION, Codec
from tests.simulation.playing import run_seed
from tests.simulation.shortcuts import lent, replaced

FIELDS_ONLY = ("__post_init__", "__slots__")


def _model_classes() -> list[type]:
    return [
        one
        for name, module in sys.modules.items()
        if name.startswith("controller.")
        for one in vars(module).values()
        if isinstance(one, type) and dataclasses.is_dataclass(one) and one.__module__ == name
    ]


def test_every_dataclass_of_the_program_is_made_of_its_fields_alone() -> None:
    kinds = _model_classes()
    assert Session in kinds
    for kind in kinds:
        assert not [name for name in FIELDS_ONLY if hasattr(kind, name)], kind
        assert all(field.init for field in dataclasses.fields(kind)), kind


def test_a_changed_copy_is_the_one_that_dataclasses_would_make() -> None:
    world = run_seed("1")
    assert world.last_sessions
    for session in world.last_sessions:
        changed = {"action_count": session.action_count + 1, "name": "other", "attempt": None}
        assert replaced(session, **changed) == dataclasses.replace(session, **changed)  # type: ignore[arg-type]
        assert replaced(session) == session
        assert replaced(session) is not session
        with pytest.raises(TypeError, match="nothing_of_it"):
            replaced(session, nothing_of_it=1)


def test_nobody_changes_a_value_that_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[Codec[Any], str, object]] = []
    from_text = Codec.from_text

    def noted(codec: Codec[Any], text: str) -> object:
        value = from_text(codec, text)
        read.append((codec, text, value))
        return value

    monkeypatch.setattr(Codec, "from_text", noted)
    assert not any(run_seed(seed).violations for seed in ("1", "3", "5"))
    assert {codec for codec, _, _ in read} >= {SESSION, ACTION, DRAFT, EVIDENCE, OBSERVATION}
    assert all(from_text(codec, text) == value for codec, text, value in read)


def test_they_are_given_back() -> None:
    read = Codec.from_text
    with lent():
        assert vars(draft)["replace"] is replaced
        assert Codec.from_text is not read
    assert vars(draft)["replace"] is dataclasses.replace
    assert Codec.from_text is read
