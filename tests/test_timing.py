"""Tests with a bound on seconds or bytes run last, and once more when they fail."""

import subprocess
import sys
from pathlib import Path

TESTS = """
import pytest

tries = []

@pytest.fixture
def counted():
    tries.append(len(tries))
    yield len(tries)

@pytest.mark.timing
def test_slow_once(counted):
    assert counted == 2

@pytest.mark.timing
def test_always_slow(counted):
    assert counted < 0

def test_ordinary():
    assert tries == []

def test_wrong():
    assert False
"""


def test_a_timed_test_runs_last_and_has_a_second_try(tmp_path):
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    timing: one\n    gpu: other\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-p", "tests.conftest", str(tmp_path)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=60,
    )
    told = [line.split()[:2] for line in done.stdout.splitlines() if "%]" in line]
    assert [(name.partition("::")[2], status) for name, status in told] == [
        ("test_ordinary", "PASSED"),
        ("test_wrong", "FAILED"),
        ("test_slow_once", "PASSED"),
        ("test_always_slow", "FAILED"),
    ]
    again = [line for line in done.stdout.splitlines() if line.startswith("TIMING")]
    assert len(again) == 2 and "test_slow_once failed and was tried once more" in again[0]
    assert "2 failed, 2 passed" in done.stdout
