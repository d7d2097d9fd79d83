"""reconcile, orphans, adopt and accept-engine: each prints what was found, what is done, and why."""

from controller.api.shapes import DoneView, SweepView
from controller.cli.client import connected
from controller.cli.failure import ExitCode
from controller.cli.invocation import Invocation
from controller.cli.looking import as_json
from controller.cli.tables import TEXT_MAX_CHARS, plan_table
from controller.log import clean


async def reconcile(call: Invocation) -> int:
    """One full sweep now, or its plan."""
    query = {"dry_run": str(call.arguments.dry_run).lower()}
    async with connected(call) as client:
        report = await client.send("POST", "/v1/reconcile", SweepView, query=query)
    _print(call, report)
    return ExitCode.DONE


async def orphans(call: Invocation) -> int:
    """List what no session knows, or remove ours."""
    async with connected(call) as client:
        if call.arguments.apply:
            report = await client.send("POST", "/v1/orphans/apply", SweepView)
        else:
            report = await client.get("/v1/orphans", SweepView)
    _print(call, report)
    return ExitCode.DONE


async def adopt(call: Invocation) -> int:
    """Take over one container."""
    async with connected(call) as client:
        done = await client.send("POST", "/v1/adopt", DoneView, body={"container": call.arguments.container})
    _say(call, done)
    return ExitCode.DONE


async def accept_engine(call: Invocation) -> int:
    """Believe the engine that answers now."""
    async with connected(call) as client:
        done = await client.send("POST", "/v1/engine/accept", DoneView)
    _say(call, done)
    return ExitCode.DONE


def _print(call: Invocation, report: SweepView) -> None:
    if call.as_json:
        for each in report.lines:
            call.say(as_json(each))
        return
    for line in plan_table(report.lines) if report.lines else ["nothing to do"]:
        call.say(line)
    planned = ", only planned" if report.dry_run else ""
    call.say(f"compared {report.sessions_count} sessions with {report.containers_count} containers{planned}")


def _say(call: Invocation, done: DoneView) -> None:
    call.say(as_json(done) if call.as_json else clean(done.message, TEXT_MAX_CHARS))
