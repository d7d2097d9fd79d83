"""The entry point: parse, run one command, turn what went wrong into one line and an exit code.

Commands are imported only when they are called, so that `healthcheck` stays cheap: an engine runs it every few
seconds for as long as the controller lives.
"""

import inspect
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module

from controller.cli.failure import CommandFailed, ExitCode
from controller.cli.invocation import Invocation, complain
from controller.cli.parser import parse
from controller.errors import ControllerError, EngineUnavailable, SettingsError


def main(arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> int:
    """Run one command and return its exit code; argparse leaves with 2 by itself."""
    call = Invocation(
        arguments=parse(sys.argv[1:] if arguments is None else arguments),
        environment=os.environ if environment is None else environment,
    )
    try:
        return _run(call)
    except CommandFailed as failure:
        complain(str(failure))
        return failure.code
    except SettingsError as error:
        complain(str(error))
        return ExitCode.USAGE
    except EngineUnavailable as error:
        complain(str(error))
        return ExitCode.UNREACHABLE
    except ControllerError as error:
        complain(str(error))
        return ExitCode.REFUSED
    except BrokenPipeError:
        # Whoever read our output has enough of it (`| head`); Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.DONE
    except KeyboardInterrupt:
        return _interrupted(call)


def _run(call: Invocation) -> int:
    module, _, name = str(call.arguments.does).partition(":")
    command = getattr(import_module(f"controller.cli.{module}"), name)
    if not inspect.iscoroutinefunction(command):
        return int(command(call))
    import anyio

    return int(anyio.run(command, call))


def _interrupted(call: Invocation) -> int:
    if getattr(call.arguments, "watch", False) or getattr(call.arguments, "follow", False):
        return ExitCode.DONE
    complain("interrupted; what was asked for may still happen")
    return ExitCode.REFUSED
