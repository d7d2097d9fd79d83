"""Everything that a container of ours is created with. Used by `act`; the result is never logged or stored."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from controller.core.rules import Rules
from controller.core.specs import container_name, labels_for, session_token
from controller.interfaces import ContainerPlan
from controller.loops.roster import Roster
from controller.model.action import Action
from controller.model.ids import SessionId
from controller.model.session import Session
from controller.model.spec import NetworkPolicy, SessionSpec


class Creation:
    """Turns a session's spec into a plan, with the values that only the controller has."""

    def __init__(
        self,
        *,
        roster: Roster,
        rules: Rules,
        environment: Mapping[str, str],
        forwarded: tuple[str, ...],
        key: bytes,
        agent_url: str,
        host_url: str,
    ) -> None:
        self._roster = roster
        self._rules = rules
        self._environment = environment
        self._forwarded = forwarded
        self._key = key
        self._agent_url = agent_url
        self._host_url = host_url

    def name_of(self, session_id: SessionId) -> str:
        """The one name that its container can have."""
        return container_name(self._rules.prefix, self._roster.sessions[session_id].name)

    def plan_for(self, action: Action) -> ContainerPlan | None:
        """The plan of a create; None when its session has no spec."""
        session = self._roster.sessions[action.session_id]
        spec = session.spec
        if spec is None:
            return None
        return ContainerPlan(
            name=self.name_of(session.id),
            image=spec.image,
            command=spec.command,
            env=self._env_of(session, spec),
            labels=labels_for(session, self._rules, create=action.id),
            memory_bytes=spec.memory_bytes,
            cpus=spec.cpus,
            mounts=spec.mounts,
            workdir=spec.workdir,
            network_policy=spec.network_policy,
            stop_grace_s=self._rules.grace_of(spec),
            user=spec.user,
            controller_host=urlsplit(self._url_for(spec)).hostname or "" if spec.expect_connection else "",
        )

    def _url_for(self, spec: SessionSpec) -> str:
        on_host = spec.network_policy is NetworkPolicy.HOST_NETWORK
        return self._host_url if on_host else self._agent_url

    def _env_of(self, session: Session, spec: SessionSpec) -> Mapping[str, str]:
        taken = dict.fromkeys((*self._forwarded, *spec.env_from))
        return {
            **{name: self._environment[name] for name in taken if self._environment.get(name)},
            **spec.env,
            "AGENT_TYPE": spec.agent_type,
            "MODEL_PROVIDER": spec.model_provider,
            "MODEL_NAME": spec.model_name,
            "AGENTD_SESSION": session.name,
            "AGENTD_SESSION_TOKEN": session_token(self._key, session.id),
            "AGENTD_WS_URL": f"{self._url_for(spec)}/ws/{session.name}",
        }
