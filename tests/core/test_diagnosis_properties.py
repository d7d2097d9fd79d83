"""Whatever is known of an end, there is one diagnosis, and it never claims more than the facts carry."""

from hypothesis import given
from hypothesis import strategies as st

from controller.core.diagnosis import EndFacts, diagnose
from controller.model.exit import Confidence, Verdict
from controller.model.instant import Instant
from controller.model.phase import Phase
from controller.model.session import Intent, StopCause

BASE = 1_772_460_190_000_000_000
instants = st.none() | st.integers(BASE - 10**13, BASE + 10**13).map(Instant)
signals = st.none() | st.sampled_from([1, 2, 9, 10, 15, 34, 64, 0, 99, -1])
codes = (
    st.none() | st.integers() | st.sampled_from([0, 1, 3, 125, 126, 127, 128, 129, 134, 137, 139, 143, 255, -1, 2**64])
)
intents = st.none() | st.builds(
    Intent,
    cause=st.sampled_from(StopCause),
    actor=st.text(max_size=20),
    at=st.integers(BASE - 10**13, BASE + 10**13).map(Instant),
    grace_s=st.floats(0, 1000),
)
any_facts = st.builds(
    EndFacts,
    exit_code=codes,
    code_may_be_invented=st.booleans(),
    started_at=instants,
    finished_at=instants,
    died_at=instants,
    oom_flag=st.booleans(),
    oom_at=instants,
    memory_limit_bytes=st.integers(-1, 2**62),
    intent=intents,
    first_kill_signal=signals,
    kill_signal=signals,
    kill_unnamed=st.booleans(),
    kill_at=instants,
    stop_at=instants,
    engine_stopped=st.booleans(),
    gone=st.booleans(),
    destroyed_with_kill=st.booleans(),
    auto_remove=st.booleans(),
    never_started=st.booleans(),
    error=st.text(max_size=30),
    last_probe=st.text(max_size=30),
)


@given(any_facts)
def test_any_facts_give_one_ended_phase(facts: EndFacts) -> None:
    found = diagnose(facts)
    assert found.phase in {Phase.STOPPED, Phase.FAILED}
    assert found.exit.evidence
    assert found == diagnose(facts)


@given(any_facts)
def test_137_is_never_out_of_memory_without_a_sign_of_it(facts: EndFacts) -> None:
    if diagnose(facts).exit.verdict is Verdict.OUT_OF_MEMORY:
        assert facts.oom_flag or facts.oom_at is not None
        assert facts.exit_code == 137
        assert facts.intent is None
        assert facts.kill_signal is None


@given(any_facts)
def test_an_invented_code_never_leaves_the_table(facts: EndFacts) -> None:
    exit_ = diagnose(facts).exit
    assert exit_.exit_code == (None if facts.code_may_be_invented else facts.exit_code)


@given(any_facts)
def test_what_was_asked_for_is_stopped_unless_it_never_ran(facts: EndFacts) -> None:
    found = diagnose(facts)
    if facts.intent is not None and found.exit.verdict is not Verdict.START_FAILED:
        assert found.phase is Phase.STOPPED


@given(any_facts)
def test_a_signal_read_from_the_code_alone_is_never_certain(facts: EndFacts) -> None:
    exit_ = diagnose(facts).exit
    if exit_.verdict is Verdict.APPLICATION_SIGNAL:
        assert exit_.confidence is Confidence.LIKELY
