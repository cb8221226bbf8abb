"""Code is laid out as pyproject.toml says; the linter and the type checker have nothing to say."""

import ast
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


ENGINE = ROOT / "pipelab" / "engine"
MOST = {"a folder of the engine": 1600, "a module of it": 320, "any module": 470}
"""Lines: what a reader takes in. They had grown unseen."""


def lines_of(*paths):
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)


@pytest.mark.parametrize("folder", [ENGINE, *ENGINE.glob("*/")], ids=lambda path: path.name)
def test_a_folder_of_the_engine_can_be_read_in_one_go(folder):
    modules = list(folder.glob("*.py"))
    assert lines_of(*modules) <= MOST["a folder of the engine"]
    assert [m.name for m in modules if lines_of(m) > MOST["a module of it"]] == []


def test_modules_and_functions_are_short():
    for path in ROOT.glob("pipelab/**/*.py"):
        assert lines_of(path) <= MOST["any module"], path
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                first = node.body[1 if ast.get_docstring(node) and len(node.body) > 1 else 0]
                assert node.end_lineno - first.lineno < 60, f"{node.name} in {path}"


def test_what_executes_a_schedule_is_small():
    names = ("rank/interpreter.py", "rank/mail.py", "stage/stage.py", "stage/split.py")
    assert lines_of(*(ENGINE / name for name in names)) <= 900
