"""The sketch's operations on sessions, by their names: health, exit info, list, stop one, stop all.

They serve whoever drives a backend without a controller. Only containers that carry our prefix (and our controller's
id, where there is one) are ever stopped; a controller or an external container never is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import anyio

from controller.engine import translate
from controller.engine.connection import Connection
from controller.engine.limits import PARALLEL_STOPS
from controller.engine.reader import PREFIX_LABEL, WATCH_LABEL
from controller.engine.writer import DockerWriter
from controller.errors import ContainerGone, EngineError, EngineRefused, EngineUnavailable
from controller.model.container import ContainerState, ListedContainer, Snapshot
from controller.model.ids import ContainerId, ControllerId
from controller.model.phase import Health
from controller.model.sketch import SessionExitInfo, SessionHealth

SESSION_LABEL: Final = "agentd.session"
CONTROLLER_LABEL: Final = "agentd.controller"
ROLE_LABEL: Final = "agentd.role"

_LIVE: Final = frozenset({ContainerState.RUNNING, ContainerState.PAUSED, ContainerState.RESTARTING})


@dataclass(frozen=True, kw_only=True)
class Owner:
    """Whose containers these operations may touch."""

    prefix: str
    controller_id: ControllerId | None
    stop_grace_s: float

    def owns(self, labels: Mapping[str, str]) -> bool:
        """Whether a container with these labels is ours to stop."""
        if labels.get(PREFIX_LABEL) != self.prefix or WATCH_LABEL in labels or labels.get(ROLE_LABEL) == "controller":
            return False
        return self.controller_id is None or labels.get(CONTROLLER_LABEL) == self.controller_id

    def container_name(self, session: str) -> str:
        """The name that a session's container has."""
        return f"{self.prefix}-{session}"

    def session_name(self, row: ListedContainer) -> str:
        """The session that a container belongs to; the sketch wrote the full name into the label."""
        return (row.labels.get(SESSION_LABEL) or row.name).removeprefix(f"{self.prefix}-")


class SketchOperations(DockerWriter):
    """The sketch's part of `ExecutionBackend`."""

    def __init__(self, connection: Connection, owner: Owner) -> None:
        super().__init__(connection)
        self._owner = owner

    async def session_health(self, name: str) -> SessionHealth:
        """Health of the session's container; unknown when it does not run, is absent, or could not be asked about."""
        try:
            return _sketch_health(await self.inspect(self._owner.container_name(name)))
        except (ContainerGone, EngineUnavailable):
            return SessionHealth.UNKNOWN

    async def session_exit_info(self, name: str) -> SessionExitInfo | None:
        """How the session's container ended; None for running, absent or merely created.

        Raises EngineUnavailable: could not ask is not `still running`.
        """
        try:
            return translate.exit_info(await self._inspect_json(self._owner.container_name(name)))
        except ContainerGone:
            return None

    async def list_sessions(self) -> Sequence[str]:
        """Names of the sessions that have a container of ours here, in any state."""
        return sorted({self._owner.session_name(row) for row in await self._ours()})

    async def stop_session(self, name: str) -> None:
        """Stop one session's container; success when it is not there. Raises EngineRefused when it is not ours."""
        try:
            snapshot = await self.inspect(self._owner.container_name(name))
            if not self._owner.owns(snapshot.facts.labels):
                raise EngineRefused(f"the container of session {name} is not ours to stop")
            await self.stop(snapshot.facts.id, grace_s=self._owner.stop_grace_s)
        except ContainerGone:
            return

    async def shutdown_all_sessions(self) -> None:
        """Stop every live container of ours, side by side. Raises EngineUnavailable naming how many would not."""
        live = [row.id for row in await self._ours() if row.state in _LIVE]
        failed: list[EngineError] = []
        places = anyio.CapacityLimiter(PARALLEL_STOPS)

        async def stop_one(container: ContainerId) -> None:
            async with places:
                try:
                    await self.stop(container, grace_s=self._owner.stop_grace_s)
                except ContainerGone:
                    return
                except EngineError as error:
                    failed.append(error)

        async with anyio.create_task_group() as group:
            for container in live:
                group.start_soon(stop_one, container)
        if failed:
            raise EngineUnavailable(f"{len(failed)} of {len(live)} sessions were not stopped: {failed[0]}")

    async def _ours(self) -> list[ListedContainer]:
        rows = await self.list_ours(self._owner.prefix)
        return [row for row in rows if self._owner.owns(row.labels)]


def _sketch_health(snapshot: Snapshot) -> SessionHealth:
    if snapshot.state is not ContainerState.RUNNING:
        return SessionHealth.UNKNOWN
    match snapshot.health:
        case Health.HEALTHY | Health.NONE:
            return SessionHealth.HEALTHY
        case Health.UNHEALTHY:
            return SessionHealth.UNHEALTHY
        case Health.STARTING:
            return SessionHealth.STARTING
        case _:
            return SessionHealth.UNKNOWN
