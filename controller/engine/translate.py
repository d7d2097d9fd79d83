"""An engine's JSON into our model: list rows, inspects, events, `/info` and `/version`. Pure, and total.

The only module that knows the shapes of Docker Engine 20.10 to 29 and of Podman. It never raises: what cannot be read
at all is None (or a BadLine), an unknown word is UNKNOWN, a missing fact is absent. It never keeps an environment.
"""

import hashlib
import json
import re
import signal
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeVar

from controller.engine.cleaning import brief, whole_characters
from controller.engine.masking import masked
from controller.interfaces import BadLine
from controller.model.container import (
    ContainerFacts,
    ContainerState,
    EngineEvent,
    EngineInfo,
    EngineRestart,
    EventAction,
    ListedContainer,
    ProbeResult,
    Snapshot,
)
from controller.model.ids import ContainerId, EngineId
from controller.model.instant import NANOS_PER_S, Instant, from_rfc3339
from controller.model.phase import Health
from controller.model.sketch import SessionExitInfo

PODMAN: Final = "podman"
DOCKER: Final = "docker"
NOT_JSON: Final = BadLine(why="not json")
NOT_AN_EVENT: Final = BadLine(why="not an event")

_INT64_MAX: Final = 2**63 - 1
_EXIT_CODE_MAX: Final = 2**32
_PROBES_KEPT: Final = 5
_PROBE_OUTPUT_MAX_CHARS: Final = 4096
_ENDED_TEXT: Final = re.compile(r"(?:Exited|Dead|Restarting) \((-?\d{1,10})\)")
_HEALTH_TEXT: Final = re.compile(r"^Up .*\((healthy|unhealthy|health: starting)\)")
_STATE_ALIASES: Final = {
    "stopped": ContainerState.EXITED,
    "configured": ContainerState.CREATED,
    "initialized": ContainerState.CREATED,
}
"""Podman's own words, where they slip through its Docker API."""
_ACTION_ALIASES: Final = {"died": EventAction.DIE, "remove": EventAction.DESTROY}
_SHOWN_ELSEWHERE: Final = frozenset({"name", "image"})

_Word = TypeVar("_Word", bound=StrEnum)


# --- junk into typed pieces ------------------------------------------------------------------------------------


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _items(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str:
    return whole_characters(value) if isinstance(value, str) else ""


def _integer(value: object, *, low: int = 0, high: int = _INT64_MAX) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,19}", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        return None
    return value


def _texts(value: object) -> dict[str, str]:
    return {_text(key): _text(item) for key, item in _mapping(value).items() if isinstance(item, str)}


def _word(kind: type[_Word], value: object, otherwise: _Word) -> _Word:
    try:
        return kind(_text(value).lower())
    except ValueError:
        return otherwise


def _state(value: object) -> ContainerState:
    return _STATE_ALIASES.get(_text(value).lower()) or _word(ContainerState, value, ContainerState.UNKNOWN)


def _exit_code(value: object) -> int | None:
    return _integer(value, low=-_EXIT_CODE_MAX, high=_EXIT_CODE_MAX)


def _instant(value: object) -> Instant | None:
    instant = from_rfc3339(_text(value))
    return instant if instant is not None and instant <= _INT64_MAX else None


def _seconds(value: object) -> Instant | None:
    seconds = _integer(value, low=1, high=_INT64_MAX // NANOS_PER_S)
    return None if seconds is None else Instant(seconds * NANOS_PER_S)


# --- inspect ---------------------------------------------------------------------------------------------------


def snapshot(raw: object) -> Snapshot | None:
    """One inspect; None when it is not one."""
    top = _mapping(raw)
    state_json = _mapping(top.get("State"))
    container, state = _text(top.get("Id")), _state(state_json.get("Status"))
    if not container or not state_json:
        return None
    facts = _facts(top, ContainerId(container))
    ended = state in (ContainerState.EXITED, ContainerState.DEAD, ContainerState.RESTARTING)
    return Snapshot(
        facts=facts,
        state=state,
        started_at=_instant(state_json.get("StartedAt")),
        finished_at=_instant(state_json.get("FinishedAt")),
        exit_code=_exit_code(state_json.get("ExitCode")) if ended else None,
        oom_killed=state_json.get("OOMKilled") is True,
        # Once a removal has begun it is what that failed for, and says nothing of how it ended.
        error="" if state in (ContainerState.REMOVING, ContainerState.DEAD) else brief(_text(state_json.get("Error"))),
        health=_inspected_health(state, _health_json(state_json), has_probe=facts.has_probe),
        probes=_probes(_health_json(state_json)),
        restart_count=_integer(top.get("RestartCount")) or 0,
    )


def exit_info(raw: object) -> SessionExitInfo | None:
    """How the inspected container ended; None while it runs, and when it was merely created.

    A container whose start failed is still `created` to its engine, but carries the error and a code.
    """
    state_json = _mapping(_mapping(raw).get("State"))
    state, error = _state(state_json.get("Status")), brief(_text(state_json.get("Error")))
    code = _exit_code(state_json.get("ExitCode"))
    has_ended = state in (ContainerState.EXITED, ContainerState.DEAD) or (state is ContainerState.CREATED and error)
    if code is None or not has_ended:
        return None
    return SessionExitInfo(
        exit_code=code,
        oom_killed=state_json.get("OOMKilled") is True,
        error=error,
        finished_at=_instant(state_json.get("FinishedAt")),
    )


def _facts(top: Mapping[str, object], container: ContainerId) -> ContainerFacts:
    config, host = _mapping(top.get("Config")), _mapping(top.get("HostConfig"))
    policy = _mapping(host.get("RestartPolicy"))
    return ContainerFacts(
        id=container,
        name=_text(top.get("Name")).removeprefix("/"),
        image=_text(config.get("Image")) or _text(top.get("Image")),
        labels=_texts(config.get("Labels")),
        created_at=_instant(top.get("Created")),
        engine_restart=_word(EngineRestart, policy.get("Name"), EngineRestart.NO),
        engine_restart_limit=_integer(policy.get("MaximumRetryCount")) or 0,
        auto_remove=host.get("AutoRemove") is True,
        memory_limit_bytes=_integer(host.get("Memory")) or 0,
        has_probe=_has_probe(config, _mapping(top.get("State"))),
    )


def _has_probe(config: Mapping[str, object], state_json: Mapping[str, object]) -> bool:
    test = _items(_mapping(config.get("Healthcheck")).get("Test"))
    if test:
        return test[0] != "NONE"
    return _text(_health_json(state_json).get("Status")) not in ("", "none")


def _health_json(state_json: Mapping[str, object]) -> Mapping[str, object]:
    return _mapping(state_json.get("Health")) or _mapping(state_json.get("Healthcheck"))


def _inspected_health(state: ContainerState, health: Mapping[str, object], *, has_probe: bool) -> Health:
    # Engines call every stopped or paused container with a probe unhealthy, and a paused one is not probed.
    if state is not ContainerState.RUNNING:
        return Health.UNKNOWN
    if not _text(health.get("Status")):
        return Health.UNKNOWN if has_probe else Health.NONE
    return _word(Health, health.get("Status"), Health.UNKNOWN)


def _probes(health: Mapping[str, object]) -> tuple[ProbeResult, ...]:
    results = [_mapping(item) for item in _items(health.get("Log"))[-_PROBES_KEPT:]]
    return tuple(
        ProbeResult(
            started_at=_instant(result.get("Start")),
            exit_code=code,
            output=masked(_text(result.get("Output"))[:_PROBE_OUTPUT_MAX_CHARS]),
        )
        for result in results
        if (code := _exit_code(result.get("ExitCode"))) is not None
    )


# --- list ------------------------------------------------------------------------------------------------------


def listed(raw: object) -> ListedContainer | None:
    """One row of a list; None when it is not one."""
    row = _mapping(raw)
    container, status = _text(row.get("Id")), _text(row.get("Status"))
    if not container or "State" not in row:
        return None
    state = _state(row.get("State"))
    ended = _ENDED_TEXT.match(status)
    return ListedContainer(
        id=ContainerId(container),
        name=_listed_name(row.get("Names")),
        image=_text(row.get("Image")),
        labels=_texts(row.get("Labels")),
        state=state,
        created_at=_seconds(row.get("Created")),
        exit_code=_exit_code(ended[1]) if ended else None,
        health=_listed_health(state, row, status),
    )


def _listed_name(value: object) -> str:
    names = [name.removeprefix("/") for item in _items(value) if (name := _text(item))]
    # A linked container is listed under `other/alias` too; its own name holds no slash.
    return next((name for name in names if "/" not in name), "")


def _listed_health(state: ContainerState, row: Mapping[str, object], status: str) -> Health:
    if state is not ContainerState.RUNNING:
        return Health.UNKNOWN
    told = _text(_mapping(row.get("Health")).get("Status"))  # Engine 29 and later
    if told:
        return _word(Health, told, Health.UNKNOWN)
    found = _HEALTH_TEXT.search(status)
    return _word(Health, found[1].removeprefix("health: "), Health.UNKNOWN) if found else Health.UNKNOWN


# --- events ----------------------------------------------------------------------------------------------------


def event_line(line: bytes) -> EngineEvent | BadLine | None:
    """One line of the event stream; None for what does not concern us, of which nothing is kept."""
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError):
        return NOT_JSON
    return event(raw)


def event(raw: object) -> EngineEvent | BadLine | None:
    """One event object, with or without the old `status`, `id` and `from`."""
    if not isinstance(raw, Mapping):
        return NOT_JSON
    actor = _mapping(raw.get("Actor"))
    told = _text(raw.get("Action")) or _text(raw.get("status"))
    if not told:
        return NOT_AN_EVENT
    action = _action(told)
    if action is None or raw.get("Type", "container") != "container":
        return None
    container = _text(actor.get("ID")) or _text(raw.get("id"))
    at = _integer(raw.get("timeNano"), low=1)
    at = _seconds(raw.get("time")) if at is None else Instant(at)
    if not container or at is None:
        return NOT_AN_EVENT
    attributes = _texts(actor.get("Attributes"))
    return EngineEvent(
        container=ContainerId(container),
        action=action,
        at=at,
        name=attributes.get("name", "").removeprefix("/"),
        image=attributes.get("image", ""),
        attributes={key: value for key, value in attributes.items() if key not in _SHOWN_ELSEWHERE},
        exit_code=_event_exit_code(attributes) if action is EventAction.DIE else None,
        signal=_event_signal(attributes) if action is EventAction.KILL else None,
        health=_event_health(raw, told) if action is EventAction.HEALTH else None,
        old_name=attributes.get("oldName", "").removeprefix("/") if action is EventAction.RENAME else "",
    )


def _action(told: str) -> EventAction | None:
    name = told.partition(":")[0].strip()
    if name in _ACTION_ALIASES:
        return _ACTION_ALIASES[name]
    try:
        return EventAction(name)
    except ValueError:
        return None


def _event_exit_code(attributes: Mapping[str, str]) -> int | None:
    return _exit_code(attributes.get("exitCode", attributes.get("containerExitCode")))


def _event_signal(attributes: Mapping[str, str]) -> int | None:
    told = attributes.get("signal", "")
    number = _integer(told, low=1, high=64)
    if number is not None:
        return number
    known = signal.Signals.__members__.get("SIG" + told.upper().removeprefix("SIG"))
    return None if known is None else known.value


def _event_health(raw: Mapping[str, object], told: str) -> Health:
    value = told.partition(":")[2].strip() or raw.get("HealthStatus") or raw.get("health_status")
    return _word(Health, value, Health.UNKNOWN)


# --- who answers -----------------------------------------------------------------------------------------------


def engine_info(info: object, version: object) -> EngineInfo | None:
    """Who answered; None when `/info` carries no id or `/version` no API version."""
    about, told = _mapping(info), _mapping(version)
    name = _engine_name(told)
    engine = _engine_id(about, name)
    api_version = _text(told.get("ApiVersion"))
    if not engine or not api_version:
        return None
    return EngineInfo(
        id=EngineId(engine),
        name=name,
        version=_text(told.get("Version")),
        api_version=api_version,
        system_time=_instant(about.get("SystemTime")),
        live_restore=about.get("LiveRestoreEnabled") is True,
    )


def cpu_count(info: object) -> int | None:
    """How many CPUs the engine has; None when it does not tell."""
    return _integer(_mapping(info).get("NCPU"), low=1)


def major_minor(version: str) -> tuple[int, int]:
    """The first two numbers of a version; (0, 0) when there are none."""
    found = re.match(r"(\d{1,6})\.(\d{1,6})", version)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _engine_name(version: Mapping[str, object]) -> str:
    components = [_text(_mapping(item).get("Name")).lower() for item in _items(version.get("Components"))]
    return PODMAN if any(PODMAN in name for name in components) else DOCKER


def _engine_id(info: Mapping[str, object], name: str) -> str:
    if name != PODMAN:
        return _text(info.get("ID"))
    # Podman makes up a new id for each answer; its host and its storage stay the same.
    place = f"{_text(info.get('Name'))}\n{_text(info.get('DockerRootDir'))}"
    return f"{PODMAN}:{hashlib.sha256(place.encode()).hexdigest()[:32]}"
