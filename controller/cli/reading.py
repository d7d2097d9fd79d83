"""Where the read-only commands read: a running controller, or the ledger's file when none runs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from controller.api.explaining import explained
from controller.api.shapes import RowsView, SessionsView, SessionView, WhyView
from controller.api.views import rows_view, session_view
from controller.cli.client import Client, connected, lines_of, session_path
from controller.cli.failure import CommandFailed, ExitCode
from controller.cli.invocation import Invocation
from controller.cli.wall import wall_now
from controller.interfaces import JournalFilter, LedgerReader
from controller.model.ids import SessionName
from controller.model.session import Session

PAGE = 500


class Reading(Protocol):
    """What the read-only commands ask."""

    async def sessions(self, *, include_removed: bool, phase: str | None) -> list[SessionView]:
        """Sessions by name."""
        ...

    async def session(self, name: str) -> SessionView:
        """One session. Raises CommandFailed."""
        ...

    async def why(self, name: str) -> WhyView:
        """Its explanation."""
        ...

    async def rows(self, *, after: int, name: str | None) -> RowsView:
        """One page of journal rows after `after`, of one session or of all."""
        ...

    def logs(self, name: str, *, tail: int, follow: bool, attempt: int | None) -> AsyncIterator[str]:
        """What it printed, line by line."""
        ...


class _AskedController:
    """Reading from a running controller."""

    def __init__(self, client: Client, call: Invocation) -> None:
        self._client = client
        self._call = call

    async def sessions(self, *, include_removed: bool, phase: str | None) -> list[SessionView]:
        query = {"all": str(include_removed).lower(), "limit": str(PAGE)}
        if phase is not None:
            query["phase"] = phase
        found: list[SessionView] = []
        while True:
            page = await self._client.get("/v1/sessions", SessionsView, query)
            found += page.items
            if page.next is None:
                return found
            query["after"] = page.next

    async def session(self, name: str) -> SessionView:
        return await self._client.get(session_path(name), SessionView)

    async def why(self, name: str) -> WhyView:
        return await self._client.get(session_path(name, "/why"), WhyView)

    async def rows(self, *, after: int, name: str | None) -> RowsView:
        path = "/v1/journal" if name is None else session_path(name, "/timeline")
        return await self._client.get(path, RowsView, {"after": str(after), "limit": str(PAGE)})

    async def logs(self, name: str, *, tail: int, follow: bool, attempt: int | None) -> AsyncIterator[str]:
        query = {"tail": str(tail), "follow": str(follow).lower()}
        if attempt is not None:
            query["attempt"] = str(attempt)
        async with self._client.opened("GET", session_path(name, "/logs"), query=query) as response:
            absent = response.headers.get("Agentd-Logs-Absent", "")
            if absent:
                self._call.complain(f"there are no lines: {absent}")
            async for line in lines_of(response):
                yield line


class _OpenedLedger:
    """Reading the ledger's file. Nobody asks the engine, so nothing is known to be reachable."""

    def __init__(self, ledger: LedgerReader, call: Invocation) -> None:
        self._ledger = ledger
        self._call = call

    async def sessions(self, *, include_removed: bool, phase: str | None) -> list[SessionView]:
        found = await self._ledger.sessions(include_removed=include_removed)
        return [session_view(each, reachable=False) for each in found if phase in (None, each.phase)]

    async def session(self, name: str) -> SessionView:
        return session_view(await self._find(name), reachable=False)

    async def why(self, name: str) -> WhyView:
        # The file does not know in what mode its controller runs.
        return await explained(self._ledger, await self._find(name), now=wall_now(), may_restart=True)

    async def rows(self, *, after: int, name: str | None) -> RowsView:
        session_id = (await self._find(name)).id if name is not None else None
        wanted = JournalFilter(after=after, limit=PAGE, session_id=session_id)
        return rows_view(await self._ledger.journal(wanted), limit=PAGE)

    async def logs(self, name: str, *, tail: int, follow: bool, attempt: int | None) -> AsyncIterator[str]:
        if follow:
            raise CommandFailed(ExitCode.USAGE, "--follow needs a running controller; --db has only the kept lines")
        evidence = await self._ledger.evidence((await self._find(name)).id, attempt)
        if evidence is None or evidence.tail.absent:
            self._call.complain(f"there are no lines: {evidence.tail.absent if evidence else 'none were kept'}")
            return
        for line in evidence.tail.lines[-tail:] if tail else ():
            yield line

    async def _find(self, name: str) -> Session:
        found = await self._ledger.find(SessionName(name))
        if found is None:
            raise CommandFailed(ExitCode.NO_SUCH_SESSION, f"no such session: {name}")
        return found


@asynccontextmanager
async def reading(call: Invocation) -> AsyncIterator[Reading]:
    """The place that this invocation reads from."""
    if call.arguments.db:
        # Imported here: whoever asks a controller does not pay for the ledger.
        from controller.store.ledger import open_readonly

        async with open_readonly(call.arguments.db) as ledger:
            yield _OpenedLedger(ledger, call)
    else:
        async with connected(call) as client:
            yield _AskedController(client, call)
