"""Identifiers. Each is its own type, so that one cannot be passed where another is meant."""

from typing import NewType

SessionId = NewType("SessionId", str)
"""Random hex for a session that was asked for; derived from the key of an external one. Never reused."""

SessionName = NewType("SessionName", str)
"""What people type: `[a-z0-9][a-z0-9_.-]{0,62}`, unique among sessions that are not removed."""

ContainerId = NewType("ContainerId", str)
"""The engine's full 64-digit container id."""

ControllerId = NewType("ControllerId", str)
"""Random id of the ledger that owns a container (label `agentd.controller`)."""

EngineId = NewType("EngineId", str)
"""The engine's own id, from `/info`."""

ActionId = NewType("ActionId", str)
"""`{session id}/{n}`: the n-th action that was ever decided for a session."""
