"""From which network a container can reach the controller, on engines that answer as the real ones were seen to."""

import json
from pathlib import Path

import pytest

from controller.errors import EngineRefused
from controller.model.spec import NetworkPolicy
from controller.settings import load
from tests.engine.answering import answering
from tests.engine.test_translating import ABOUT
from tests.support.backends import SHORT, backend_at, plan_for
from tests.support.fault_proxy import Fault, FaultProxy, Request, Rule, Status

CREATED = "a" * 64
ON_HOST = "host.docker.internal"
BY_NAME = "controller"


def network(name: str, *, isolated: bool = False, gateway: str | None = "172.19.0.1") -> dict[str, object]:
    """One row of the engine's list."""
    options = {"com.docker.network.bridge.gateway_mode_ipv4": "isolated"} if isolated else {}
    config = {"Subnet": "172.19.0.0/16", **({"Gateway": gateway} if gateway else {})}
    return {"Name": name, "Internal": True, "Options": options, "IPAM": {"Config": [config]}}


def engine(version: str, *networks: dict[str, object]) -> Rule:
    """One that has these networks and creates whatever it is asked for."""

    def created(request: Request) -> Fault | None:
        return Status(201, json.dumps({"Id": CREATED}).encode()) if request.path == "/containers/create" else None

    introduced = answering(created, version={**ABOUT["version"], "Version": version})

    def answer(request: Request) -> Fault | None:
        return Status(200, json.dumps(networks).encode()) if request.path == "/networks" else introduced(request)

    return answer


@pytest.mark.parametrize(
    ("rule", "policy", "controller_host", "refusal"),
    [
        (engine("28.5.2", network("agentd-isolated", isolated=True)), "isolated", ON_HOST, "has no way to the host"),
        (engine("28.5.2", network("agentd-isolated", isolated=True)), "isolated", BY_NAME, ""),
        (engine("28.5.2", network("agentd-isolated", isolated=True)), "isolated", "", ""),
        (engine("28.5.2", network("agentd-isolated")), "isolated", ON_HOST, ""),
        (engine("28.5.2", network("agentd-isolated", gateway=None)), "isolated", ON_HOST, "has no way to the host"),
        # It takes the word and ignores it: the host answers at the gateway.
        (engine("26.1.5", network("agentd-isolated", isolated=True)), "isolated", ON_HOST, ""),
        (engine("20.10.24", network("agentd-isolated")), "isolated", ON_HOST, ""),
        (engine("28.5.2"), "internet", BY_NAME, "the default bridge does not know the name controller"),
        (engine("28.5.2"), "internet", ON_HOST, ""),
        (engine("28.5.2"), "internet", "192.0.2.7", ""),
        (engine("28.5.2"), "internet", "", ""),
        (engine("28.5.2", network("agentd")), "internet", BY_NAME, ""),
        (engine("28.5.2"), "host_network", "127.0.0.1", ""),
    ],
)
async def test_what_must_connect_and_never_can_is_refused_before_it_is_created(
    folder: Path, rule: Rule, policy: str, controller_host: str, refusal: str
) -> None:
    plan = plan_for("one", network_policy=NetworkPolicy(policy), controller_host=controller_host)
    proxy = FaultProxy(listen=folder / "p", upstream=folder / "none", rule=rule)
    async with proxy, backend_at(proxy.url, limits=SHORT) as backend:
        await backend.connect()
        if not refusal:
            assert await backend.create(plan) == CREATED
            return
        with pytest.raises(EngineRefused, match=refusal) as refused:
            await backend.create(plan)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("bind", "url"),
    [
        ("127.0.0.1", "ws://127.0.0.1:7006"),
        ("0.0.0.0", "ws://127.0.0.1:7006"),
        ("192.0.2.7", "ws://192.0.2.7:7006"),
        ("::", "ws://[::1]:7006"),
        ("::1", "ws://[::1]:7006"),
    ],
)
def test_sessions_on_the_hosts_network_get_an_address_where_the_controller_listens(bind: str, url: str) -> None:
    assert load({"DOCKER_HOST": "unix:///nowhere", "HOME": "/nowhere", "AGENTD_BIND": bind}).host_url == url
