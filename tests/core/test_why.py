"""What `why` says of each cause, word for word, as somebody reads it who has never seen the program."""

from dataclasses import replace

import pytest

from controller.core.diagnosis import EndFacts, diagnose
from controller.core.why import explain
from controller.model.container import ContainerFacts
from controller.model.ids import ContainerId, SessionId, SessionName
from controller.model.instant import Instant, after, from_rfc3339
from controller.model.phase import Desired, Health, Phase
from controller.model.session import Attempt, Intent, Origin, Session, StopCause
from controller.model.spec import RestartMode, RestartPolicy


def at(text: str) -> Instant:
    instant = from_rfc3339(f"2026-03-02T{text}Z")
    assert instant is not None
    return instant


STARTED = at("13:58:50")
END = at("14:03:00")
NOW = at("14:03:02")
CONTAINER = ContainerId("c" * 64)
LIMIT = 64 * 1024**2
FIVE_AN_HOUR = RestartPolicy(mode=RestartMode.ON_FAILURE, max_attempts=5)


def intent(cause: StopCause = StopCause.REQUEST, *, actor: str = "user:alice") -> Intent:
    return Intent(cause=cause, actor=actor, at=after(END, -3.0), grace_s=10.0)


def ended(facts: EndFacts) -> Session:
    """A session whose only attempt ended as these facts tell, 4 min 10 s after it began."""
    found = diagnose(replace(facts, memory_limit_bytes=LIMIT))
    return Session(
        id=SessionId("5e55"),
        name=SessionName("web-1"),
        engine="local",
        origin=Origin.REQUESTED,
        desired=Desired.STOPPED,
        phase=found.phase,
        reason=found.reason,
        created_at=after(STARTED, -5.0),
        since=END,
        container=ContainerFacts(id=CONTAINER, name="agentd-web-1", image="worker", memory_limit_bytes=LIMIT),
        attempt=Attempt(
            number=1,
            container=CONTAINER,
            started_at=STARTED if not facts.never_started else None,
            opened_at=STARTED,
            finished_at=END if facts.exit_code is not None else None,
            ended_at=END,
            exit=found.exit,
            intent=facts.intent,
            looked_at_end=True,
        ),
        attempt_count=1,
    )


LOGS = "`agentdctl logs web-1` shows its last lines"
TRIES = "`agentdctl start web-1` tries again."
STARTS = "`agentdctl start web-1` starts it again."
NO_POLICY = "It stays down (restart policy no)."
BY_A_PERSON = "It stays down: what a person stopped is not restarted."
ASKED = "It stays down, as was asked for."
MORE_MEMORY = f"Give it more than 64 MiB (`--memory`), or find what it needs the memory for: {LOGS}. {TRIES}"

TEXTS = {
    "clean exit": (
        EndFacts(exit_code=0, died_at=END),
        "web-1 ended well after 4 min 10 s (exit code 0).",
        f"{NO_POLICY} {STARTS}",
    ),
    "error exit": (
        EndFacts(exit_code=3, died_at=END),
        "web-1 ended with an error after 4 min 10 s: its program returned exit code 3.",
        f"{NO_POLICY} {LOGS}. {TRIES}",
    ),
    "application signal": (
        EndFacts(exit_code=139, died_at=END),
        "web-1 crashed after 4 min 10 s: its program was probably ended by SIGSEGV (exit code 139), which nobody sent "
        "through the engine.",
        f"{NO_POLICY} {LOGS}. {TRIES}",
    ),
    "out of memory": (
        EndFacts(exit_code=137, died_at=END, oom_flag=True, oom_at=END),
        "web-1 ran out of memory after 4 min 10 s: the kernel killed it at its limit of 64 MiB.",
        f"{NO_POLICY} {MORE_MEMORY}",
    ),
    "probably out of memory": (
        EndFacts(exit_code=137, died_at=END, oom_flag=True),
        "web-1 probably ran out of memory after 4 min 10 s: it was killed, and the engine says that something in it "
        "ran out of memory (limit 64 MiB).",
        f"{NO_POLICY} {MORE_MEMORY}",
    ),
    "child out of memory, survived": (
        EndFacts(exit_code=0, died_at=END, oom_flag=True),
        "web-1 ended well after 4 min 10 s (exit code 0), although a process in it ran out of memory (limit 64 MiB).",
        f"{NO_POLICY} {STARTS}",
    ),
    "child out of memory, then an error": (
        EndFacts(exit_code=3, died_at=END, oom_flag=True),
        "web-1 ended with an error after 4 min 10 s: its program returned exit code 3, after a process in it had run "
        "out of memory (limit 64 MiB).",
        f"{NO_POLICY} {MORE_MEMORY}",
    ),
    "stopped by request in time": (
        EndFacts(exit_code=143, died_at=END, intent=intent(), kill_signal=15),
        "web-1 was stopped after 4 min 10 s on request of alice: it ended within its 10 s of grace (exit code 143).",
        f"{ASKED} {STARTS}",
    ),
    "stopped by request and killed": (
        EndFacts(exit_code=137, died_at=END, intent=intent(), kill_signal=9),
        "web-1 was stopped after 4 min 10 s on request of alice: it did not end within its 10 s of grace and was "
        "killed.",
        f"{ASKED} {STARTS}",
    ),
    "its time was over": (
        EndFacts(exit_code=0, died_at=END, intent=intent(StopCause.EXPIRED, actor="controller"), kill_signal=15),
        "web-1 was stopped after 4 min 10 s because its time to live was over: it ended within its 10 s of grace "
        "(exit code 0).",
        f"{ASKED} {STARTS}",
    ),
    "stopped by request, end unseen": (
        EndFacts(exit_code=None, gone=True, intent=intent()),
        "web-1 was stopped on request of alice: how it ended is not known.",
        f"{ASKED} {LOGS}. {TRIES}",
    ),
    "stopped by somebody else": (
        EndFacts(exit_code=143, died_at=END, kill_signal=15, stop_at=END),
        "web-1 was stopped by somebody else after 4 min 10 s (exit code 143).",
        f"{BY_A_PERSON} {STARTS}",
    ),
    "stopped by somebody else, by force": (
        EndFacts(exit_code=137, died_at=END, first_kill_signal=15, kill_signal=9, stop_at=END),
        "web-1 was stopped by somebody else after 4 min 10 s: it did not end in time and was killed.",
        f"{BY_A_PERSON} {STARTS}",
    ),
    "killed by somebody else": (
        EndFacts(exit_code=137, died_at=END, kill_signal=9),
        "web-1 was killed by somebody else after 4 min 10 s, through the engine (SIGKILL).",
        f"{BY_A_PERSON} {STARTS}",
    ),
    "started and not found": (
        EndFacts(exit_code=127, never_started=True, error='exec: "nope": executable file not found in $PATH\n'),
        'web-1 could not be started: the engine said “exec: "nope": executable file not found in $PATH”.',
        f"{NO_POLICY} Correct what the engine complains of. {TRIES}",
    ),
    "engine stopped": (
        EndFacts(exit_code=143, died_at=END, kill_signal=15, stop_at=END, engine_stopped=True),
        "web-1 was ended by a stop or restart of the engine itself after 4 min 10 s (exit code 143).",
        f"{NO_POLICY} {STARTS}",
    ),
    "a bare 137": (
        EndFacts(exit_code=137, died_at=END),
        "web-1 ended with exit code 137 after 4 min 10 s: SIGKILL from outside the engine, or the program's own "
        "exit(137).",
        f"{NO_POLICY} The host's kernel log (`journalctl -k`) may tell who killed it; {LOGS}. {TRIES}",
    ),
    "an invented code": (
        EndFacts(exit_code=255, code_may_be_invented=True),
        "web-1 ended, and how is not known: no exit code that can be trusted was left.",
        f"{NO_POLICY} {LOGS}. {TRIES}",
    ),
}

GONE_AT = "Its container was removed at 14:03:01 UTC. Nothing will start it again; its name is free for a new session."
REMOVED_TEXTS = {
    "removed by somebody else": (
        EndFacts(exit_code=137, died_at=END, kill_signal=9, gone=True, destroyed_with_kill=True),
        "web-1 was killed and removed by somebody else after 4 min 10 s, through the engine.",
    ),
    "--rm": (
        EndFacts(exit_code=None, gone=True, auto_remove=True),
        "web-1 ended and the engine removed its container at once (--rm): how it ended is not known.",
    ),
    "lost": (
        EndFacts(exit_code=None, gone=True),
        "web-1 is lost: its container is gone, and nobody saw how it ended.",
    ),
    "removed after its end": (
        EndFacts(exit_code=3, died_at=END, gone=True),
        "web-1 was removed; before that, it ended with an error after 4 min 10 s: its program returned exit code 3.",
    ),
}


@pytest.mark.parametrize("cause", TEXTS)
def test_each_cause_reads_well(cause: str) -> None:
    facts, sentence, outlook = TEXTS[cause]
    told = explain(session=ended(facts), rows=[], evidence=None, now=NOW)
    assert (told.sentence, told.outlook) == (sentence, outlook)


@pytest.mark.parametrize("cause", REMOVED_TEXTS)
def test_each_way_of_being_gone_reads_well(cause: str) -> None:
    facts, sentence = REMOVED_TEXTS[cause]
    told = explain(session=replace(ended(facts), removed_at=at("14:03:01")), rows=[], evidence=None, now=NOW)
    assert (told.sentence, told.outlook) == (sentence, GONE_AT)


def test_each_intent_names_its_cause() -> None:
    said = {
        cause: explain(
            session=ended(EndFacts(exit_code=0, died_at=END, intent=intent(cause), kill_signal=15)),
            rows=[],
            evidence=None,
            now=NOW,
        ).sentence.split(":")[0]
        for cause in StopCause
    }
    assert said == {
        StopCause.REQUEST: "web-1 was stopped after 4 min 10 s on request of alice",
        StopCause.RESTART: "web-1 was stopped after 4 min 10 s to be restarted, on request of alice",
        StopCause.REMOVE: "web-1 was stopped after 4 min 10 s to be removed, on request of alice",
        StopCause.SHUTDOWN: "web-1 was stopped after 4 min 10 s because the controller itself was shutting down",
        StopCause.EXPIRED: "web-1 was stopped after 4 min 10 s because its time to live was over",
        StopCause.NOT_CONNECTED: "web-1 was stopped after 4 min 10 s because its agent did not connect in time",
        StopCause.UNHEALTHY: "web-1 was stopped after 4 min 10 s because it had been unhealthy for too long",
        StopCause.ORPHAN: "web-1 was stopped after 4 min 10 s to be removed",
    }


def test_a_session_that_waits_says_when_and_which_attempt_comes_next() -> None:
    session = replace(
        ended(EndFacts(exit_code=137, died_at=END, oom_flag=True, oom_at=END)),
        phase=Phase.BACKOFF,
        desired=Desired.RUNNING,
        policy=replace(FIVE_AN_HOUR, max_attempts=4),
        granted_at=(at("13:50:00"), at("14:03:10")),
        attempt_count=2,
        next_attempt_at=at("14:03:10"),
    )
    told = explain(session=session, rows=[], evidence=None, now=NOW)
    assert told.sentence == "web-1 ran out of memory after 4 min 10 s: the kernel killed it at its limit of 64 MiB."
    assert told.outlook == "Will try again at 14:03:10 UTC, attempt 3 of 5."


def test_without_a_budget_the_attempts_own_number_is_told() -> None:
    session = replace(
        ended(EndFacts(exit_code=1, died_at=END)),
        phase=Phase.BACKOFF,
        policy=RestartPolicy(mode=RestartMode.ALWAYS),
        next_attempt_at=at("14:03:10"),
    )
    assert explain(session=session, rows=[], evidence=None, now=NOW).outlook == (
        "Will try again at 14:03:10 UTC, attempt 2."
    )


def test_a_crash_loop_says_that_the_budget_is_spent_and_what_clears_it() -> None:
    session = replace(ended(EndFacts(exit_code=1, died_at=END)), crash_looping=True, policy=FIVE_AN_HOUR)
    told = explain(session=session, rows=[], evidence=None, now=NOW)
    assert told.sentence == "web-1 ended with an error after 4 min 10 s: its program returned exit code 1."
    assert told.outlook == (
        "Will not be tried again: its budget of 5 restarts within 1 h is spent (crash loop). "
        "`agentdctl logs web-1` shows its last lines. `agentdctl start web-1` tries again."
    )


def test_a_slow_retry_says_why_it_is_slow() -> None:
    session = replace(
        ended(EndFacts(exit_code=1, died_at=END)),
        phase=Phase.BACKOFF,
        crash_looping=True,
        policy=replace(FIVE_AN_HOUR, slow_retry_s=3600.0),
        next_attempt_at=at("15:03:02"),
    )
    assert explain(session=session, rows=[], evidence=None, now=NOW).outlook == (
        "Will try again at 15:03:02 UTC, slowly: its budget of 5 restarts within 1 h is spent (crash loop). "
        "`agentdctl start web-1` tries at once."
    )


def test_a_time_on_another_day_carries_its_date() -> None:
    tomorrow = after(at("14:03:10"), 86_400.0)
    session = replace(
        ended(EndFacts(exit_code=1, died_at=END)),
        phase=Phase.BACKOFF,
        policy=RestartPolicy(mode=RestartMode.ALWAYS),
        next_attempt_at=tomorrow,
    )
    assert "at 2026-03-03 14:03:10 UTC" in explain(session=session, rows=[], evidence=None, now=NOW).outlook


@pytest.mark.parametrize(("may_restart", "may_act"), [(False, True), (True, False)])
def test_nothing_is_promised_that_the_mode_or_a_label_forbids(*, may_restart: bool, may_act: bool) -> None:
    why = "the controller may not start it here (`AGENTD_MODE`, or the label of another one)"
    down = replace(
        ended(EndFacts(exit_code=3, died_at=END)), policy=RestartPolicy(mode=RestartMode.ALWAYS), may_act=may_act
    )
    told = explain(session=down, rows=[], evidence=None, now=NOW, may_restart=may_restart)
    assert told.outlook == f"It stays down: {why}. `agentdctl logs web-1` shows its last lines."

    told = explain(
        session=replace(down, phase=Phase.BACKOFF, next_attempt_at=after(NOW, 60)),
        rows=[],
        evidence=None,
        now=NOW,
        may_restart=may_restart,
    )
    assert told.outlook == f"It stays down: {why}. `agentdctl logs web-1` shows its last lines."

    waits = replace(down, phase=Phase.PENDING)
    told = explain(session=waits, rows=[], evidence=None, now=NOW, may_restart=may_restart)
    assert told.outlook == f"It is not started: {why}."

    sick = replace(
        down,
        phase=Phase.RUNNING,
        health=Health.UNHEALTHY,
        unhealthy_since=END,
        policy=replace(down.policy, unhealthy_restart_s=5.0),
    )
    told = explain(session=sick, rows=[], evidence=None, now=NOW, may_restart=may_restart)
    assert told.outlook == f"Nothing is due. When it ends, it stays down: {why}."


def test_a_watched_container_that_waits_is_for_others_to_start() -> None:
    waits = replace(ended(EndFacts(exit_code=3, died_at=END)), phase=Phase.PENDING, origin=Origin.EXTERNAL)
    told = explain(session=waits, rows=[], evidence=None, now=NOW)
    assert told.outlook == "It is for whoever made it to start it; the controller records that."
