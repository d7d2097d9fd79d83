"""What happens next to a session, or what a person can do about it. Pure; from the ledger alone.

It tells only what is stored as decided or due, and promises nothing that `transitions` has not decided.
"""

from typing import Final, assert_never

from controller.core.deadlines import is_at_rest
from controller.core.restart_policy import count_in_window
from controller.core.wording import clock, length, memory
from controller.model.container import EngineRestart
from controller.model.exit import Verdict
from controller.model.instant import Instant, after
from controller.model.phase import Desired, Health, Phase
from controller.model.reason import Reason
from controller.model.session import Intent, Origin, Session
from controller.model.spec import RestartMode, RestartPolicy

_LEFT_TO_OTHERS: Final = (Phase.PENDING, Phase.RUNNING, Phase.STOPPED, Phase.FAILED)
_FORBIDDEN: Final = "the controller may not start it here (`AGENTD_MODE`, or the label of another one)"


def outlook(session: Session, *, now: Instant, may_restart: bool = True) -> str:
    """One to three sentences. `may_restart` is whether the controller's mode lets it start and stop anything."""
    if session.removed_at is not None:
        return _removed(session, now=now)
    ours_to_start = session.phase in _LEFT_TO_OTHERS or session.next_attempt_at is not None
    if ours_to_start and not (may_restart and session.may_act):
        return _only_recorded(session)
    match session.phase:
        case Phase.PENDING:
            return _pending(session)
        case Phase.STARTING:
            return "The controller waits for the engine to say that it runs."
        case Phase.RUNNING:
            return _running(session, now=now)
        case Phase.PAUSED:
            return f"Stays paused until somebody resumes it: `docker unpause {_container(session)}`."
        case Phase.STOPPING:
            return _stopping(session, now=now)
        case Phase.BACKOFF:
            return _backoff(session, now=now)
        case Phase.STOPPED | Phase.FAILED:
            return f"{_ended(session, now=now)}{_container_kept(session, now=now)}"
        case _:
            assert_never(session.phase)


def _pending(session: Session) -> str:
    if session.is_external:
        return "It is for whoever made it to start it; the controller records that."
    return "Will be started now." if session.desired is Desired.RUNNING else f"{_start(session)} starts it."


def _only_recorded(session: Session) -> str:
    if session.phase is Phase.RUNNING:
        by_engine = "the engine's own restart policy decides" if _engine_restarts(session) else "it stays down"
        return f"Nothing is due. When it ends, {by_engine}: {_FORBIDDEN}."
    if session.phase is Phase.PENDING:
        return _pending(session) if session.is_external else f"It is not started: {_FORBIDDEN}."
    return f"It stays down: {_FORBIDDEN}. {_its_log(session)}."


def stop_intent(session: Session) -> Intent | None:
    """Our own stop of the present attempt, under way or only decided."""
    carried_out = session.attempt.intent if session.attempt is not None else None
    return session.stop_wanted if carried_out is None else carried_out


def memory_limit(session: Session) -> int:
    """In bytes, of the container, or of the one that it is to have; 0 for none."""
    if session.container is not None:
        return session.container.memory_limit_bytes
    return session.spec.memory_bytes if session.spec is not None else 0


def _removed(session: Session, *, now: Instant) -> str:
    at = "" if session.removed_at is None else f" at {clock(session.removed_at, now=now)}"
    if session.origin is Origin.EXTERNAL:
        return f"Its container was removed{at}. If it comes back (`docker compose up`), it is watched again."
    return f"Its container was removed{at}. Nothing will start it again; its name is free for a new session."


def _running(session: Session, *, now: Instant) -> str:
    due = []
    unhealthy_s = session.policy.unhealthy_restart_s
    if session.health is Health.UNHEALTHY and session.unhealthy_since is not None:
        if unhealthy_s is None:
            due.append("Its health is only recorded: its policy does not restart what is unhealthy.")
        else:
            at = clock(after(session.unhealthy_since, unhealthy_s), now=now)
            due.append(f"Will be restarted at {at} unless it is healthy by then.")
    if session.connection_due_at is not None and not session.connected:
        at = clock(session.connection_due_at, now=now)
        due.append(f"Will be restarted at {at} unless its agent connects by then.")
    if session.expires_at is not None:
        due.append(f"Will be stopped at {clock(session.expires_at, now=now)}, when its time to live is over.")
    return " ".join(due) or f"Nothing is due. {_when_it_ends(session)}"


def _when_it_ends(session: Session) -> str:
    if _engine_restarts(session):
        return "When it ends, the engine's own restart policy decides; the controller only records."
    match session.policy.mode:
        case RestartMode.NO:
            return "When it ends, it stays down (restart policy no)."
        case RestartMode.ON_FAILURE:
            return "If it fails, it is started again (restart policy on-failure)."
        case RestartMode.ALWAYS:
            return "When it ends, it is started again (restart policy always)."
        case _:
            assert_never(session.policy.mode)


def _stopping(session: Session, *, now: Instant) -> str:
    intent = stop_intent(session)
    opening = "It is about to end"
    if intent is not None:
        opening = f"Will be killed at {clock(after(intent.at, intent.grace_s), now=now)} unless it has ended by then"
    if session.removal_wanted:
        return f"{opening}; then its container is removed."
    if session.restart_wanted or session.desired is Desired.RUNNING:
        return f"{opening}; then it may be started again."
    return f"{opening}; then it stays down."


def _backoff(session: Session, *, now: Instant) -> str:
    if session.next_attempt_at is None:
        if _engine_restarts(session):
            return "The engine's own restart policy starts it again; the controller only records."
        return "The controller is deciding when to try again."
    if session.next_attempt_at <= now:
        return f"Is due to be tried again now, attempt {_next_attempt(session)}."
    at = clock(session.next_attempt_at, now=now)
    if session.crash_looping:
        return f"Will try again at {at}, slowly: {_spent(session.policy)}. {_start(session)} tries at once."
    return f"Will try again at {at}, attempt {_next_attempt(session)}."


def _next_attempt(session: Session) -> str:
    # Of how many: those so far, this one, and what the budget within the window leaves after it.
    number, limit = session.attempt_count + 1, session.policy.max_attempts
    if limit is None or session.next_attempt_at is None:
        return f"{number}"
    spent = count_in_window(session.policy, session.granted_at, start_at=session.next_attempt_at)
    return f"{number} of {number + max(limit - spent, 0)}"


def _ended(session: Session, *, now: Instant) -> str:
    if session.look_owed_until is not None and session.look_owed_until > now:
        return "The controller looks at it once more before it decides what follows."
    if session.provisional is not None:
        at = clock(session.provisional.until, now=now)
        return f"It stays down once it is sure, at {at}, that the engine itself was not stopping."
    if session.removal_wanted:
        return "Its container is about to be removed."
    if session.restart_wanted:
        return "Will be started again now."
    if session.crash_looping:
        return f"Will not be tried again: {_spent(session.policy)}. {_advice(session)}"
    if session.desired is Desired.RUNNING:
        return _wanted(session)
    return f"{_why_not(session)} {_advice(session)}"


def _container_kept(session: Session, *, now: Instant) -> str:
    if session.due_at is None or not is_at_rest(session):
        return ""
    if session.due_at <= now:
        return " Its container was kept for long enough and is about to be removed."
    return f" Its container is kept until {clock(session.due_at, now=now)}, then it is removed; what it said stays."


def _wanted(session: Session) -> str:
    if session.reason is Reason.CONTROLLER_SHUTDOWN and session.policy.mode is not RestartMode.NO:
        return f"Will be started again when the controller starts (restart policy {session.policy.mode})."
    if session.reason is Reason.CONTROLLER_SHUTDOWN:
        return f"Stays down (restart policy no). {_start(session)} starts it again."
    return f"It is wanted running, and the controller starts it as soon as it can. {_start(session)} asks again."


def _why_not(session: Session) -> str:
    match session.reason:
        case Reason.STOPPED_EXTERNALLY | Reason.KILLED_EXTERNALLY | Reason.REMOVED_EXTERNALLY:
            return "It stays down: what a person stopped is not restarted."
        case Reason.STOPPED_BY_REQUEST | Reason.EXPIRED | Reason.ORPHAN_FOUND:
            return "It stays down, as was asked for."
        case _ if session.policy.mode is RestartMode.NO:
            return "It stays down (restart policy no)."
        case Reason.START_FAILED:
            return "It stays down."
        case _ if session.policy.mode is RestartMode.ON_FAILURE and session.phase is Phase.STOPPED:
            return "It stays down (restart policy on-failure, and it did not fail)."
        case _:
            return f"It stays down: {_FORBIDDEN}."


def _advice(session: Session) -> str:
    start = f"{_start(session)} tries again."
    exit_ = session.attempt.exit if session.attempt is not None else None
    limit = memory_limit(session)
    logs = _its_log(session)
    match exit_.verdict if exit_ is not None else None:
        case Verdict.OUT_OF_MEMORY | Verdict.ERROR_AFTER_CHILD_OOM:
            more = f"more than {memory(limit)}" if limit > 0 else "a memory limit, so that the host is spared"
            return f"Give it {more} (`--memory`), or find what it needs the memory for: {logs}. {start}"
        case Verdict.SIGKILL_UNEXPLAINED:
            return f"The host's kernel log (`journalctl -k`) may tell who killed it; {logs}. {start}"
        case Verdict.START_FAILED:
            return f"Correct what the engine complains of. {start}"
        case None if session.phase is Phase.FAILED:
            return f"Correct what its message complains of. {start}"
        case Verdict.ERROR_EXIT | Verdict.APPLICATION_SIGNAL | Verdict.UNKNOWN | Verdict.AUTO_REMOVED:
            return f"{logs}. {start}"
        case _:
            return f"{_start(session)} starts it again."


def _spent(policy: RestartPolicy) -> str:
    limit = "its budget of restarts"
    if policy.max_attempts is not None:
        limit = f"its budget of {policy.max_attempts} restarts within {length(policy.window_s)}"
    return f"{limit} is spent (crash loop)"


def _start(session: Session) -> str:
    return f"`agentdctl start {session.name}`"


def _its_log(session: Session) -> str:
    return f"`agentdctl logs {session.name}` shows its last lines"


def _container(session: Session) -> str:
    return str(session.name) if session.container is None else session.container.name


def _engine_restarts(session: Session) -> bool:
    return session.container is not None and session.container.engine_restart is not EngineRestart.NO
