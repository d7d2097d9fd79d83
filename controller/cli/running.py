"""run and backup: the controller itself, and a copy of its ledger."""

from controller.cli.failure import ExitCode
from controller.cli.invocation import LINE_MAX_CHARS, Invocation
from controller.log import clean


def run(call: Invocation) -> int:
    """The controller, in the foreground, until it is told to stop."""
    # Imported here: no other command pays for the whole controller.
    from controller.app import run as run_controller

    return run_controller(call.settings())


async def backup(call: Invocation) -> int:
    """A consistent copy of the ledger, whether or not a controller uses it."""
    from controller.store.ledger import open_readonly

    source = call.arguments.db or call.settings().db
    async with open_readonly(source) as ledger:
        await ledger.backup(call.arguments.path)
    call.say(clean(call.arguments.path, LINE_MAX_CHARS))
    return ExitCode.DONE
