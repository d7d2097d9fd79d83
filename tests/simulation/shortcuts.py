"""What the program is lent while a world is played, because it asks for it all the time: the same answers, sooner.

Nothing here changes what the program does. `dataclasses.replace` calls an `__init__` of up to forty fields; the model's
own do nothing but keep them, so a copy that is given the values is the same, in a fifth of the time. And each life and
each judge reads again what the ledger holds: the same text is the same value, which nobody changes.
"""

import dataclasses
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final, TypeVar

from controller.store.codec import Codec

T = TypeVar("T")
_PACKAGE: Final = "controller"
_TEXTS_KEPT: Final = 512


def replaced(value: T, /, **changes: Any) -> T:
    """`dataclasses.replace`, for a class that is made of its fields alone."""
    kind: Any = type(value)
    if not changes.keys() <= kind.__dataclass_fields__.keys():
        raise TypeError(f"{kind.__name__} has no {sorted(changes.keys() - kind.__dataclass_fields__.keys())}")
    copy = object.__new__(kind)
    copy.__dict__.update(value.__dict__)
    copy.__dict__.update(changes)
    return copy  # type: ignore[no-any-return]


@contextmanager
def lent() -> Iterator[None]:
    """For the length of a world."""
    borrowers = [
        vars(module)
        for name, module in sys.modules.items()
        if name.partition(".")[0] == _PACKAGE and vars(module).get("replace") is dataclasses.replace
    ]
    from_text = Codec.from_text
    for names in borrowers:
        names["replace"] = replaced
    Codec.from_text = lru_cache(_TEXTS_KEPT)(from_text)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for names in borrowers:
            names["replace"] = dataclasses.replace
        Codec.from_text = from_text  # type: ignore[method-assign]
