"""Changes to a Docker-compatible engine, through aiodocker: create, start, stop, remove. Only `act` gets this.

`Already so` is success. Nothing is ever forced, and nothing is ever sent twice: whoever calls looks first.
"""

import math
from typing import Final

from controller.engine.failures import Refusal, about_change, about_create, about_start, asking
from controller.engine.networks import place_for, why_unreachable
from controller.engine.reader import DockerReader, checked_name
from controller.engine.shape import container_json
from controller.errors import EngineConflict, EngineError, EngineRefused
from controller.interfaces import ContainerPlan
from controller.model.ids import ContainerId

_BEING_REMOVED: Final = "already in progress"


class DockerWriter(DockerReader):
    """`EngineWriter` over one connection."""

    async def create(self, plan: ContainerPlan) -> ContainerId:
        """Create, not start. Raises EngineConflict when the name is taken, EngineRefused when it can never work."""
        place = await place_for(plan.network_policy, self._connection)
        unreachable = why_unreachable(plan.controller_host, place)
        if unreachable:
            raise EngineRefused(unreachable)
        connected = self._connection.connected
        body = container_json(plan, place=place, cpu_count=connected.cpu_count)

        def judge(refusal: Refusal) -> EngineError:
            if refusal.status == 404 and "image" in refusal.message.lower():
                return EngineRefused(f"no such image: {plan.image} (docker pull {plan.image} first)")
            return about_create(refusal)

        async with asking(f"create {plan.name}", limit_s=self._connection.limits.create_s, judge=judge):
            container = await connected.clients.changes.containers.create(body, name=plan.name)
            return ContainerId(container.id)

    async def start(self, container: ContainerId) -> None:
        """Start. Raises EngineRefused with the engine's words when command, mount or port will not do.

        An EngineUnavailable leaves open whether it started: only an inspect tells.
        """
        target = self._connection.connected.clients.changes.containers.container(checked_name(container))
        async with asking("start", limit_s=self._connection.limits.start_s, judge=about_start):
            await target.start()

    async def stop(self, container: ContainerId, *, grace_s: float) -> None:
        """Ask to stop, kill after the grace; returns once it has ended. Raises ContainerGone on a definite 404."""
        grace_whole_s = max(math.ceil(grace_s), 0)
        limit_s = grace_whole_s + self._connection.limits.stop_extra_s
        target = self._connection.connected.clients.stops.containers.container(checked_name(container))
        async with asking("stop", limit_s=limit_s, judge=about_change):
            await target.stop(t=grace_whole_s)

    async def remove(self, container: ContainerId) -> None:
        """Remove one that has ended, with its anonymous volumes. Raises EngineConflict when it runs."""
        target = self._connection.connected.clients.changes.containers.container(checked_name(container))
        try:
            async with asking("remove", limit_s=self._connection.limits.remove_s, judge=about_change):
                await target.delete(v=True)
        except EngineConflict as error:
            if _BEING_REMOVED not in str(error):
                raise
