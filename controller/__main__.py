"""`python -m controller` is `agentdctl`."""

import sys

from controller.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
