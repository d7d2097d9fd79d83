"""Answers as engines really give them, and junk, become our model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.engine import translate
from controller.interfaces import BadLine
from controller.model.container import ContainerState, EngineEvent, EngineRestart, EventAction, Snapshot
from controller.model.instant import Instant, from_rfc3339
from controller.model.phase import Health

RECORDED = Path(__file__).parent / "recorded"
INSPECTS: Mapping[str, dict[str, Any]] = json.loads((RECORDED / "docker-20.10-inspect.json").read_text())
ROWS: list[dict[str, object]] = json.loads((RECORDED / "docker-20.10-list.json").read_text())
ABOUT = json.loads((RECORDED / "docker-20.10-about.json").read_text())


def inspected(name: str) -> Snapshot:
    snapshot = translate.snapshot(INSPECTS[name])
    assert snapshot is not None
    return snapshot


def with_state(name: str, **state: object) -> dict[str, object]:
    raw: dict[str, Any] = json.loads(json.dumps(INSPECTS[name]))
    raw["State"] |= state
    return raw


def sorted_keys(raw: object) -> list[str]:
    """Every key at any depth."""
    if isinstance(raw, dict):
        return sorted({*raw, *(key for value in raw.values() for key in sorted_keys(value))})
    return sorted({key for item in raw for key in sorted_keys(item)}) if isinstance(raw, list) else []


def events_of(file: str) -> list[EngineEvent]:
    items = [translate.event_line(line) for line in (RECORDED / file).read_bytes().splitlines()]
    assert not any(isinstance(item, BadLine) for item in items)
    return [item for item in items if isinstance(item, EngineEvent)]


# --- inspect ---------------------------------------------------------------------------------------------------


def test_an_exit_carries_its_code_and_exact_times() -> None:
    three = inspected("agentd-three")
    assert (three.state, three.exit_code) == (ContainerState.EXITED, 3)
    assert three.started_at == from_rfc3339(INSPECTS["agentd-three"]["State"]["StartedAt"])
    assert three.started_at is not None
    assert three.started_at % 1_000_000_000 != 0


@pytest.mark.parametrize("name", ["agentd-new", "agentd-nocommand", "agentd-plain", "agentd-well"])
def test_what_has_not_ended_has_no_exit_code(name: str) -> None:
    assert inspected(name).exit_code is None


def test_a_failed_start_is_created_with_the_engines_words() -> None:
    nocommand = inspected("agentd-nocommand")
    assert (nocommand.state, nocommand.started_at) == (ContainerState.CREATED, None)
    assert "no such file or directory" in nocommand.error


def test_a_restarting_container_tells_its_last_runs_code() -> None:
    snapshot = translate.snapshot(with_state("agentd-looping", Status="restarting", ExitCode=5))
    assert snapshot is not None
    assert (snapshot.state, snapshot.exit_code) == (ContainerState.RESTARTING, 5)
    assert (snapshot.facts.engine_restart, snapshot.facts.engine_restart_limit) == (EngineRestart.ON_FAILURE, 50)


@pytest.mark.parametrize(
    ("name", "health", "has_probe"),
    [
        ("agentd-well", Health.HEALTHY, True),
        ("agentd-ill", Health.UNHEALTHY, True),
        ("agentd-looping", Health.NONE, False),
        ("agentd-plain", Health.UNKNOWN, False),
        ("agentd-three", Health.UNKNOWN, False),
    ],
)
def test_health_counts_only_while_running(name: str, health: Health, *, has_probe: bool) -> None:
    assert (inspected(name).health, inspected(name).facts.has_probe) == (health, has_probe)


@pytest.mark.parametrize(("status", "code"), [("dead", 3), ("removing", None)])
def test_what_a_removal_failed_for_is_no_error_of_the_end(status: str, code: int | None) -> None:
    said = 'driver "overlay2" failed to remove root filesystem'
    snapshot = translate.snapshot(with_state("agentd-ill", Status=status, ExitCode=3, Error=said))
    assert snapshot is not None
    assert (snapshot.state, snapshot.exit_code, snapshot.error) == (ContainerState(status), code, "")


@pytest.mark.parametrize("status", ["exited", "paused", "restarting", "dead", "created", "of another world"])
def test_a_stopped_container_is_not_unhealthy_whatever_the_engine_says(status: str) -> None:
    snapshot = translate.snapshot(with_state("agentd-ill", Status=status))
    assert snapshot is not None
    assert snapshot.health is Health.UNKNOWN


@pytest.mark.parametrize(("told", "health"), [("none", Health.NONE), ("", Health.UNKNOWN), ("stopped", Health.UNKNOWN)])
def test_odd_health_words_are_no_exception(told: str, health: Health) -> None:
    snapshot = translate.snapshot(with_state("agentd-ill", Health={"Status": told}))
    assert snapshot is not None
    assert snapshot.health is health


def test_probe_results_are_kept_with_their_output() -> None:
    assert [(probe.exit_code, probe.output) for probe in inspected("agentd-ill").probes][-1] == (7, "sick\n")
    assert len(inspected("agentd-ill").probes) <= 5


def test_a_probes_output_is_masked_like_a_log() -> None:
    log = [{"ExitCode": 1, "Output": "GET /health\nAuthorization: Bearer abc.def-123456\n"}]
    snapshot = translate.snapshot(with_state("agentd-ill", Health={"Status": "unhealthy", "Log": log}))
    assert snapshot is not None
    assert snapshot.probes[0].output == "GET /health\nAuthorization: Bearer ***\n"


def test_out_of_memory_and_its_limit_are_told() -> None:
    oom = inspected("agentd-oom")
    assert (oom.oom_killed, oom.exit_code, oom.facts.memory_limit_bytes) == (True, 137, 8 * 1024 * 1024)


def test_the_environment_is_never_kept() -> None:
    assert "do-not-keep" in json.dumps(INSPECTS)
    assert "do-not-keep" not in repr([translate.snapshot(raw) for raw in INSPECTS.values()])


def test_unknown_words_become_unknown() -> None:
    raw = with_state("agentd-well", Status="dreaming", Health={"Status": "so-so"})
    raw["HostConfig"] = {"RestartPolicy": {"Name": "sometimes"}}
    snapshot = translate.snapshot(raw)
    assert snapshot is not None
    assert snapshot.state is ContainerState.UNKNOWN
    assert snapshot.facts.engine_restart is EngineRestart.NO


@pytest.mark.parametrize("raw", [None, [], {}, {"Id": "x"}, {"State": {"Status": "running"}}, {"Id": 3, "State": {}}])
def test_what_is_not_a_container_is_none(raw: object) -> None:
    assert translate.snapshot(raw) is None


def test_broken_characters_can_be_stored() -> None:
    raw = json.loads(
        '{"Id":"x","Name":"/a\\ud800b","State":{"Status":"running"},"Config":{"Labels":{"\\udfff":"\\ud800"}}}'
    )
    snapshot = translate.snapshot(raw)
    assert snapshot is not None
    repr(snapshot).encode()
    assert snapshot.facts.name == "a?b"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("agentd-three", 3),
        ("agentd-nocommand", 127),
        ("agentd-new", None),
        ("agentd-well", None),
        ("agentd-plain", None),
    ],
)
def test_exit_info_is_none_for_running_and_merely_created(name: str, code: int | None) -> None:
    info = translate.exit_info(INSPECTS[name])
    assert (None if info is None else info.exit_code) == code


# --- list ------------------------------------------------------------------------------------------------------


def test_a_list_tells_states_codes_and_health_from_its_text() -> None:
    rows = {row.name: row for raw in ROWS if (row := translate.listed(raw)) is not None}
    assert len(rows) == len(ROWS)
    assert {name: (row.state.value, row.exit_code, row.health.value) for name, row in rows.items()} == {
        "agentd-lying": ("exited", 9, "unknown"),
        "agentd-oom": ("exited", 137, "unknown"),
        "agentd-nocommand": ("created", None, "unknown"),
        "agentd-new": ("created", None, "unknown"),
        "agentd-looping": ("restarting", 5, "unknown"),
        "agentd-plain": ("paused", None, "unknown"),
        "agentd-ill": ("running", None, "unhealthy"),
        "agentd-well": ("running", None, "healthy"),
        "agentd-three": ("exited", 3, "unknown"),
    }
    assert all(row.labels["agentd.prefix"] == "agentd" and row.created_at for row in rows.values())


@pytest.mark.parametrize(
    ("told", "health"), [("none", Health.NONE), ("starting", Health.STARTING), ("x", Health.UNKNOWN)]
)
def test_newer_lists_tell_health_in_a_field(told: str, health: Health) -> None:
    row = translate.listed({"Id": "x", "State": "running", "Status": "Up 1 second", "Health": {"Status": told}})
    assert row is not None
    assert row.health is health


def test_a_list_that_is_silent_about_health_says_unknown() -> None:
    row = translate.listed({"Id": "x", "State": "running", "Status": "Up 2 hours", "Names": ["/other/alias", "/own"]})
    assert row is not None
    assert (row.health, row.name) == (Health.UNKNOWN, "own")


# --- events ----------------------------------------------------------------------------------------------------


def test_events_of_an_old_engine() -> None:
    events = events_of("docker-20.10-events.jsonl")
    of_plain = [(event.action.value, event.signal) for event in events if event.container.startswith("ef755419")]
    assert of_plain == [
        ("create", None),
        ("start", None),
        ("pause", None),
        ("unpause", None),
        ("rename", None),
        ("kill", 15),
        ("kill", 9),
        ("die", None),
        ("stop", None),
        ("destroy", None),
    ]
    renamed = next(event for event in events if event.action is EventAction.RENAME)
    assert (renamed.old_name, renamed.name) == ("agentd-plain", "agentd-renamed")
    assert {event.health for event in events if event.action is EventAction.HEALTH} == {
        Health.HEALTHY,
        Health.UNHEALTHY,
    }
    assert any(event.action is EventAction.OOM for event in events)


def test_events_without_the_old_fields() -> None:
    assert [(event.action.value, event.exit_code, event.health) for event in events_of("docker-29-events.jsonl")] == [
        ("create", None, None),
        ("health_status", None, Health.HEALTHY),
        ("die", 143, None),
    ]


def test_podmans_words_are_understood() -> None:
    assert [(event.action.value, event.exit_code, event.health) for event in events_of("podman-events.jsonl")] == [
        ("create", None, None),
        ("health_status", None, Health.UNHEALTHY),
        ("die", 3, None),
        ("destroy", None, None),
    ]


def test_labels_stay_among_the_attributes_and_name_and_image_do_not() -> None:
    die = next(
        event
        for event in events_of("docker-20.10-events.jsonl")
        if event.name == "agentd-lying" and event.action is EventAction.DIE
    )
    assert die.attributes == {"agentd.prefix": "agentd", "exitCode": "0"}


def test_a_command_in_an_exec_event_is_never_kept() -> None:
    assert translate.event_line(b'{"Type":"container","Action":"exec_start: cat /secret","Actor":{"ID":"x"}}') is None


@pytest.mark.parametrize("action", ["attach", "top", "resize", "prune", "mount", "sync", "of another world", "Die"])
def test_an_unknown_action_is_ignored(action: str) -> None:
    assert translate.event({"Type": "container", "Action": action, "Actor": {"ID": "x"}, "timeNano": 5}) is None


def test_an_event_of_something_else_is_ignored() -> None:
    assert translate.event({"Type": "volume", "Action": "create", "Actor": {"ID": "x"}, "timeNano": 5}) is None


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b'{"Type":"container","Action":"die","Actor":{"ID":"x"', "not json"),
        (b"[]", "not json"),
        (b"\xff\xfe", "not json"),
        (b"[" * 100_000, "not json"),
        (b'{"message":"something broke"}', "not an event"),
        (b'{"Type":"container","Action":"die","timeNano":5}', "not an event"),
        (b'{"Type":"container","Action":"die","Actor":{"ID":"x"}}', "not an event"),
        (b'{"Type":"container","Action":"die","Actor":{"ID":"x"},"timeNano":1e400}', "not an event"),
        (b'{"Type":"container","Action":"die","Actor":{"ID":"x"},"timeNano":99999999999999999999}', "not an event"),
    ],
)
def test_a_line_that_may_have_been_an_event_is_a_bad_line(line: bytes, why: str) -> None:
    assert translate.event_line(line) == BadLine(why=why)


@pytest.mark.parametrize(("signal", "number"), [("15", 15), ("SIGHUP", 1), ("term", 15), ("999", None), ("", None)])
def test_signals_come_as_numbers_or_names(signal: str, number: int | None) -> None:
    raw = {"Action": "kill", "Actor": {"ID": "x", "Attributes": {"signal": signal}}, "timeNano": 5}
    event = translate.event(raw)
    assert isinstance(event, EngineEvent)
    assert (event.signal, event.at) == (number, Instant(5))


# --- who answers -----------------------------------------------------------------------------------------------


def test_who_answers() -> None:
    info = translate.engine_info(ABOUT["info"], ABOUT["version"])
    assert info is not None
    assert (info.id, info.name, info.api_version) == (ABOUT["info"]["ID"], "docker", "1.41")
    assert info.system_time is not None
    assert translate.cpu_count(ABOUT["info"]) == 2


def test_podman_keeps_one_id_although_it_tells_another_each_time() -> None:
    version = {"ApiVersion": "1.41", "Version": "5.4.2", "Components": [{"Name": "Podman Engine"}]}
    first = translate.engine_info({"ID": "a", "Name": "vm", "DockerRootDir": "/p"}, version)
    second = translate.engine_info({"ID": "b", "Name": "vm", "DockerRootDir": "/p"}, version)
    other = translate.engine_info({"ID": "b", "Name": "vm", "DockerRootDir": "/q"}, version)
    assert first is not None
    assert second is not None
    assert other is not None
    assert first.name == "podman"
    assert first.id == second.id != other.id


@pytest.mark.parametrize(("info", "version"), [({}, {"ApiVersion": "1.41"}), ({"ID": "x"}, {}), (None, None), ([], "")])
def test_an_engine_that_does_not_say_who_it_is_is_none(info: object, version: object) -> None:
    assert translate.engine_info(info, version) is None


# --- junk ------------------------------------------------------------------------------------------------------

_KEYS = st.sampled_from(
    [*sorted_keys(INSPECTS), *sorted_keys(ROWS), *sorted_keys(ABOUT), "Action", "Actor", "timeNano"]
)
_WORDS = st.sampled_from(
    ["running", "exited", "die", "kill", "health_status: healthy", "container", "9", "1e9", "\ud800"]
)
_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | _WORDS
JUNK = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS | st.text(max_size=3), inner, max_size=6),
    max_leaves=25,
)


@given(JUNK, JUNK)
def test_junk_never_raises(one: object, other: object) -> None:
    translate.engine_info(one, other)
    translate.cpu_count(one)
    for raw in (one, {"Id": "x", "State": one, "Config": other, "HostConfig": one, "Created": other}):
        translate.snapshot(raw)
        translate.exit_info(raw)
    for raw in (one, {"Id": "x", "State": one, "Names": other, "Labels": one, "Created": other, "Status": one}):
        translate.listed(raw)
    for raw in (one, {"Action": one, "Actor": other}, {"Action": "die", "Actor": one, "timeNano": other, "Type": one}):
        translate.event(raw)


@given(st.binary(max_size=200))
def test_junk_lines_never_raise(line: bytes) -> None:
    translate.event_line(line)
