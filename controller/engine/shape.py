"""A ContainerPlan as the JSON of a create. Pure."""

import math
from collections.abc import Mapping
from typing import Final

from aiodocker.types import JSONValue

from controller.engine.networks import HOST_NAME, Place
from controller.interfaces import ContainerPlan
from controller.model.spec import WORKSPACE, Mount

_NANO_CPUS: Final = 1_000_000_000


def container_json(plan: ContainerPlan, *, place: Place, cpu_count: int | None) -> dict[str, JSONValue]:
    """The body of `POST /containers/create`.

    The engine's restart policy is always off: one owner of restarts. An init process reaps children and passes
    signals on. A limit of more CPUs than the engine has means all of them; engines refuse it, so it is cut.
    """
    cpus = plan.cpus if cpu_count is None else min(plan.cpus, float(cpu_count))
    host: dict[str, JSONValue] = {
        "Memory": plan.memory_bytes,
        "NanoCpus": round(cpus * _NANO_CPUS),
        "Init": True,
        "RestartPolicy": {"Name": "no"},
        "NetworkMode": place.network,
        "Mounts": [_mount(mount) for mount in _mounts(plan)],
    }
    if place.host is not None:
        host["ExtraHosts"] = [f"{HOST_NAME}:{place.host}"]
    return {
        "Image": plan.image,
        "Env": [f"{name}={value}" for name, value in plan.env.items()],
        "Labels": dict(plan.labels),
        "StopTimeout": math.ceil(plan.stop_grace_s),
        "Tty": False,
        "HostConfig": host,
        **_unless_empty("Cmd", list(plan.command)),
        **_unless_empty("User", plan.user),
        **_unless_empty("WorkingDir", WORKSPACE if plan.workdir else None),
    }


def _unless_empty(key: str, value: JSONValue) -> Mapping[str, JSONValue]:
    # Left out, the image's own command, user and folder hold.
    return {key: value} if value else {}


def _mounts(plan: ContainerPlan) -> list[Mount]:
    workspace = [Mount(source=plan.workdir, target=WORKSPACE)] if plan.workdir else []
    return [*workspace, *plan.mounts]


def _mount(mount: Mount) -> dict[str, JSONValue]:
    # Mounts, not Binds: a missing folder is refused instead of made for root, and a colon needs no escape.
    kind = "bind" if mount.source.startswith("/") else "volume"
    return {"Type": kind, "Source": mount.source, "Target": mount.target, "ReadOnly": mount.read_only}
