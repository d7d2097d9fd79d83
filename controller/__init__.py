"""agentd-controller: a truthful record of every agent session, and reality kept in step with it."""

__version__ = "0.1.0"
