"""How a command ends when it does not end well: one line why, and the exit code that scripts rely on."""

from enum import IntEnum

from controller.errors import ControllerError


class ExitCode(IntEnum):
    """The contract's exit codes."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    NO_SUCH_SESSION = 3
    UNREACHABLE = 4
    TIMED_OUT = 5


class CommandFailed(ControllerError):
    """A command cannot do what was asked."""

    def __init__(self, code: ExitCode, line: str) -> None:
        """Keep the exit code beside the line."""
        super().__init__(line)
        self.code = code
