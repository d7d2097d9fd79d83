"""What the target of an action shows before anything is sent. Pure; used by `act`."""

from collections.abc import Mapping, Sequence
from typing import Final

from controller.core.event_facts import stands_for
from controller.core.looks import shows_a_run_before
from controller.core.rules import Rules
from controller.core.specs import LABEL_CONTROLLER, LABEL_SESSION, LABEL_SPEC
from controller.errors import EngineUnavailable
from controller.model.action import Action, ActionKind, Outcome, OutcomeKind
from controller.model.container import ContainerState, Snapshot
from controller.model.session import Attempt, Session

DEAD: Final = "its container is dead: the engine could not remove all of it, and starts it no more"
_RUNS: Final = (ContainerState.RUNNING, ContainerState.PAUSED, ContainerState.RESTARTING)


def already(action: Action, snapshot: Snapshot, *, attempts: Sequence[Attempt] = ()) -> Outcome | None:
    """How the action has ended before it is sent; None when it is still to be sent.

    `attempts` are those that the session knows by now: runs of the target before and after the one that the action
    was decided on tell whether it has moved. Raises EngineUnavailable while the engine is removing the target: the
    answer will be certain soon.
    """
    runs = [one for one in attempts if one.container == action.container]
    kind = _already(action, snapshot, moved=_has_moved(action, snapshot, runs))
    message = DEAD if kind is OutcomeKind.REFUSED else ""
    return None if kind is None else Outcome(action=action, kind=kind, message=message, snapshot=snapshot)


def is_of_another(labels: Mapping[str, str], *, session: Session, rules: Rules) -> str:
    """Why a container that a create comes upon is not the one that we asked for; empty when it is."""
    if labels.get(LABEL_CONTROLLER) != rules.controller_id:
        return "its container is not of this controller"
    if labels.get(LABEL_SESSION) != session.name or labels.get(LABEL_SPEC) != session.spec_hash:
        return "its container is of another session or spec"
    return ""


def is_image(shown: str, *, asked: str) -> bool:
    """Whether a container is of the image that was asked for. Podman has whole names: docker.io/library/NAME:latest."""
    return shown == asked or shown.endswith((f"/{asked}", f"/{asked}:latest"))


def _already(action: Action, snapshot: Snapshot, *, moved: bool) -> OutcomeKind | None:
    runs = snapshot.state in _RUNS
    if snapshot.state is ContainerState.REMOVING:
        raise EngineUnavailable("the engine is removing it")
    match action.kind:
        case ActionKind.START if snapshot.state is ContainerState.DEAD:
            return OutcomeKind.REFUSED
        case ActionKind.START:
            return OutcomeKind.DONE if runs or moved else None
        case ActionKind.STOP if not runs:
            return OutcomeKind.DONE
        case ActionKind.STOP:
            return OutcomeKind.SUPERSEDED if moved else None
        case ActionKind.REMOVE:
            return OutcomeKind.SUPERSEDED if runs or moved else None
        case ActionKind.CREATE:
            return None


def _has_moved(action: Action, snapshot: Snapshot, runs: Sequence[Attempt]) -> bool:
    """Whether it was started again since the action was decided."""
    if action.attempt and any(one.number > action.attempt and one.started_at is not None for one in runs):
        # The answer may have been on its way for longer than the event of a run that it does not show.
        return action.started_at is not None or action.kind is not ActionKind.STOP
    if snapshot.started_at is None:
        return False
    shown = next((one for one in runs if one.started_at == snapshot.started_at and not one.provisional), None)
    if action.started_at is None:
        return _has_run_since(action, snapshot, runs, shown)
    if shown is not None and action.attempt:
        # An engine that was killed may have forgotten its latest run and show the one before it: that is no move.
        return shown.number > action.attempt
    decided_on = next((one for one in runs if one.number == action.attempt and not one.provisional), None)
    if decided_on is not None:
        return True
    # While an attempt's own StartedAt is provisional, the action holds the time of its `start` event.
    return not stands_for(action.started_at, snapshot.started_at)


def _has_run_since(action: Action, snapshot: Snapshot, runs: Sequence[Attempt], shown: Attempt | None) -> bool:
    """The same, for what was decided on an attempt that had not run: it was only made, or its start was refused."""
    if action.kind is ActionKind.STOP or not action.attempt:
        # A stop holds for a start that was not known yet. Of what was found lying about no attempt is known.
        return action.kind is ActionKind.START
    if shown is not None:
        return shown.number >= action.attempt
    decided_on = next((one for one in runs if one.number == action.attempt), None)
    before = [one for one in runs if one.number < action.attempt]
    return decided_on is None or not shows_a_run_before(decided_on, snapshot, earlier=before)
