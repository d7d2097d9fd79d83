"""The model as JSON text, and back, exactly.

One pydantic adapter for each kind of record, made once at import from the model's own annotations, so that no field is
named twice. Used by the statements on the way in and by the reader on the way out. It must never lose or invent a
value: what was committed is what is read, except that lone surrogates, which are no text, become U+FFFD.
"""

import re
from typing import Annotated, Final, Generic, TypeVar

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from controller.errors import LedgerError
from controller.model.action import Action
from controller.model.journal import Evidence, JournalDraft
from controller.model.observation import Observation
from controller.model.session import Attempt, Session

T = TypeVar("T")

_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class Codec(Generic[T]):
    """One kind of record."""

    def __init__(self, what: str, adapter: TypeAdapter[T]) -> None:
        self._what = what
        self._adapter = adapter

    def to_text(self, value: T) -> str:
        """Compact JSON."""
        try:
            return self._adapter.dump_json(value).decode()
        except (PydanticSerializationError, UnicodeEncodeError):
            return to_json(_cleaned(self._adapter.dump_python(value))).decode()

    def from_text(self, text: str) -> T:
        """The value that was written. Raises LedgerError when this program cannot read it."""
        try:
            return self._adapter.validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            raise LedgerError(
                f"the ledger holds a {self._what} that cannot be read: {place}: {first['msg']}"
            ) from error


def text_of(text: str) -> str:
    """Text that SQLite can bind: lone surrogates, which a hostile label can carry, replaced."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def _cleaned(value: object) -> object:
    if isinstance(value, str):
        return text_of(value)
    if isinstance(value, dict):
        return {_cleaned(key): _cleaned(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_cleaned(inner) for inner in value]
    return value


SESSION: Final = Codec("session", TypeAdapter(Session))
ATTEMPT: Final = Codec("attempt", TypeAdapter(Attempt))
ACTION: Final = Codec("action", TypeAdapter(Action))
EVIDENCE: Final = Codec("piece of evidence", TypeAdapter(Evidence))
DRAFT: Final = Codec("journal row", TypeAdapter(JournalDraft))
OBSERVATION: Final[Codec[Observation]] = Codec(
    "observation", TypeAdapter(Annotated[Observation, Field(discriminator="kind")])
)
