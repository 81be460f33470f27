"""`python -m bayestl` is the command `bayestl`."""

import sys

from bayestl.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
