"""Builders for the Docker backend under test."""

from collections.abc import Mapping

from controller.engine.connection import Address
from controller.engine.docker import DockerBackend
from controller.engine.limits import TimeLimits
from controller.engine.sketch import Owner
from controller.interfaces import ContainerPlan
from controller.model.ids import ControllerId
from controller.model.spec import NetworkPolicy
from tests.support.private_engine import BUSYBOX_IMAGE

CONTROLLER = ControllerId("c0ffee")

SHORT = TimeLimits(
    connect_s=0.3,
    info_s=0.3,
    list_s=0.3,
    inspect_s=0.3,
    create_s=0.3,
    network_s=0.3,
    start_s=0.3,
    stop_extra_s=0.3,
    remove_s=0.3,
    logs_s=0.3,
    head_s=0.3,
    overdue_s=0.3,
)


def backend_at(
    url: str, *, limits: TimeLimits | None = None, controller_id: ControllerId | None = CONTROLLER
) -> DockerBackend:
    """A backend for prefix `agentd`, not connected yet."""
    owner = Owner(prefix="agentd", controller_id=controller_id, stop_grace_s=1)
    return DockerBackend(address=Address(url=url), owner=owner, limits=limits)


def session_labels(session: str, **more: str) -> dict[str, str]:
    """What the controller writes on a session's container."""
    return {
        "agentd.prefix": "agentd",
        "agentd.session": session,
        "agentd.agent-id": session,
        "agentd.controller": CONTROLLER,
        **{f"agentd.{key}": value for key, value in more.items()},
    }


def plan_for(
    session: str,
    *command: str,
    labels: Mapping[str, str] | None = None,
    network_policy: NetworkPolicy = NetworkPolicy.INTERNET,
    image: str = BUSYBOX_IMAGE,
    workdir: str | None = None,
    name: str | None = None,
    controller_host: str = "",
) -> ContainerPlan:
    """A plan with small limits, for the busybox image."""
    return ContainerPlan(
        name=name or f"agentd-{session}",
        image=image,
        command=command or ("sleep", "1000"),
        env={"AGENT_TYPE": "general"},
        labels=labels if labels is not None else session_labels(session),
        memory_bytes=64 * 1024 * 1024,
        cpus=2,
        mounts=(),
        workdir=workdir,
        network_policy=network_policy,
        stop_grace_s=1,
        controller_host=controller_host,
    )
