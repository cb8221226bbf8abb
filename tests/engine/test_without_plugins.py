"""A borrowed machine with a GPU has pytest, and none of its plugins, nor Jupyter."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ABSENT = """
import sys, pytest
sys.modules |= dict.fromkeys(["nbclient", "nbformat"])  # as if they were not installed
plain = ["-p", "no:timeout", "-p", "no:cacheprovider", "--collect-only", "-q"]
sys.exit(pytest.main([*plain, "-m", "gpu", *sys.argv[1:]]))
"""


def test_tests_for_the_gpu_are_found_there():
    """A test beside them that needs a notebook's kernel ended the session: none of them ran."""
    answer = subprocess.run(
        [sys.executable, "-c", ABSENT, str(HERE)],
        cwd=HERE.parents[1],
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert answer.returncode == 0, answer.stdout
    assert "test_every_schedule_on_the_gpu" in answer.stdout
