"""Each row of the truth table on a real engine, through the whole program, twice. `make diagnosis` counts more runs."""

from collections.abc import Iterator

import pytest

from tests.docker.bench import Bench, Told
from tests.docker.diagnosis import CAUSES, Cause
from tests.support.private_engine import missing

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(bool(missing()), reason=f"no private engine here: {missing()}"),
    pytest.mark.timeout(300),
]

RUNS = 2
QUIET = [cause for cause in CAUSES if not cause.disrupts]
DISRUPTING = [cause for cause in CAUSES if cause.disrupts]


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Bench() as found:
        yield found


@pytest.fixture(scope="module")
def told(bench: Bench) -> dict[str, list[Told | None]]:
    """What is said of each cause that leaves engine and controller alone; all of them side by side."""
    names = {cause.name: [bench.fresh_name() for _ in range(RUNS)] for cause in QUIET}
    for cause in QUIET:
        cause.produce(bench, names[cause.name])
    ends = bench.await_ends([name for each in names.values() for name in each])
    return {cause: [ends.get(name) for name in each] for cause, each in names.items()}


@pytest.mark.parametrize("cause", QUIET, ids=lambda cause: cause.name)
def test_each_cause_is_told_rightly(told: dict[str, list[Told | None]], cause: Cause) -> None:
    assert [cause.judge(each) for each in told[cause.name]] == ["right"] * RUNS, told[cause.name]


@pytest.mark.parametrize("cause", DISRUPTING, ids=lambda cause: cause.name)
def test_each_disruption_is_told_rightly(bench: Bench, cause: Cause) -> None:
    names = [bench.fresh_name() for _ in range(RUNS)]
    cause.produce(bench, names)
    ends = bench.await_ends(names)
    assert [cause.judge(ends.get(name)) for name in names] == ["right"] * RUNS, [bench.timeline(name) for name in names]


def test_why_reads_as_in_the_published_table(bench: Bench) -> None:
    name = bench.fresh_name()
    bench.watch(name, "exit 3")
    bench.await_ends([name])
    sentence, outlook = bench.why(name)
    assert sentence.startswith(f"{name} ended with an error after ")
    assert sentence.endswith(": its program returned exit code 3.")
    assert outlook.startswith("It stays down (restart policy no). ")
