"""create: options and a spec file become one request. The controller checks it; here it is only put together."""

import json
from argparse import Namespace
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Final

import yaml

from controller.api.shapes import SessionView
from controller.cli.client import connected
from controller.cli.failure import CommandFailed, ExitCode
from controller.cli.invocation import Invocation
from controller.cli.quantities import seconds, size_bytes
from controller.cli.verbs import report, waiting_query

Spec = dict[str, object]
FILE_MAX_BYTES: Final = 256 * 1024
_PLAIN: Final = {
    "image": "image",
    "memory": "memory_bytes",
    "cpus": "cpus",
    "workdir": "workdir",
    "network_policy": "network_policy",
    "ttl": "ttl_s",
    "stop_grace_s": "stop_grace_s",
    "agent_type": "agent_type",
    "model_provider": "model_provider",
    "model_name": "model_name",
    "user": "user",
}
_RESTART: Final = {
    "restart": "mode",
    "max_attempts": "max_attempts",
    "restart_window": "window_s",
    "slow_retry_s": "slow_retry_s",
    "unhealthy_restart_s": "unhealthy_restart_s",
}


async def create(call: Invocation) -> int:
    """Create a session."""
    wanted = call.arguments
    spec = spec_of(wanted)
    body = {"name": wanted.name, "spec": spec, "start": wanted.start}
    async with connected(call) as client:
        session = await client.send("POST", "/v1/sessions", SessionView, query=waiting_query(call), body=body)
    report(call, session, must_run=wanted.start and not wanted.no_wait)
    return ExitCode.DONE


def spec_of(wanted: Namespace) -> Spec:
    """The spec file, if one is given, with the options over it. Raises CommandFailed."""
    spec = read_spec(wanted.file) if wanted.file else {}
    given = vars(wanted)
    spec |= {field: given[option] for option, field in _PLAIN.items() if given[option] is not None}
    policy = {field: given[option] for option, field in _RESTART.items() if given[option] is not None}
    if policy:
        spec["restart"] = _mapping(spec, "restart") | policy
    if wanted.env:
        spec["env"] = _mapping(spec, "env") | _pairs("-e", wanted.env)
    if wanted.label:
        spec["labels"] = _mapping(spec, "labels") | _pairs("--label", wanted.label)
    if wanted.env_from:
        spec["env_from"] = [*_list(spec, "env_from"), *wanted.env_from]
    if wanted.mount:
        spec["mounts"] = [*_list(spec, "mounts"), *(_mount(text) for text in wanted.mount)]
    if wanted.expect_connection:
        spec["expect_connection"] = True
    if wanted.command:
        spec["command"] = list(wanted.command)
    if not spec.get("image"):
        raise CommandFailed(ExitCode.USAGE, "an image is needed: --image IMAGE, or image: in the spec file")
    return spec


def read_spec(path: str) -> Spec:
    """A spec in YAML or JSON: the fields of the API's spec, with `memory: 512m` and `ttl: 2h` allowed as well."""
    try:
        with Path(path).open("rb") as file:
            raw = file.read(FILE_MAX_BYTES + 1)
        if len(raw) > FILE_MAX_BYTES:
            # Never cut: what is left may well be a spec, but another one.
            raise CommandFailed(ExitCode.USAGE, f"{path}: longer than {FILE_MAX_BYTES} bytes")
        # YAML has more kinds of values than the request can carry; a date is meant as it is written.
        loaded: object = json.loads(json.dumps(yaml.safe_load(raw), default=_as_written))
    except (OSError, UnicodeError) as error:
        raise CommandFailed(ExitCode.USAGE, f"{path}: {error}") from None
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        raise CommandFailed(
            ExitCode.USAGE, f"{path} is neither YAML nor JSON: {' '.join(str(error).split())}"
        ) from None
    if not isinstance(loaded, dict):
        raise CommandFailed(ExitCode.USAGE, f"{path}: a spec is a mapping that begins with image:")
    spec = {str(key): value for key, value in loaded.items()}
    try:
        if "memory" in spec:
            spec["memory_bytes"] = size_bytes(str(spec.pop("memory")))
        if "ttl" in spec:
            spec["ttl_s"] = seconds(str(spec.pop("ttl")))
    except ValueError as error:
        raise CommandFailed(ExitCode.USAGE, f"{path}: {error}") from None
    return spec


def _as_written(value: object) -> str:
    if isinstance(value, date):
        return str(value)
    raise TypeError(f"{type(value).__name__} is no value of a spec")


def _mapping(spec: Mapping[str, object], field: str) -> dict[str, object]:
    found = spec.get(field)
    return {str(key): value for key, value in found.items()} if isinstance(found, dict) else {}


def _list(spec: Mapping[str, object], field: str) -> list[object]:
    found = spec.get(field)
    return list(found) if isinstance(found, list) else []


def _pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise CommandFailed(ExitCode.USAGE, f"{option} {key or text}: write KEY=VALUE")
        pairs[key] = value
    return pairs


def _mount(text: str) -> dict[str, object]:
    source, _, rest = text.partition(":")
    target, _, mode = rest.partition(":")
    if not source or not target or mode not in ("", "ro", "rw"):
        raise CommandFailed(ExitCode.USAGE, f"--mount {text}: write SOURCE:TARGET or SOURCE:TARGET:ro")
    return {"source": source, "target": target, "read_only": mode == "ro"}
