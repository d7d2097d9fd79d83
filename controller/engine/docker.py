"""The backend for Docker Engine, and what else speaks its API: all of `ExecutionBackend` over one connection."""

from typing import Self

from controller.engine.connection import Address, Connection
from controller.engine.limits import TimeLimits
from controller.engine.logs import DockerLogs
from controller.engine.sketch import Owner, SketchOperations
from controller.model.ids import ControllerId
from controller.settings import Settings


class DockerBackend(SketchOperations, DockerLogs):
    """`ExecutionBackend` for one engine. Call `connect` before anything else, and `close` at the end."""

    def __init__(self, *, address: Address, owner: Owner, limits: TimeLimits | None = None) -> None:
        """Opens nothing yet. Raises SettingsError when the TLS files will not do."""
        super().__init__(Connection(address, limits or TimeLimits()), owner)

    @classmethod
    def from_settings(cls, settings: Settings, *, controller_id: ControllerId | None = None) -> Self:
        """The backend that the settings name. With a controller id the sketch's operations touch only its own."""
        return cls(
            address=Address(
                url=settings.docker_host,
                tls_verify=settings.docker_tls_verify,
                cert_path=settings.docker_cert_path,
            ),
            owner=Owner(prefix=settings.prefix, controller_id=controller_id, stop_grace_s=settings.stop_grace_s),
        )

    async def __aenter__(self) -> Self:
        """Closed at the end, connected or not."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.close()

    async def close(self) -> None:
        """Close all connections. Safe to repeat."""
        await self._connection.close()
