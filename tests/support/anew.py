"""Examples that each commit draws anew: what CI tries differs from commit to commit, and can be tried again."""

import os
import random
import subprocess
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Final, ParamSpec

from hypothesis import note, seed

Arguments = ParamSpec("Arguments")
_VARIABLE: Final = "AGENTD_EXAMPLES_SEED"


def _of_commit() -> int:
    asked = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, check=False, capture_output=True, text=True
    )
    commit = asked.stdout.strip()
    return int(commit[:15], 16) % 10**9 if commit else random.SystemRandom().randrange(10**9)


SEED: Final = int(os.environ.get(_VARIABLE) or _of_commit())


def anew(test: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """Stands below `@given`: its examples come from this commit's seed, which a failure tells."""

    @wraps(test)
    def told(*arguments: Arguments.args, **named: Arguments.kwargs) -> None:
        note(f"the same examples again: {_VARIABLE}={SEED}")
        test(*arguments, **named)

    return seed(SEED)(told)
