"""The process in which a student's code runs: limits first, then pytest.

python -m pipelab.grading.child MEMORY_BYTES FILE_BYTES pytest-arguments …
"""

import resource
import sys


def main() -> int:
    """Set the limits, then run pytest; returns its exit code."""
    memory, size = int(sys.argv[1]), int(sys.argv[2])
    # Of data, not of address space: shared memory of the engine, and what torch reserves, take none
    # until they are used.
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import pytest

    return pytest.main(sys.argv[3:])


if __name__ == "__main__":
    sys.exit(main())
