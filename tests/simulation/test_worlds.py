"""Worlds as CI plays them: the kept seeds first, then fresh ones for as long as there is time, then single faults.

Each plays in a process of its own, as `make simulate` does. `AGENTD_SIMULATION_SECONDS` says for how long fresh ones
are played, `AGENTD_SIMULATION_SEEDS` how many there are at the least (CI: 150 s and 300).
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.support.commit_number import drawn_by_commit

ROOT: Final = Path(__file__).parents[2]
KEPT: Final = Path(__file__).parents[1] / "seeds.txt"
SECONDS: Final = float(os.environ.get("AGENTD_SIMULATION_SECONDS", "20"))
SEEDS: Final = int(os.environ.get("AGENTD_SIMULATION_SEEDS", "0"))
SLICE_SECONDS: Final = min(SECONDS, 60.0)
PROCESSES: Final = 2
_ENVIRONMENT: Final = {key: value for key, value in os.environ.items() if key != "PYTHONHASHSEED"}


def kept_seeds() -> list[str]:
    """The first word of each line that is no comment."""
    lines = (line.split() for line in KEPT.read_text(encoding="utf-8").splitlines())
    return [words[0] for words in lines if words and not words[0].startswith("#")]


def begin(module: str, *arguments: str, hash_seed: str = "random") -> subprocess.Popen[str]:
    """One command of the simulation, in a process of its own."""
    # What waits for a real engine beside it goes first.
    return subprocess.Popen(
        ["nice", "-n", "10", sys.executable, "-m", f"tests.simulation.{module}", *arguments],
        cwd=ROOT,
        env={**_ENVIRONMENT, "PYTHONHASHSEED": hash_seed},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def end(*processes: subprocess.Popen[str]) -> list[tuple[int, str]]:
    """Exit code and output of each."""
    said = [process.communicate()[0] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


@pytest.mark.timeout(900)
def test_no_kept_seed_fails_again() -> None:
    seeds = kept_seeds()
    halves = [seeds[turn::PROCESSES] for turn in range(PROCESSES)]
    for code, said in end(*(begin("run", "--only", *half) for half in halves if half)):
        assert code == 0, said


@pytest.mark.timeout(900)
def test_fresh_worlds_hold_every_invariant() -> None:
    asked = ("--seeds", "100000", "--first", str(drawn_by_commit(10**9)), "--seconds", str(SECONDS))
    running = [begin("run", *asked, "--at-least", str(SEEDS // PROCESSES), *kind) for kind in ((), ("--recall",))]
    for code, said in end(*running):
        print(said[-300:])
        assert code == 0, said


@pytest.mark.timeout(300)
def test_two_processes_play_the_same_world() -> None:
    told = end(*(begin("run", "--seeds", "2", "--digests", hash_seed=seed) for seed in ("1", "2")))
    digests = [[line for line in said.splitlines() if "digest" in line] for _, said in told]
    assert digests[0] == digests[1]
    assert len(digests[0]) == 2


@pytest.mark.timeout(300)
def test_worlds_end_alike_whatever_becomes_of_their_events() -> None:
    ((code, said),) = end(begin("twins", "--first", "100", "--seeds", "12"))
    assert code == 0, said


@pytest.mark.timeout(900)
def test_a_slice_of_the_single_faults_harms_nothing() -> None:
    width = 8
    turn = drawn_by_commit(width // PROCESSES)
    running = [
        begin("complete", "--slice", f"{turn * PROCESSES + place + 1}/{width}", "--seconds", str(SLICE_SECONDS))
        for place in range(PROCESSES)
    ]
    for code, said in end(*running):
        print(said[-300:])
        assert code == 0, said


@pytest.mark.timeout(300)
def test_the_canary_is_found() -> None:
    """The first planted bug: were it not found, nothing else here would prove anything."""
    ((code, said),) = end(begin("planted", "--only", "act before commit"))
    assert code == 0, said
    assert "found in run" in said


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_every_planted_bug_is_found() -> None:
    ((code, said),) = end(begin("planted"))
    assert code == 0, said
