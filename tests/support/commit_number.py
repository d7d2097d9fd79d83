"""A number that each commit draws anew: what is tried differs from commit to commit, and can be tried again."""

import random
import subprocess
from pathlib import Path


def drawn_by_commit(below: int) -> int:
    """The same for one commit, wherever it is asked for; a random one where there is no commit."""
    asked = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, check=False, capture_output=True, text=True
    )
    commit = asked.stdout.strip()
    return int(commit[:15], 16) % below if commit else random.SystemRandom().randrange(below)
