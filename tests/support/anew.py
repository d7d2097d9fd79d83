"""Examples that each commit draws anew: what CI tries differs from commit to commit, and can be tried again."""

import os
from collections.abc import Callable
from functools import wraps
from typing import Final, ParamSpec

from hypothesis import note, seed

from tests.support.commit_number import drawn_by_commit

Arguments = ParamSpec("Arguments")
_VARIABLE: Final = "AGENTD_EXAMPLES_SEED"


SEED: Final = int(os.environ.get(_VARIABLE) or drawn_by_commit(10**9))


def anew(test: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """Stands below `@given`: its examples come from this commit's seed, which a failure tells."""

    @wraps(test)
    def told(*arguments: Arguments.args, **named: Arguments.kwargs) -> None:
        note(f"the same examples again: {_VARIABLE}={SEED}")
        test(*arguments, **named)

    return seed(SEED)(told)
