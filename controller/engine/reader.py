"""Questions to a Docker-compatible engine, through aiodocker: who it is, its events, its lists, one inspect.

Never changes anything. An answer that is empty or of another shape is no answer: it must not read as `no containers`.
"""

import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import anyio

from controller.engine import translate
from controller.engine.connection import Connection, get
from controller.engine.failures import asking
from controller.engine.stream import EventStream, Window
from controller.errors import ContainerGone, EngineUnavailable
from controller.interfaces import StreamItem
from controller.model.container import EngineInfo, ListedContainer, Snapshot
from controller.model.ids import ContainerId
from controller.model.instant import Instant

PREFIX_LABEL: Final = "agentd.prefix"
WATCH_LABEL: Final = "agentd.watch"

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}")
"""Ids and names of containers; anything else would be another path of the API."""


class DockerReader:
    """`EngineReader` over one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def connect(self) -> EngineInfo:
        """Begin anew. Raises EngineUnavailable."""
        return await self._connection.connect()

    @asynccontextmanager
    async def events(self, *, since: Instant, until: Instant) -> AsyncIterator[AsyncIterator[StreamItem]]:
        """The container events between two instants; entered once the engine has answered.

        Podman sends no response head before its first event, so there its answer is not waited for. Nothing is lost
        by it: the request is on its way, and Podman replays everything since `since` from a log on its disk.
        """
        connected, limits = self._connection.connected, self._connection.limits
        streams = connected.clients.streams
        window = Window(
            since=since,
            until=until,
            clock=connected.clock,
            head_s=limits.head_s,
            overdue_s=limits.overdue_s,
        )
        stream = EventStream(window=window, request=lambda: get(streams, "events", window.params()))
        failure: Exception | None = None
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(stream.read_ahead)
                try:
                    if connected.info.name != translate.PODMAN:
                        await stream.answered()
                    yield stream
                except Exception as error:  # noqa: BLE001 - raised again below: inside, the group would wrap it
                    failure = error
                group.cancel_scope.cancel()
        finally:
            stream.close()
        if failure is not None:
            raise failure

    async def list_ours(self, prefix: str) -> Sequence[ListedContainer]:
        """All containers, in any state, that carry our prefix. Raises EngineUnavailable."""
        return await self._list(f"{PREFIX_LABEL}={prefix}")

    async def list_external(self) -> Sequence[ListedContainer]:
        """All containers, in any state, that carry `agentd.watch`. Raises EngineUnavailable."""
        return await self._list(WATCH_LABEL)

    async def inspect(self, container: ContainerId | str) -> Snapshot:
        """One container by full id or by name. Raises ContainerGone, EngineUnavailable."""
        snapshot = translate.snapshot(await self._inspect_json(container))
        if snapshot is None:
            raise EngineUnavailable(f"inspect {container}: the answer is not a container")
        return snapshot

    async def _inspect_json(self, container: str) -> Mapping[str, object]:
        named = checked_name(container)
        async with asking(f"inspect {named[:80]}", limit_s=self._connection.limits.inspect_s):
            return await self._connection.connected.clients.calls.containers.container(named).show()

    async def _list(self, label: str) -> Sequence[ListedContainer]:
        # aiodocker's list() takes an empty body and `{}` for an empty list, so the answer is read here.
        params = {"all": "1", "filters": json.dumps({"label": [label]})}
        async with asking("list containers", limit_s=self._connection.limits.list_s):
            response = await get(self._connection.connected.clients.calls, "containers/json", params)
            async with response:
                answer = json.loads(await response.read())
        if not isinstance(answer, list):
            raise EngineUnavailable("list containers: the answer is not a list")
        rows = [row for raw in answer if (row := translate.listed(raw)) is not None]
        if len(rows) != len(answer):
            raise EngineUnavailable("list containers: a row of the answer is not a container")
        return rows


def checked_name(container: str) -> str:
    """The id or name itself. Raises ContainerGone for what can name no container."""
    if not _NAME.fullmatch(container):
        raise ContainerGone("that is not a container's id or name")
    return container
