"""start, stop, restart, rm and renew: several sessions side by side, each answered when its result was seen."""

from collections.abc import Mapping
from typing import Final

import anyio

from controller.api.shapes import SessionView
from controller.cli.client import Client, connected, session_path
from controller.cli.failure import CommandFailed, ExitCode
from controller.cli.invocation import Invocation
from controller.cli.looking import as_json
from controller.log import clean
from controller.model.phase import Phase

AT_ONCE_MAX: Final = 16
_UNHAPPY: Final = (Phase.FAILED, Phase.BACKOFF)


async def start(call: Invocation) -> int:
    """Start sessions."""
    return await _each(call, "POST", "/start", must_run=True)


async def stop(call: Invocation) -> int:
    """Stop sessions."""
    return await _each(call, "POST", "/stop", must_run=False)


async def restart(call: Invocation) -> int:
    """Restart sessions."""
    return await _each(call, "POST", "/restart", must_run=True)


async def rm(call: Invocation) -> int:
    """Remove sessions."""
    return await _each(call, "DELETE", "", must_run=False)


async def renew(call: Invocation) -> int:
    """Give a session a new time to live."""
    async with connected(call) as client:
        path = session_path(call.arguments.name, "/renew")
        session = await client.send("POST", path, SessionView, body={"ttl_s": call.arguments.ttl})
    report(call, session, must_run=False)
    return ExitCode.DONE


def waiting_query(call: Invocation) -> dict[str, str]:
    """How long the controller is to wait for the result."""
    return {"wait": str(not call.arguments.no_wait).lower(), "timeout_s": f"{call.arguments.timeout:g}"}


def report(call: Invocation, session: SessionView, *, must_run: bool) -> None:
    """Say what came of it. Raises CommandFailed when it was to run and does not."""
    if must_run and session.phase in _UNHAPPY:
        why = session.message or (session.exit.error if session.exit else "") or session.reason
        raise CommandFailed(ExitCode.REFUSED, f"{session.name} is {session.phase}: {why}")
    call.say(as_json(session) if call.as_json else clean(session.name, 64))


async def _each(call: Invocation, method: str, below: str, *, must_run: bool) -> int:
    query = waiting_query(call)
    if call.arguments.does == "verbs:rm":
        query["force"] = str(call.arguments.force).lower()
    names = list(dict.fromkeys(call.arguments.names))
    codes: dict[str, ExitCode] = {}
    places = anyio.CapacityLimiter(AT_ONCE_MAX)

    async def one(client: Client, name: str) -> None:
        async with places:
            codes[name] = await _one(call, client, (method, name, below), query, must_run=must_run)

    async with connected(call) as client, anyio.create_task_group() as group:
        for name in names:
            group.start_soon(one, client, name)
    return next((codes[name] for name in names if codes[name] is not ExitCode.DONE), ExitCode.DONE)


async def _one(
    call: Invocation, client: Client, target: tuple[str, str, str], query: Mapping[str, str], *, must_run: bool
) -> ExitCode:
    method, name, below = target
    try:
        session = await client.send(method, session_path(name, below), SessionView, query=query)
        report(call, session, must_run=must_run and not call.arguments.no_wait)
    except CommandFailed as failure:
        call.complain(str(failure))
        return failure.code
    return ExitCode.DONE
