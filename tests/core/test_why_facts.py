"""`why` in every phase, the chain of facts, and what becomes of text from outside."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from controller.core.diagnosis import EndFacts, diagnose
from controller.core.why import FIRST_ROWS, LAST_ROWS, LOG_LINES, Explanation, explain
from controller.model.container import ContainerFacts, EngineRestart, LogTail, ProbeResult
from controller.model.ids import ContainerId, SessionId, SessionName
from controller.model.instant import Instant, from_rfc3339
from controller.model.journal import Evidence, JournalDraft, JournalRow, RowKind
from controller.model.phase import Desired, Health, Phase
from controller.model.reason import Reason, Source
from controller.model.session import Attempt, Intent, Origin, ProvisionalEnd, Session, StopCause
from controller.model.spec import RestartMode, RestartPolicy, SessionSpec


def at(text: str) -> Instant:
    instant = from_rfc3339(f"2026-03-02T{text}Z")
    assert instant is not None
    return instant


NOW = at("14:03:02")
ID = SessionId("5e55")
NAME = SessionName("web-1")
CONTAINER = ContainerId("c" * 64)
FACTS = ContainerFacts(id=CONTAINER, name="agentd-web-1", image="worker", memory_limit_bytes=64 * 1024**2)
RUN = Attempt(number=1, container=CONTAINER, started_at=at("13:58:50"), opened_at=at("13:58:50"))
SESSION = Session(
    id=ID,
    name=NAME,
    engine="local",
    origin=Origin.REQUESTED,
    desired=Desired.RUNNING,
    phase=Phase.RUNNING,
    health=Health.NONE,
    reason=Reason.STARTED,
    created_at=at("13:58:40"),
    since=at("13:58:50"),
    container=FACTS,
    attempt=RUN,
    attempt_count=1,
)
FAILED = replace(
    SESSION,
    phase=Phase.FAILED,
    desired=Desired.STOPPED,
    reason=Reason.ERROR_EXIT,
    attempt=replace(
        RUN,
        finished_at=at("14:03:00"),
        ended_at=at("14:03:00"),
        exit=diagnose(EndFacts(exit_code=3, died_at=at("14:03:00"))).exit,
    ),
)


def told(session: Session, *rows: JournalRow, evidence: Evidence | None = None) -> Explanation:
    return explain(session=session, rows=rows, evidence=evidence, now=NOW)


def both(session: Session) -> tuple[str, str]:
    explanation = told(session)
    return explanation.sentence, explanation.outlook


def row(seq: int, draft: JournalDraft) -> JournalRow:
    return JournalRow(seq=seq, decision=seq, committed_at=NOW, draft=draft)


STARTED_ROW = JournalDraft(
    kind=RowKind.TRANSITION,
    session_id=ID,
    session=NAME,
    attempt=1,
    from_phase=Phase.STARTING,
    to_phase=Phase.RUNNING,
    health_from=None,
    health_to=None,
    reason=Reason.STARTED,
    message="",
    source=Source.EVENT,
    actor="controller",
    at=at("13:58:50.123456"),
    observed_at=at("13:58:50.2"),
    container_id=CONTAINER,
)


def test_a_running_session_says_for_how_long() -> None:
    assert both(SESSION) == (
        "web-1 has been running for 4 min 12 s.",
        "Nothing is due. When it ends, it stays down (restart policy no).",
    )


def test_a_healthy_one_with_a_policy_says_what_a_failure_would_lead_to() -> None:
    healthy = replace(SESSION, health=Health.HEALTHY, policy=RestartPolicy(mode=RestartMode.ON_FAILURE))
    assert both(healthy) == (
        "web-1 has been running for 4 min 12 s and is healthy.",
        "Nothing is due. If it fails, it is started again (restart policy on-failure).",
    )


def test_an_unhealthy_one_says_since_when_and_what_is_due() -> None:
    sick = replace(
        SESSION,
        health=Health.UNHEALTHY,
        unhealthy_since=at("14:02:02"),
        policy=RestartPolicy(unhealthy_restart_s=120.0),
    )
    assert both(sick) == (
        "web-1 has been running for 4 min 12 s, and has been unhealthy for 1 min.",
        "Will be restarted at 14:04:02 UTC unless it is healthy by then.",
    )
    assert both(replace(sick, policy=RestartPolicy()))[1] == (
        "Its health is only recorded: its policy does not restart what is unhealthy."
    )


def test_a_session_without_its_agent_says_when_it_is_restarted() -> None:
    alone = replace(
        SESSION,
        spec=SessionSpec(image="worker", expect_connection=True),
        connection_due_at=at("14:03:30"),
        expires_at=at("15:00:00"),
    )
    assert both(alone) == (
        "web-1 has been running for 4 min 12 s; its agent is not connected.",
        "Will be restarted at 14:03:30 UTC unless its agent connects by then. "
        "Will be stopped at 15:00:00 UTC, when its time to live is over.",
    )


def test_an_engine_that_restarts_is_left_to_it() -> None:
    engines = replace(SESSION, container=replace(FACTS, engine_restart=EngineRestart.ALWAYS))
    assert both(engines)[1] == (
        "Nothing is due. When it ends, the engine's own restart policy decides; the controller only records."
    )
    waiting = replace(FAILED, phase=Phase.BACKOFF, container=engines.container)
    assert both(waiting)[1] == "The engine's own restart policy starts it again; the controller only records."


def test_a_paused_session_says_how_to_resume_it() -> None:
    assert both(replace(SESSION, phase=Phase.PAUSED)) == (
        "web-1 is paused since 13:58:50 UTC: its processes are frozen, and its health says nothing meanwhile.",
        "Stays paused until somebody resumes it: `docker unpause agentd-web-1`.",
    )


def test_sessions_that_have_not_begun() -> None:
    waiting = replace(SESSION, phase=Phase.PENDING, desired=Desired.STOPPED, attempt=None, attempt_count=0)
    assert both(waiting) == (
        "web-1 has not been started yet: it has been waiting since 13:58:50 UTC.",
        "`agentdctl start web-1` starts it.",
    )
    assert both(replace(waiting, desired=Desired.RUNNING)) == (
        "web-1 is about to be started: it has been waiting since 13:58:50 UTC.",
        "Will be started now.",
    )
    assert both(replace(SESSION, phase=Phase.STARTING)) == (
        "web-1 is being started since 13:58:50 UTC.",
        "The controller waits for the engine to say that it runs.",
    )


def test_a_stop_under_way_says_who_wants_it_and_when_force_follows() -> None:
    intent = Intent(cause=StopCause.REQUEST, actor="user:alice", at=at("14:03:00"), grace_s=10.0)
    stopping = replace(
        SESSION,
        phase=Phase.STOPPING,
        desired=Desired.STOPPED,
        since=at("14:03:00"),
        attempt=replace(RUN, intent=intent),
    )
    assert both(stopping) == (
        "web-1 is being stopped since 14:03:00 UTC (request, by alice).",
        "Will be killed at 14:03:10 UTC unless it has ended by then; then it stays down.",
    )
    assert both(replace(stopping, removal_wanted=True))[1].endswith("; then its container is removed.")
    decided = replace(stopping, attempt=RUN, stop_wanted=intent)
    assert both(decided) == both(stopping)


def test_a_create_that_was_refused() -> None:
    refused = replace(
        SESSION,
        phase=Phase.FAILED,
        desired=Desired.STOPPED,
        reason=Reason.START_FAILED,
        message="No such image: nope:latest",
        attempt=None,
        attempt_count=0,
        container=None,
    )
    assert both(refused) == (
        "web-1 could not be started: No such image: nope:latest.",
        "It stays down (restart policy no). Correct what its message complains of. "
        "`agentdctl start web-1` tries again.",
    )


def test_an_end_that_looks_like_a_stop_says_when_it_will_be_sure() -> None:
    stop = diagnose(EndFacts(exit_code=143, died_at=at("14:03:00"), kill_signal=15, stop_at=at("14:03:00")))
    assert FAILED.attempt is not None
    fresh = replace(
        FAILED,
        phase=stop.phase,
        reason=stop.reason,
        desired=Desired.RUNNING,
        attempt=replace(FAILED.attempt, exit=stop.exit),
        provisional=ProvisionalEnd(until=at("14:03:30")),
    )
    assert both(fresh)[1] == (
        "It stays down once it is sure, at 14:03:30 UTC, that the engine itself was not stopping."
    )


def test_an_end_still_to_be_looked_at_promises_nothing() -> None:
    assert both(replace(FAILED, look_owed_until=at("14:03:03")))[1] == (
        "The controller looks at it once more before it decides what follows."
    )


def test_our_own_shutdown_says_whether_the_next_start_brings_it_back() -> None:
    down = replace(FAILED, phase=Phase.STOPPED, desired=Desired.RUNNING, reason=Reason.CONTROLLER_SHUTDOWN)
    assert both(down)[1] == "Stays down (restart policy no). `agentdctl start web-1` starts it again."
    assert both(replace(down, policy=RestartPolicy(mode=RestartMode.ALWAYS)))[1] == (
        "Will be started again when the controller starts (restart policy always)."
    )


def test_an_orphan_that_was_removed() -> None:
    removal = replace(STARTED_ROW, from_phase=Phase.FAILED, to_phase=Phase.FAILED, reason=Reason.ORPHAN_REMOVED)
    orphan = replace(FAILED, origin=Origin.ORPHAN, reason=Reason.ORPHAN_REMOVED, removed_at=at("14:03:01"))
    assert told(orphan, row(1, removal)).sentence == (
        "web-1, an orphan that no record knew, was removed by the controller; before that, it ended with an error "
        "after 4 min 10 s: its program returned exit code 3."
    )


def test_an_external_container_that_is_gone_may_come_back() -> None:
    gone = replace(FAILED, origin=Origin.EXTERNAL, removed_at=at("14:03:01"))
    assert both(gone)[1] == (
        "Its container was removed at 14:03:01 UTC. If it comes back (`docker compose up`), it is watched again."
    )


def test_an_end_that_nobody_saw_is_told_while_it_waits_for_its_next_attempt() -> None:
    lost = diagnose(EndFacts(exit_code=None, gone=True))
    waiting = replace(
        FAILED, phase=Phase.BACKOFF, reason=Reason.BACKOFF, attempt=replace(RUN, exit=lost.exit), container=None
    )
    end = replace(STARTED_ROW, from_phase=Phase.RUNNING, to_phase=Phase.FAILED, reason=Reason.LOST)
    assert told(waiting, row(1, end)).sentence == "web-1 is lost: its container is gone, and nobody saw how it ended."


def test_the_chain_tells_time_change_actor_and_source_then_the_evidence() -> None:
    assert FAILED.attempt is not None
    end = replace(
        STARTED_ROW,
        from_phase=Phase.RUNNING,
        to_phase=Phase.FAILED,
        reason=Reason.ERROR_EXIT,
        source=Source.INFERRED,
        actor="engine",
        at=None,
        observed_at=at("14:03:00.5"),
        message="seen late",
        exit=FAILED.attempt.exit,
    )
    sick = replace(
        STARTED_ROW,
        from_phase=Phase.RUNNING,
        to_phase=Phase.RUNNING,
        health_from=Health.HEALTHY,
        health_to=Health.UNHEALTHY,
        reason=Reason.UNHEALTHY,
        at=at("14:02:00"),
    )
    action = replace(
        STARTED_ROW, kind=RowKind.ACTION, action="start done", source=Source.ACTION, from_phase=None, to_phase=None
    )
    other = replace(STARTED_ROW, session_id=SessionId("other"))
    note = replace(STARTED_ROW, kind=RowKind.NOTE)
    facts = told(
        FAILED, row(5, end), row(1, action), row(2, STARTED_ROW), row(3, other), row(4, sick), row(6, note)
    ).facts
    assert facts == (
        "2026-03-02T13:58:50.123Z action start done (started); by the controller; from the outcome of an action.",
        "2026-03-02T13:58:50.123Z starting → running (started); by the controller; from an event.",
        "2026-03-02T14:02:00.000Z health healthy → unhealthy (unhealthy); by the controller; from an event.",
        "2026-03-02T14:03:00.500Z (our clock) running → failed (error_exit); by the engine; inferred afterwards: "
        "seen late",
        "Verdict: error_exit, certain",
        "Exit code 3",
        "A die event was seen",
        "No kill event that could explain it",
        "No look has confirmed the end: only events told of it",
    )


def test_the_row_of_an_end_does_not_repeat_the_evidence() -> None:
    assert FAILED.attempt is not None
    assert FAILED.attempt.exit is not None
    said = "; ".join(FAILED.attempt.exit.evidence)
    end = replace(STARTED_ROW, to_phase=Phase.FAILED, message=said, exit=FAILED.attempt.exit)
    assert told(FAILED, row(1, end)).facts[0].endswith("; from an event.")


def test_an_earlier_attempt_is_told_in_one_line() -> None:
    assert FAILED.attempt is not None
    second = replace(SESSION, attempt=replace(RUN, number=2), attempt_count=2, earlier=(FAILED.attempt,))
    assert told(second).facts == (
        "Attempt 1: it ended with an error after 4 min 10 s: its program returned exit code 3.",
    )


def test_a_long_attempt_is_cut_and_says_so() -> None:
    rows = [row(seq, STARTED_ROW) for seq in range(1, 101)]
    facts = told(SESSION, *rows).facts
    assert len(facts) == FIRST_ROWS + LAST_ROWS + 1
    assert facts[FIRST_ROWS] == "(84 more rows: `agentdctl timeline web-1`.)"


def kept(*lines: str, absent: str = "", probe: str = "") -> Evidence:
    probes = (ProbeResult(started_at=None, exit_code=1, output=probe),) if probe else ()
    tail = LogTail(lines=lines, truncated=False, absent=absent)
    return Evidence(session_id=ID, attempt=1, container_id=CONTAINER, kept_at=NOW, tail=tail, probes=probes, state="")


def test_the_last_probe_and_the_last_lines_are_shown() -> None:
    facts = told(FAILED, evidence=kept("starting", "KeyError: 'model'", probe="connection refused\n")).facts
    assert facts[-4:] == (
        "Its last health probe returned 1: connection refused",
        "Its last 2 log lines:",
        "| starting",
        "| KeyError: 'model'",
    )


def test_absent_evidence_says_why() -> None:
    assert told(FAILED, evidence=kept(absent="container gone")).facts[-1] == "No log lines were kept: container gone."
    assert told(FAILED, evidence=kept()).facts[-1] == "It wrote nothing to its log."


def test_many_log_lines_are_cut() -> None:
    facts = told(FAILED, evidence=kept(*(f"line {n}" for n in range(1000)))).facts
    assert facts[-1] == "| line 999"
    assert sum(fact.startswith("| ") for fact in facts) == LOG_LINES


hostile = st.text(max_size=600) | st.just("x\r\n2026 forged\x1b]0;title\x07\u202e\u2028" * 50)


@given(hostile, hostile, st.sampled_from(Phase), st.sampled_from(Reason))
def test_text_from_outside_cannot_forge_a_line(text: str, actor: str, phase: Phase, reason: Reason) -> None:
    end = diagnose(EndFacts(exit_code=127, never_started=True, error=text, last_probe=text))
    session = replace(
        SESSION, phase=phase, reason=reason, message=text, attempt=replace(RUN, exit=end.exit) if actor else None
    )
    draft = replace(STARTED_ROW, message=text, actor=f"user:{actor}", action=text, kind=RowKind.ACTION)
    explanation = told(session, row(1, draft), evidence=kept(text, text, probe=text))
    for line in (explanation.sentence, explanation.outlook, *explanation.facts):
        assert line.isprintable()
        assert len(line) < 1000
