"""settings and doctor: what is in force, and whether everything that the controller needs is there."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Final

from controller.api.shapes import HealthView
from controller.api.views import MASK
from controller.cli.client import connected
from controller.cli.failure import CommandFailed, ExitCode
from controller.cli.invocation import Invocation
from controller.cli.tables import table
from controller.log import clean
from controller.settings import FOREVER, Settings, without_credentials

CLOCK_OFFSET_MAX_S: Final = 2.0
_TEXT_MAX_CHARS: Final = 500
_ADVICE: Final = {
    "ledger": "look at the controller's log; check space and permissions beside AGENTD_DB",
    "engine": "check that the engine runs, and DOCKER_HOST and the permissions of its socket",
    "stream": "it reconnects by itself; if it stays so, look at the engine's log",
    "sweep": "wait for the first sweep, or run: agentdctl reconcile",
    "defects": "an observation could not be decided; see: agentdctl events, and report it",
}


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    found: str
    advice: str = ""


def settings(call: Invocation) -> int:
    """Print every setting, its value and where it came from; secrets are masked."""
    found = call.settings()
    if made := call.made_token():
        found = replace(found, token=MASK, sources={**found.sources, "AGENTD_TOKEN": made})
    rows = [_setting(found, each.name) for each in fields(found) if each.name != "sources"]
    if call.as_json:
        for name, value, source in rows:
            call.say(json.dumps({"variable": name, "value": value, "source": source}))
    else:
        for line in table(("VARIABLE", "VALUE", "FROM"), rows, limit=_TEXT_MAX_CHARS):
            call.say(line)
    return ExitCode.DONE


async def doctor(call: Invocation) -> int:
    """Check after check, each with what to do about it."""
    checks = [*_local_checks(call.settings()), *await _controller_checks(call)]
    for check in checks:
        if call.as_json:
            call.say(json.dumps(vars(check)))
            continue
        call.say(clean(f"{'ok  ' if check.ok else 'FAIL'}  {check.name:<12} {check.found}", _TEXT_MAX_CHARS))
        if check.advice and not check.ok:
            call.say(f"{'':<19}{clean(check.advice, _TEXT_MAX_CHARS)}")
    return ExitCode.DONE if all(check.ok for check in checks) else ExitCode.REFUSED


def _setting(found: Settings, field: str) -> tuple[str, str, str]:
    variable = field.upper() if field.startswith("docker_") else f"AGENTD_{field.upper()}"
    value = getattr(found, field)
    if value is None:
        value = FOREVER
    if field == "docker_host":
        value = without_credentials(found.docker_host)
    shown = (MASK if value else "") if field == "token" else f"{value:g}" if isinstance(value, float) else str(value)
    return variable, shown.lower() if isinstance(value, bool) else shown, found.sources.get(variable, "default")


def _local_checks(found: Settings) -> Iterator[Check]:
    if found.docker_host.startswith("unix://"):
        path = found.docker_host.removeprefix("unix://")
        usable = os.access(path, os.R_OK | os.W_OK)
        there = "may be used" if usable else ("may not be used by this user" if Path(path).exists() else "is not there")
        advice = "start the engine, or set DOCKER_HOST; join the group that owns the socket"
        yield Check(name="socket", ok=usable, found=f"{path} {there}", advice=advice)
    folder = Path(found.db).parent
    usable = os.access(folder, os.W_OK) if folder.exists() else True
    yield Check(
        name="ledger file",
        ok=usable,
        found=f"{found.db} {'exists' if Path(found.db).exists() else 'is made at the first start'}",
        advice=f"make {folder} writable, or set AGENTD_DB",
    )


async def _controller_checks(call: Invocation) -> list[Check]:
    try:
        async with connected(call) as client:
            health = await client.get("/healthz", HealthView)
    except CommandFailed as failure:
        advice = "start it: agentdctl run, or docker compose up; or set AGENTD_URL and AGENTD_TOKEN"
        return [Check(name="controller", ok=False, found=str(failure), advice=advice)]
    return [Check(name="controller", ok=True, found=f"answers at {call.url()}"), *_health_checks(health)]


def _health_checks(health: HealthView) -> Iterator[Check]:
    for name, said in health.checks.items():
        yield Check(name=name, ok=said == "ok", found=said, advice=_ADVICE.get(name, ""))
    if health.engine is not None:
        engine = health.engine
        yield Check(name="version", ok=True, found=f"{engine.name} {engine.version}, API {engine.api_version}")
    if health.clock_offset_s is not None:
        offset = health.clock_offset_s
        yield Check(
            name="clock",
            ok=abs(offset) <= CLOCK_OFFSET_MAX_S,
            found=f"the engine's clock is {offset:+.3f} s from ours",
            advice="let both hosts keep time (NTP): ages and deadlines are judged across the two",
        )
