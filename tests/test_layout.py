"""Code is laid out as pyproject.toml says; the linter and the type checker have nothing to say."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COLUMNS = 100
SCRIPTS = [*ROOT.glob("pipelab/**/*.js"), *ROOT.glob("tests/**/*.mjs")]


def run(*command):
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True
    )


@pytest.mark.parametrize("command", [["format", "--check"], ["check"]], ids=" ".join)
def test_ruff(command):
    done = run("ruff", *command, ".")
    assert done.returncode == 0, done.stdout


@pytest.mark.timeout(400)
def test_types(tmp_path):
    """Without the cache of an earlier check, which may hide an error."""
    done = run("mypy", "--cache-dir", str(tmp_path))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_lines_of_javascript_are_as_long_as_those_of_python(path):
    long = [line for line in path.read_text(encoding="utf-8").splitlines() if len(line) > COLUMNS]
    assert long == []
