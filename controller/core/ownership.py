"""Whose container is it? First match decides (`DESIGN.md`). And what an external container is called."""

import hashlib
import re
from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Final

from controller.core.rules import Rules
from controller.core.specs import (
    LABEL_CONTROLLER,
    LABEL_PREFIX,
    LABEL_ROLE,
    LABEL_SESSION,
    LABEL_WATCH,
    ROLE_CONTROLLER,
    container_name,
)
from controller.model.ids import ContainerId, SessionId, SessionName

_NOT_IN_NAMES: Final = re.compile(r"[^a-z0-9_.-]")
_NAME_LENGTH: Final = 63
_WATCHED_BY_ALL: Final = ("true", "1", "yes")
_WATCHED_BY_NONE: Final = ("", "false", "0", "no")
_COMPOSE: Final = "com.docker.compose."


class Owner(StrEnum):
    """The five classes, and those that are none of our business."""

    KNOWN = "known"
    CONTROLLER = "controller"
    FOREIGN = "foreign"
    EXTERNAL = "external"
    OURS = "ours"
    NONE = "none"


def classify(
    container: ContainerId, labels: Mapping[str, str], *, known: Mapping[ContainerId, SessionId], rules: Rules
) -> Owner:
    """Whose container it is. Labels are claims; only the ledger's own knowledge beats them."""
    if container in known:
        return Owner.KNOWN
    if labels.get(LABEL_ROLE) == ROLE_CONTROLLER:
        return Owner.CONTROLLER
    carries_prefix = labels.get(LABEL_PREFIX) == rules.prefix
    if carries_prefix and labels.get(LABEL_CONTROLLER, rules.controller_id) != rules.controller_id:
        return Owner.FOREIGN
    if labels.get(LABEL_WATCH, "") not in _WATCHED_BY_NONE:
        return Owner.EXTERNAL
    return Owner.OURS if carries_prefix else Owner.NONE


def may_act_on(labels: Mapping[str, str], rules: Rules) -> bool:
    """Whether an external container lets this controller act: `agentd.watch=PREFIX` names the only one that may."""
    return labels.get(LABEL_WATCH, "") in (*_WATCHED_BY_ALL, rules.prefix)


def claimed_name(labels: Mapping[str, str], rules: Rules) -> str:
    """The session that a container with our prefix says it is of. The sketch wrote the prefix in front of it."""
    return labels.get(LABEL_SESSION, "").removeprefix(f"{rules.prefix}-")


def may_be_a_copy(name: str, labels: Mapping[str, str], rules: Rules) -> bool:
    """Whether the labels say that we made it, and the name does not: it is a copy, or somebody has renamed it.

    An image made of a session's container (`docker commit`) hands the labels on to all that is run from it, never the
    name. What the sketch made names no controller.
    """
    if LABEL_CONTROLLER not in labels or LABEL_SESSION not in labels:
        return False
    told = (labels[LABEL_SESSION], claimed_name(labels, rules))
    return name not in {container_name(rules.prefix, SessionName(session)) for session in told}


def external_key(engine: str, name: str, labels: Mapping[str, str]) -> str:
    """What stays the same when an external container is recreated. Never the container id."""
    project, service = labels.get(f"{_COMPOSE}project"), labels.get(f"{_COMPOSE}service")
    if project and service and labels.get(f"{_COMPOSE}oneoff", "False") != "True":
        return f"{engine}:compose:{project}/{service}/{labels.get(f'{_COMPOSE}container-number', '1')}"
    return f"{engine}:name:{name}"


def external_session_id(key: str, rules: Rules) -> SessionId:
    """The same key has the same id in one ledger, for ever."""
    return SessionId(_digest(f"{rules.controller_id}\0{key}")[:32])


def name_for(
    name: str, labels: Mapping[str, str], *, key: str, taken: Collection[SessionName], rules: Rules
) -> SessionName:
    """The session name that a container asks for; suffixed with six digits of its key's hash when that is taken.

    Labels can ask for the suffixed name of another container too: then the hash is taken again. No two have one name.
    """
    asked = found = wanted_name(name, labels, rules)
    while found in taken:
        key = _digest(key)
        found = SessionName(f"{asked[: _NAME_LENGTH - 7]}-{key[:6]}")
    return found


def wanted_name(name: str, labels: Mapping[str, str], rules: Rules) -> SessionName:
    """`agentd.session`, else project-service-number, else the container's name, made to fit the rule for names."""
    project, service = labels.get(f"{_COMPOSE}project"), labels.get(f"{_COMPOSE}service")
    if labels.get(LABEL_SESSION):
        asked = claimed_name(labels, rules)
    elif project and service and labels.get(f"{_COMPOSE}oneoff", "False") != "True":
        asked = f"{project}-{service}-{labels.get(f'{_COMPOSE}container-number', '1')}"
    else:
        asked = name
    fitting = _NOT_IN_NAMES.sub("-", asked.lower()).lstrip("_.-")[:_NAME_LENGTH]
    return SessionName(fitting or "unnamed")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()
