"""The error tree. An engine client's own errors stop at its adapter and become one of these."""


class ControllerError(Exception):
    """Anything the controller itself raises."""


class SettingsError(ControllerError):
    """A bad setting: names the variable, the value and what is allowed. Exit code 2."""


class EngineError(ControllerError):
    """The engine did not do it."""


class EngineUnavailable(EngineError):
    """Socket gone, refused, time-out, 5xx, or an answer that cannot be read: retry; never the session's fault.

    `request_sent` is false only when it is certain that the engine never got the request.
    """

    def __init__(self, message: str, *, request_sent: bool = True) -> None:
        """Keep whether the request may have reached the engine."""
        super().__init__(message)
        self.request_sent = request_sent


class EngineConflict(EngineError):
    """409: something stands in the way; look whose it is."""


class ContainerGone(EngineError):
    """404 for a container: success for a stop or remove, an observation elsewhere."""


class EngineRefused(EngineError):
    """Another 4xx, or a start that can never work: the engine's message says why."""


class Overloaded(ControllerError):
    """Too many wait for the same thing already: try again later."""


class LedgerError(ControllerError):
    """The ledger cannot be used, or an invariant of it is broken; ends the program."""


class LedgerBusy(LedgerError):
    """Another controller holds the ledger."""
