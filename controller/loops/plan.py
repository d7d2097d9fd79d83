"""What a sweep is going to do, in words: each finding, each action and each spared container, with reasons.

Used by `sweep` for whoever asked for one. It inspects orphan candidates, as the removal itself will do again.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, assert_never

from controller.core.admission import BEING_CREATED, Spared, admit, spared_as
from controller.core.drift import Finding, FindingKind
from controller.core.rules import Rules
from controller.core.untrusted import one_line
from controller.errors import ContainerGone, EngineUnavailable
from controller.interfaces import PlanLine
from controller.loops.condition import ControllerCondition
from controller.loops.look import Look
from controller.loops.roster import Roster
from controller.loops.working_copy import WorkingCopy
from controller.model.observation import ContainerAdmitted
from controller.model.session import Origin

_GONE: Final = "it has gone meanwhile"


class Planner:
    """Findings in, plan lines out. Changes nothing."""

    def __init__(self, *, look: Look, roster: Roster, condition: ControllerCondition, rules: Rules) -> None:
        self._look = look
        self._roster = roster
        self._condition = condition
        self._rules = rules

    async def lines(self, findings: Sequence[Finding], *, remove_orphans: bool) -> tuple[PlanLine, ...]:
        """One line a finding, in order. Raises EngineUnavailable when the engine itself does not answer."""
        rules = replace(self._rules, orphan_policy="remove") if remove_orphans else self._rules
        return tuple([await self._line(finding, rules) for finding in findings])

    async def _line(self, finding: Finding, rules: Rules) -> PlanLine:
        match finding.kind:
            case FindingKind.MISSING | FindingKind.MISMATCH:
                return _line(finding, action="look")
            case FindingKind.NEW:
                return _line(finding, action="watch")
            case FindingKind.SPARED | FindingKind.FOREIGN | FindingKind.CONTROLLER:
                return _line(finding, action="none")
            case FindingKind.ORPHAN:
                return await self._of_orphan(finding, rules)
            case _:
                assert_never(finding.kind)

    async def _of_orphan(self, finding: Finding, rules: Rules) -> PlanLine:
        try:
            seen = await self._look.now(finding.container)
        except ContainerGone:
            return replace(_line(finding, action="none"), reason=_GONE)
        except EngineUnavailable as error:
            if not (self._condition.accepted and self._condition.reachable):
                raise
            # One container that hangs must not hide what is to be said of the others.
            why = f"it could not be asked: {one_line(str(error), limit=300)}"
            return replace(_line(finding, action="none"), finding="spared", reason=why)
        engine_now = self._condition.engine_now()
        verdict = admit(seen, directory=WorkingCopy(self._roster).directory(), engine_now=engine_now, rules=rules)
        if isinstance(verdict, ContainerAdmitted):
            return _line(finding, action="adopt" if rules.orphan_policy == "adopt" else "remove")
        if not isinstance(verdict, Spared) and self._roster.sessions[verdict].origin is not Origin.ORPHAN:
            return _line(finding, action="look")
        if isinstance(verdict, Spared) and verdict.reason == BEING_CREATED:
            return replace(_line(finding, action="none"), finding="spared", reason=verdict.reason)
        # Also one that was found, and spared, before: it is judged like the first time.
        if spared := spared_as(seen.snapshot, engine_now=engine_now, rules=replace(rules, orphan_policy="remove")):
            return replace(_line(finding, action="none"), finding="spared", reason=spared)
        if rules.orphan_policy == "report":
            return replace(_line(finding, action="report"), reason="the orphan policy is report")
        return _line(finding, action="remove" if rules.orphan_policy == "remove" else "none")


def _line(finding: Finding, *, action: str) -> PlanLine:
    return PlanLine(
        container=finding.container,
        name=finding.name,
        finding=finding.kind.value,
        action=action,
        reason=finding.reason,
        session=finding.session,
    )
