"""Where the loops' few own lines go: the part of a structlog logger that they use."""

from typing import Protocol


class Log(Protocol):
    """Constant messages with fields. Whatever stands in a field may come from outside: the writer makes it safe."""

    def info(self, event: str, **fields: object) -> object:
        """Something that happened."""
        ...

    def warning(self, event: str, **fields: object) -> object:
        """Something that somebody should look at."""
        ...

    def error(self, event: str, **fields: object) -> object:
        """Something that ends the program."""
        ...
