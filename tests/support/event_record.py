"""Everything that an engine says of its containers while a test runs: what really happened to them."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.support.controller_process import until
from tests.support.private_engine import BUSYBOX_IMAGE, PrivateEngine


@dataclass(frozen=True, kw_only=True)
class Happened:
    """One event."""

    action: str
    container: str
    name: str
    at: int
    """Nanoseconds."""
    attributes: dict[str, str]


class EventRecord:
    """Listens from its start to its end, so that the engine's short memory does not matter."""

    def __init__(self, engine: PrivateEngine) -> None:
        self._engine = engine
        self._path = engine.folder / "events.json"
        self._marks = 0

    def __enter__(self) -> Self:
        with self._path.open("wb") as sink:
            self._process = subprocess.Popen(
                ["docker", "-H", self._engine.url, "events", "--filter", "type=container", "--format", "{{json .}}"],
                stdout=sink,
                stdin=subprocess.DEVNULL,
            )
        until(self._hears, what="the record of events is open")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()

    def so_far(self, *actions: str, container: str = "") -> list[Happened]:
        """All until now, or only these actions, or only of that container (by id or name)."""
        mark = self._mark()
        until(lambda: mark in self._path.read_text(), what="the record of events is complete")
        found = [_event(json.loads(line)) for line in self._path.read_text().splitlines() if line.endswith("}")]
        return [
            one
            for one in found
            if not one.name.startswith("mark-")
            and (not actions or one.action in actions)
            and (not container or container in (one.container, one.name))
        ]

    def _hears(self) -> bool:
        mark = self._mark()
        try:
            until(lambda: mark in self._path.read_text(), what="an event", timeout_s=1)
        except AssertionError:
            return False
        return True

    def _mark(self) -> str:
        self._marks += 1
        name = f"mark-{self._marks}-"
        self._engine.cli("create", "--name", name, "--network", "none", BUSYBOX_IMAGE)
        self._engine.cli("rm", name)
        return f'"name":"{name}"'


def names(happened: Sequence[Happened]) -> set[str]:
    """Of the containers that something happened to."""
    return {one.name for one in happened}


def _event(told: dict[str, object]) -> Happened:
    actor = told["Actor"]
    assert isinstance(actor, dict)
    attributes = actor["Attributes"]
    time_ns = told["timeNano"]
    assert isinstance(time_ns, int)
    return Happened(
        action=str(told["Action"]),
        container=str(actor["ID"]),
        name=str(attributes.get("name", "")),
        at=time_ns,
        attributes=attributes,
    )
