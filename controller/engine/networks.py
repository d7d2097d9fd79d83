"""Which network a session's container joins, by its network policy; makes the internal one where it is missing.

`compose.yaml` creates both by the same fixed names, so that agents and controller meet on them. Where an agent could
never reach the controller from the network, and has to, that is said before anything is created.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, assert_never

from controller.engine import translate
from controller.engine.connection import Connection
from controller.engine.failures import about_create, asking
from controller.errors import EngineConflict, EngineRefused, EngineUnavailable
from controller.model.spec import NetworkPolicy

OPEN_NETWORK: Final = "agentd"
ISOLATED_NETWORK: Final = "agentd-isolated"
HOST_NAME: Final = "host.docker.internal"

_ISOLATED_MODE: Final = "com.docker.network.bridge.gateway_mode_ipv4"
_ISOLATED_MODE_SINCE: Final = (28, 0)
"""From there on an internal network can do without an address of the host on it. Engine 27 refuses the word."""
_DEFAULT_BRIDGE: Final = "bridge"
_HOST_GATEWAY: Final = "host-gateway"
"""The engine's own word for the host's address on the default bridge."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A network as a container sees it."""

    network: str
    host: str | None = None
    """The address that `host.docker.internal` is to mean there; None where the host has none."""


async def place_for(policy: NetworkPolicy, connection: Connection) -> Place:
    """The network to name in a create. Raises EngineRefused when `agentd-isolated` is not what its name says."""
    match policy:
        case NetworkPolicy.HOST_NETWORK:
            return Place(network="host")
        case NetworkPolicy.INTERNET:
            is_there = await _find(OPEN_NETWORK, connection) is not None
            return Place(network=OPEN_NETWORK if is_there else _DEFAULT_BRIDGE, host=_HOST_GATEWAY)
        case NetworkPolicy.ISOLATED:
            async with connection.network_lock:
                network = await _isolated(connection)
            return Place(network=ISOLATED_NETWORK, host=_gateway_of(network, connection))
        case _:
            assert_never(policy)


def why_unreachable(controller_host: str, place: Place) -> str:
    """Why that host name can never lead to the controller from there; empty where it may."""
    if place.network == _DEFAULT_BRIDGE and _is_network_name(controller_host):
        return (
            f"it must hold a connection, and the default bridge does not know the name {controller_host}: create the "
            f"network {OPEN_NETWORK} with the controller on it, or set AGENTD_AGENT_URL to an address"
        )
    if place.network == ISOLATED_NETWORK and controller_host == HOST_NAME and place.host is None:
        return (
            f"it must hold a connection, and {ISOLATED_NETWORK} has no way to the host, where the controller is: run "
            f"the controller as a container on {ISOLATED_NETWORK}, or use another network policy"
        )
    return ""


def _is_network_name(host: str) -> bool:
    """Whether only an engine's network can know that name: it is no address, and no domain."""
    return bool(host) and not any(mark in host for mark in ".:")


def _gateway_of(network: Mapping[str, object], connection: Connection) -> str | None:
    """The host's address on the isolated network. An internal one has no other way to the host since Engine 26."""
    options, ipam = network.get("Options"), network.get("IPAM")
    asked = isinstance(options, Mapping) and options.get(_ISOLATED_MODE) == "isolated"
    if asked and _has_isolated_mode(connection):
        return None
    configs = ipam.get("Config") if isinstance(ipam, Mapping) else None
    for config in configs if isinstance(configs, list) else ():
        gateway = config.get("Gateway") if isinstance(config, Mapping) else None
        if isinstance(gateway, str) and gateway:
            return gateway
    return None


async def _isolated(connection: Connection) -> Mapping[str, object]:
    network = await _find(ISOLATED_NETWORK, connection)
    if network is None:
        await _create_isolated(connection)
        network = await _find(ISOLATED_NETWORK, connection)
    if network is None:
        raise EngineUnavailable(f"the network {ISOLATED_NETWORK} was made and is not there")
    if network.get("Internal") is not True:
        raise EngineRefused(f"the network {ISOLATED_NETWORK} is not internal: remove it, and it is made anew")
    return network


async def _find(name: str, connection: Connection) -> Mapping[str, object] | None:
    async with asking("list networks", limit_s=connection.limits.network_s):
        answer: object = await connection.connected.clients.calls.networks.list(filters={"name": [name]})
    if not isinstance(answer, list):
        raise EngineUnavailable("list networks: the answer is not a list")
    # The filter also finds names that only contain this one.
    return next((item for item in answer if isinstance(item, Mapping) and item.get("Name") == name), None)


async def _create_isolated(connection: Connection) -> None:
    config: dict[str, object] = {
        "Name": ISOLATED_NETWORK,
        "Driver": "bridge",
        "Internal": True,
        "CheckDuplicate": True,
    }
    if _has_isolated_mode(connection):
        config["Options"] = {_ISOLATED_MODE: "isolated"}
    try:
        async with asking("create a network", limit_s=connection.limits.network_s, judge=about_create):
            await connection.connected.clients.calls.networks.create(config)
    except EngineConflict:
        # Another create was faster; what it made is what we wanted.
        return


def _has_isolated_mode(connection: Connection) -> bool:
    info = connection.connected.info
    return info.name == translate.DOCKER and translate.major_minor(info.version) >= _ISOLATED_MODE_SINCE
