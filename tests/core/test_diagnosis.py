"""Each row of the truth table, by the ends that it is about."""

import pytest

from controller.core.diagnosis import SIGKILL_UNEXPLAINED, EndFacts, diagnose
from controller.model.exit import Confidence, Verdict
from controller.model.instant import Instant, after
from controller.model.phase import Phase
from controller.model.reason import Reason
from controller.model.session import Intent, StopCause

END = Instant(1_772_460_190_000_000_000)
LIMIT = 64 * 1024**2


def intent(cause: StopCause = StopCause.REQUEST, *, grace_s: float = 10.0) -> Intent:
    return Intent(cause=cause, actor="user:alice", at=after(END, -11.0), grace_s=grace_s)


CLEAN = EndFacts(exit_code=0, died_at=END)
ERROR = EndFacts(exit_code=3, died_at=END)
SEGFAULT = EndFacts(exit_code=139, died_at=END)
BARE_TERM = EndFacts(exit_code=143, died_at=END)
BARE_KILL = EndFacts(exit_code=137, died_at=END)
OOM = EndFacts(exit_code=137, died_at=END, oom_flag=True, oom_at=after(END, -0.1), memory_limit_bytes=LIMIT)
OOM_EVENT_LATE = EndFacts(exit_code=137, died_at=END, oom_flag=True, oom_at=after(END, 2.0), memory_limit_bytes=LIMIT)
OOM_FLAG_ONLY = EndFacts(exit_code=137, died_at=END, oom_flag=True, memory_limit_bytes=LIMIT)
OOM_EVENT_ONLY = EndFacts(exit_code=137, died_at=END, oom_at=END, memory_limit_bytes=LIMIT)
OOM_LONG_AGO = EndFacts(exit_code=137, died_at=END, oom_flag=True, oom_at=after(END, -3600.0))
SURVIVED = EndFacts(exit_code=0, died_at=END, oom_flag=True, oom_at=after(END, -60.0), memory_limit_bytes=LIMIT)
CHILD_THEN_ERROR = EndFacts(exit_code=3, died_at=END, oom_flag=True, oom_at=END, memory_limit_bytes=LIMIT)
CHILD_THEN_CRASH = EndFacts(exit_code=139, died_at=END, oom_flag=True)
OURS_IN_TIME = EndFacts(exit_code=143, died_at=END, intent=intent(), first_kill_signal=15, kill_signal=15)
OURS_OWN_CODE = EndFacts(exit_code=3, died_at=END, intent=intent(), first_kill_signal=15, kill_signal=15)
OURS_BY_FORCE = EndFacts(exit_code=137, died_at=END, intent=intent(), first_kill_signal=15, kill_signal=9)
OURS_NO_EVENT = EndFacts(exit_code=137, intent=intent())
OURS_WITH_OOM = EndFacts(exit_code=137, died_at=END, intent=intent(), kill_signal=15, oom_flag=True, oom_at=END)
OURS_UNSEEN = EndFacts(exit_code=None, gone=True, intent=intent())
OURS_NO_KILL = EndFacts(exit_code=0, died_at=END, intent=intent())
THEIRS = EndFacts(exit_code=143, died_at=END, first_kill_signal=15, kill_signal=15, stop_at=END)
THEIRS_CLEAN = EndFacts(exit_code=0, died_at=END, first_kill_signal=15, kill_signal=15)
THEIRS_BY_FORCE = EndFacts(exit_code=137, died_at=END, first_kill_signal=15, kill_signal=9, stop_at=END)
THEIRS_WITH_OOM = EndFacts(exit_code=137, died_at=END, kill_signal=15, stop_at=END, oom_flag=True, oom_at=END)
STOP_IN_BACKOFF = EndFacts(exit_code=1, stop_at=END)
KILLED = EndFacts(exit_code=137, died_at=END, first_kill_signal=9, kill_signal=9)
KILLED_WITH_OOM = EndFacts(exit_code=137, died_at=END, kill_signal=9, oom_flag=True, oom_at=END)
STOPPED_WITH_KILL = EndFacts(exit_code=137, died_at=END, first_kill_signal=9, kill_signal=9, stop_at=END)
REMOVED = EndFacts(exit_code=137, died_at=END, kill_signal=9, gone=True, destroyed_with_kill=True)
START_FAILED = EndFacts(exit_code=127, never_started=True, error="exec: nope: not found")
START_FAILED_BEHIND_STOP = EndFacts(exit_code=128, error="port is already allocated", intent=intent())
RESTART_FAILED = EndFacts(exit_code=3, error="error mounting /data")
OWN_127 = EndFacts(exit_code=127, died_at=END)
ENGINE = EndFacts(exit_code=143, died_at=END, kill_signal=15, stop_at=END, engine_stopped=True)
ENGINE_CLEAN = EndFacts(exit_code=0, engine_stopped=True)
ENGINE_CRASH = EndFacts(exit_code=255, code_may_be_invented=True, engine_stopped=True)
AUTO_REMOVED = EndFacts(exit_code=None, gone=True, auto_remove=True)
AUTO_REMOVED_BUT_SEEN = EndFacts(exit_code=3, died_at=END, gone=True, auto_remove=True)
LOST = EndFacts(exit_code=None, gone=True)
GONE_AFTER_DIE = EndFacts(exit_code=None, died_at=END, gone=True)
INVENTED = EndFacts(exit_code=255, code_may_be_invented=True, finished_at=END)
REAL_255 = EndFacts(exit_code=255, died_at=END)
NO_CODE = EndFacts(exit_code=None)

STOPPED, FAILED = Phase.STOPPED, Phase.FAILED
CERTAIN, LIKELY, UNKNOWN = Confidence.CERTAIN, Confidence.LIKELY, Confidence.UNKNOWN

TABLE = {
    "clean": (CLEAN, Verdict.CLEAN_EXIT, CERTAIN, Reason.EXITED, STOPPED),
    "error": (ERROR, Verdict.ERROR_EXIT, CERTAIN, Reason.ERROR_EXIT, FAILED),
    "segfault": (SEGFAULT, Verdict.APPLICATION_SIGNAL, LIKELY, Reason.SIGNALLED, FAILED),
    "143 without a kill": (BARE_TERM, Verdict.APPLICATION_SIGNAL, LIKELY, Reason.SIGNALLED, FAILED),
    "137 without anything": (BARE_KILL, Verdict.SIGKILL_UNEXPLAINED, UNKNOWN, Reason.SIGNALLED, FAILED),
    "oom": (OOM, Verdict.OUT_OF_MEMORY, CERTAIN, Reason.OOM_KILLED, FAILED),
    "oom event after the die": (OOM_EVENT_LATE, Verdict.OUT_OF_MEMORY, CERTAIN, Reason.OOM_KILLED, FAILED),
    "oom flag without event": (OOM_FLAG_ONLY, Verdict.OUT_OF_MEMORY, LIKELY, Reason.OOM_KILLED, FAILED),
    "oom event without flag": (OOM_EVENT_ONLY, Verdict.OUT_OF_MEMORY, LIKELY, Reason.OOM_KILLED, FAILED),
    "137 long after an oom": (OOM_LONG_AGO, Verdict.SIGKILL_UNEXPLAINED, UNKNOWN, Reason.SIGNALLED, FAILED),
    "child oom survived": (SURVIVED, Verdict.SURVIVED_CHILD_OOM, CERTAIN, Reason.EXITED, STOPPED),
    "child oom, then error": (CHILD_THEN_ERROR, Verdict.ERROR_AFTER_CHILD_OOM, CERTAIN, Reason.ERROR_EXIT, FAILED),
    "child oom, then crash": (CHILD_THEN_CRASH, Verdict.ERROR_AFTER_CHILD_OOM, LIKELY, Reason.ERROR_EXIT, FAILED),
    "ours in time": (OURS_IN_TIME, Verdict.STOPPED_IN_TIME, CERTAIN, Reason.STOPPED_BY_REQUEST, STOPPED),
    "ours with an own code": (OURS_OWN_CODE, Verdict.STOPPED_IN_TIME, CERTAIN, Reason.STOPPED_BY_REQUEST, STOPPED),
    "ours by force": (OURS_BY_FORCE, Verdict.STOPPED_BY_FORCE, CERTAIN, Reason.STOPPED_BY_REQUEST, STOPPED),
    "ours, 137, events lost": (OURS_NO_EVENT, Verdict.STOPPED_BY_FORCE, LIKELY, Reason.STOPPED_BY_REQUEST, STOPPED),
    "ours, meanwhile oom": (OURS_WITH_OOM, Verdict.STOPPED_BY_FORCE, LIKELY, Reason.STOPPED_BY_REQUEST, STOPPED),
    "ours, end unseen": (OURS_UNSEEN, Verdict.UNKNOWN, UNKNOWN, Reason.STOPPED_BY_REQUEST, STOPPED),
    "ours, no kill seen": (OURS_NO_KILL, Verdict.STOPPED_IN_TIME, LIKELY, Reason.STOPPED_BY_REQUEST, STOPPED),
    "theirs": (THEIRS, Verdict.STOPPED_EXTERNALLY, CERTAIN, Reason.STOPPED_EXTERNALLY, STOPPED),
    "theirs, exit 0": (THEIRS_CLEAN, Verdict.STOPPED_EXTERNALLY, LIKELY, Reason.STOPPED_EXTERNALLY, STOPPED),
    "theirs by force": (THEIRS_BY_FORCE, Verdict.STOPPED_EXTERNALLY, CERTAIN, Reason.STOPPED_EXTERNALLY, STOPPED),
    "theirs, meanwhile oom": (THEIRS_WITH_OOM, Verdict.STOPPED_EXTERNALLY, CERTAIN, Reason.STOPPED_EXTERNALLY, STOPPED),
    "stop in back-off": (STOP_IN_BACKOFF, Verdict.STOPPED_EXTERNALLY, CERTAIN, Reason.STOPPED_EXTERNALLY, STOPPED),
    "killed": (KILLED, Verdict.KILLED_EXTERNALLY, CERTAIN, Reason.KILLED_EXTERNALLY, STOPPED),
    "killed, meanwhile oom": (KILLED_WITH_OOM, Verdict.KILLED_EXTERNALLY, CERTAIN, Reason.KILLED_EXTERNALLY, STOPPED),
    "stop signal is 9": (STOPPED_WITH_KILL, Verdict.STOPPED_EXTERNALLY, CERTAIN, Reason.STOPPED_EXTERNALLY, STOPPED),
    "rm -f": (REMOVED, Verdict.REMOVED_EXTERNALLY, CERTAIN, Reason.REMOVED_EXTERNALLY, STOPPED),
    "start failed": (START_FAILED, Verdict.START_FAILED, CERTAIN, Reason.START_FAILED, FAILED),
    "start failed, stopped": (START_FAILED_BEHIND_STOP, Verdict.START_FAILED, CERTAIN, Reason.START_FAILED, FAILED),
    "engine's restart failed": (RESTART_FAILED, Verdict.START_FAILED, CERTAIN, Reason.START_FAILED, FAILED),
    "the program's own 127": (OWN_127, Verdict.ERROR_EXIT, CERTAIN, Reason.ERROR_EXIT, FAILED),
    "engine stopped": (ENGINE, Verdict.ENGINE_STOPPED, LIKELY, Reason.ENGINE_RESTART, STOPPED),
    "engine stopped, exit 0": (ENGINE_CLEAN, Verdict.ENGINE_STOPPED, LIKELY, Reason.ENGINE_RESTART, STOPPED),
    "engine crashed": (ENGINE_CRASH, Verdict.ENGINE_STOPPED, LIKELY, Reason.ENGINE_RESTART, FAILED),
    "--rm unseen": (AUTO_REMOVED, Verdict.AUTO_REMOVED, LIKELY, Reason.LOST, FAILED),
    "--rm with its die": (AUTO_REMOVED_BUT_SEEN, Verdict.ERROR_EXIT, CERTAIN, Reason.ERROR_EXIT, FAILED),
    "lost": (LOST, Verdict.UNKNOWN, UNKNOWN, Reason.LOST, FAILED),
    "gone after a die": (GONE_AFTER_DIE, Verdict.UNKNOWN, UNKNOWN, Reason.EXIT_UNKNOWN, FAILED),
    "invented 255": (INVENTED, Verdict.UNKNOWN, UNKNOWN, Reason.EXIT_UNKNOWN, FAILED),
    "real 255": (REAL_255, Verdict.ERROR_EXIT, CERTAIN, Reason.ERROR_EXIT, FAILED),
    "no code": (NO_CODE, Verdict.UNKNOWN, UNKNOWN, Reason.EXIT_UNKNOWN, FAILED),
}


@pytest.mark.parametrize("case", TABLE)
def test_each_end_gets_its_row(case: str) -> None:
    facts, verdict, confidence, reason, phase = TABLE[case]
    found = diagnose(facts)
    assert (found.exit.verdict, found.exit.confidence, found.reason, found.phase) == (
        verdict,
        confidence,
        reason,
        phase,
    )


def test_every_verdict_is_reached() -> None:
    assert {row[1] for row in TABLE.values()} == set(Verdict)


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (StopCause.REQUEST, Reason.STOPPED_BY_REQUEST),
        (StopCause.RESTART, Reason.STOPPED_BY_REQUEST),
        (StopCause.REMOVE, Reason.STOPPED_BY_REQUEST),
        (StopCause.SHUTDOWN, Reason.CONTROLLER_SHUTDOWN),
        (StopCause.EXPIRED, Reason.EXPIRED),
        (StopCause.NOT_CONNECTED, Reason.NOT_CONNECTED),
        (StopCause.UNHEALTHY, Reason.UNHEALTHY_RESTART),
        (StopCause.ORPHAN, Reason.ORPHAN_FOUND),
    ],
)
@pytest.mark.parametrize("code", [0, 3, 137, 143, None])
def test_our_own_stop_keeps_its_cause_whatever_the_code(cause: StopCause, reason: Reason, code: int | None) -> None:
    found = diagnose(EndFacts(exit_code=code, died_at=END, intent=intent(cause), kill_signal=15))
    assert (found.reason, found.phase) == (reason, Phase.STOPPED)


def test_a_bare_137_says_exactly_what_it_can() -> None:
    found = diagnose(BARE_KILL)
    assert found.exit.evidence[0] == "SIGKILL from outside the engine, or the program's own exit(137)"
    assert found.exit.evidence[0] == SIGKILL_UNEXPLAINED
    assert found.exit.signal is None


def test_an_invented_code_is_never_stored() -> None:
    for facts in (INVENTED, ENGINE_CRASH):
        assert diagnose(facts).exit.exit_code is None


@pytest.mark.parametrize(
    ("facts", "signal"),
    [(SEGFAULT, 11), (BARE_TERM, 15), (OOM, 9), (KILLED, 9), (OURS_BY_FORCE, 9), (THEIRS_BY_FORCE, 9), (ERROR, None)],
)
def test_the_signal_is_told_where_something_tells_it(facts: EndFacts, signal: int | None) -> None:
    assert diagnose(facts).exit.signal == signal


@pytest.mark.parametrize("code", [-1, -1_073_741_819, 128, 145, 146, 160, 162, 200, 254, 256, 2**40])
def test_odd_codes_are_the_programs_own(code: int) -> None:
    found = diagnose(EndFacts(exit_code=code, died_at=END))
    assert (found.exit.verdict, found.exit.exit_code, found.exit.signal) == (Verdict.ERROR_EXIT, code, None)


def test_the_evidence_of_an_oom_names_the_event_the_flag_and_the_limit() -> None:
    assert diagnose(OOM).exit.evidence == (
        "Exit code 137",
        "A die event was seen",
        "No kill event that could explain it",
        "An oom event was seen at the end",
        "The engine says OOMKilled, which counts for any process in the container",
        "Its memory limit was 64 MiB",
    )


def test_our_stop_mentions_an_oom_that_came_in_between() -> None:
    evidence = diagnose(OURS_WITH_OOM).exit.evidence
    assert "We had asked for the stop (request, by user:alice, with 10 s of grace)" in evidence
    assert "An oom event was seen at the end" in evidence


def test_the_engines_words_cannot_forge_a_line() -> None:
    hostile = "boom\n2026-01-01 fake line\x1b[31m\u202e" + "x" * 5000
    found = diagnose(EndFacts(exit_code=127, never_started=True, error=hostile, last_probe=hostile))
    assert found.exit.error == hostile
    for sentence in found.exit.evidence:
        assert sentence.isprintable()
        assert len(sentence) < 300
