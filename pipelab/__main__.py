"""`python -m pipelab`: the same as the `pipelab` command."""

import sys

from pipelab.cli import main

if __name__ == "__main__":
    sys.exit(main())
