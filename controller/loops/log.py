"""Where the loops' few own lines go: the part of a structlog logger that they use, and what takes its lines."""

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


class Paper(Protocol):
    """What the lines end up on, which may be slow, or take nothing at all for a while."""

    def is_behind(self) -> bool:
        """Whether lines that were handed to the log are not there yet."""
        ...

    async def catch_up(self) -> None:
        """Return when they are, or after a while."""
        ...


class InstantPaper:
    """Implements `Paper` where each line is there as soon as it is said."""

    def is_behind(self) -> bool:
        """Never."""
        return False

    async def catch_up(self) -> None:
        """At once."""
