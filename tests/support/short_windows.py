"""The real program with event windows of seconds in place of minutes: `ControllerProcess(under=SHORT_WINDOWS)`.

A user has no reason to set their length; a test that waits for a renewal has.
"""

import runpy
import sys
from typing import Final

from controller.loops import windows

SHORT_WINDOWS: Final = (sys.executable, "-m", "tests.support.short_windows")
WINDOW_S: Final = 5.0
OVERLAP_S: Final = 2.0

if __name__ == "__main__":
    vars(windows).update(WINDOW_S=WINDOW_S, OVERLAP_S=OVERLAP_S)
    # What follows is the usual command: an interpreter, -m, the program and its arguments.
    sys.argv = sys.argv[3:]
    runpy.run_module("controller", run_name="__main__")
