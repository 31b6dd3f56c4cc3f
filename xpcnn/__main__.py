"""``python -m xpcnn``: the same as the command ``xpcnn``."""

import sys

from xpcnn.cli import main

if __name__ == "__main__":
    sys.exit(main())
