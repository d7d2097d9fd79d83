"""Which network a session's container joins, by its network policy; makes the internal one where it is missing.

`compose.yaml` creates both by the same fixed names, so that agents and controller meet on them.
"""

from collections.abc import Mapping
from typing import Final, assert_never

from controller.engine import translate
from controller.engine.connection import Connection
from controller.engine.failures import about_create, asking
from controller.errors import EngineConflict, EngineRefused, EngineUnavailable
from controller.model.spec import NetworkPolicy

OPEN_NETWORK: Final = "agentd"
ISOLATED_NETWORK: Final = "agentd-isolated"

_ISOLATED_MODE: Final = "com.docker.network.bridge.gateway_mode_ipv4"
_ISOLATED_MODE_SINCE: Final = (27, 1)
"""From there on an internal network can do without an address of the host on it."""


async def network_for(policy: NetworkPolicy, connection: Connection) -> str:
    """The network to name in a create. Raises EngineRefused when `agentd-isolated` is not what its name says."""
    match policy:
        case NetworkPolicy.HOST_NETWORK:
            return "host"
        case NetworkPolicy.INTERNET:
            return OPEN_NETWORK if await _find(OPEN_NETWORK, connection) else "bridge"
        case NetworkPolicy.ISOLATED:
            async with connection.network_lock:
                await _need_isolated(connection)
            return ISOLATED_NETWORK
        case _:
            assert_never(policy)


async def _need_isolated(connection: Connection) -> None:
    network = await _find(ISOLATED_NETWORK, connection)
    if network is None:
        await _create_isolated(connection)
    elif network.get("Internal") is not True:
        raise EngineRefused(f"the network {ISOLATED_NETWORK} is not internal: remove it, and it is made anew")


async def _find(name: str, connection: Connection) -> Mapping[str, object] | None:
    async with asking("list networks", limit_s=connection.limits.network_s):
        answer: object = await connection.connected.clients.calls.networks.list(filters={"name": [name]})
    if not isinstance(answer, list):
        raise EngineUnavailable("list networks: the answer is not a list")
    # The filter also finds names that only contain this one.
    return next((item for item in answer if isinstance(item, Mapping) and item.get("Name") == name), None)


async def _create_isolated(connection: Connection) -> None:
    connected = connection.connected
    config: dict[str, object] = {
        "Name": ISOLATED_NETWORK,
        "Driver": "bridge",
        "Internal": True,
        "CheckDuplicate": True,
    }
    if (
        connected.info.name == translate.DOCKER
        and translate.major_minor(connected.info.version) >= _ISOLATED_MODE_SINCE
    ):
        config["Options"] = {_ISOLATED_MODE: "isolated"}
    try:
        async with asking("create a network", limit_s=connection.limits.network_s, judge=about_create):
            await connected.clients.calls.networks.create(config)
    except EngineConflict:
        # Another create was faster; what it made is what we wanted.
        return
