"""Names, labels and fingerprints of sessions: what a container of ours carries, and what a spec is known by."""

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Final

from controller.core.rules import Rules
from controller.model.ids import ActionId, SessionId, SessionName
from controller.model.session import Session
from controller.model.spec import SessionSpec

NAME_RULE: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")

LABEL_PREFIX: Final = "agentd.prefix"
LABEL_SESSION: Final = "agentd.session"
LABEL_AGENT_ID: Final = "agentd.agent-id"
LABEL_CONTROLLER: Final = "agentd.controller"
LABEL_SPEC: Final = "agentd.spec"
LABEL_CREATE: Final = "agentd.create"
LABEL_ROLE: Final = "agentd.role"
ROLE_CONTROLLER: Final = "controller"
ROLE_SESSION: Final = "session"
LABEL_WATCH: Final = "agentd.watch"
LABEL_RESTART: Final = "agentd.restart"
LABEL_MAX_ATTEMPTS: Final = "agentd.max-attempts"
LABEL_RESTART_WINDOW: Final = "agentd.restart-window"
LABEL_UNHEALTHY_RESTART: Final = "agentd.unhealthy-restart-s"


def container_name(prefix: str, name: SessionName) -> str:
    """The one name that a session's container can have, so that a repeated create collides."""
    return f"{prefix}-{name}"


def labels_for(session: Session, rules: Rules, *, create: ActionId) -> Mapping[str, str]:
    """All labels of a container of ours: the user's, and the sketch's triple with owner, spec, create and role.

    The create tells it from the session's other containers. The role is written because an image's labels are its
    container's, too, and an image built from ours has that role.
    """
    asked = session.spec.labels if session.spec is not None else {}
    return {
        **asked,
        LABEL_PREFIX: rules.prefix,
        LABEL_SESSION: session.name,
        LABEL_AGENT_ID: session.name,
        LABEL_CONTROLLER: rules.controller_id,
        LABEL_SPEC: session.spec_hash,
        LABEL_CREATE: create,
        LABEL_ROLE: ROLE_SESSION,
    }


def spec_hash(spec: SessionSpec, key: bytes) -> str:
    """A keyed fingerprint of a spec: it goes into a label, and must not let anybody guess an environment value."""
    text = json.dumps(asdict(spec), sort_keys=True, separators=(",", ":"))
    return hmac.new(key, b"spec\0" + text.encode(errors="replace"), hashlib.sha256).hexdigest()[:24]


def session_token(key: bytes, session_id: SessionId) -> str:
    """What an agent shows when it connects; made from the ledger's key, so that no secret is stored per session."""
    return hmac.new(key, b"session\0" + session_id.encode(), hashlib.sha256).hexdigest()
