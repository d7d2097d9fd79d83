"""A folder short enough to hold a unix socket."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest


@pytest.fixture
def folder() -> Iterator[Path]:
    with TemporaryDirectory(dir="/tmp", prefix="fp") as path:  # short: it holds a unix socket
        yield Path(path)
