"""What the README shows is what happens."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pipelab.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def sessions():
    """The commands of the console blocks with their output."""
    for block in blocks("console"):
        for session in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            yield session.split("\n", 1)


def test_the_two_commands_are_single_lines_of_their_own():
    assert blocks("sh") == [
        "python3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/pipelab lab\n",
        "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/python -m "
        "pytest -n 2 --dist worksteal -m 'not timing' && .venv/bin/python -m pytest -m timing\n",
    ]


@pytest.mark.parametrize("command, output", list(sessions()))
def test_commands_print_what_the_readme_says(capsys, command, output):
    program, *arguments = shlex.split(command)
    assert program == "pipelab"
    assert main(arguments) == 0
    assert capsys.readouterr().out == output


def test_the_python_examples_run():
    short, long, mesh = map(output_of, blocks("python"))
    assert float(short) == pytest.approx(9 / 33)
    losses, error, bubbles = long.splitlines()
    first, *_, last = map(float, losses.strip("[]").split(","))
    assert last < first
    assert float(error) <= 1e-5
    assert all(0 < float(bubble) < 1 for bubble in bubbles.split())
    error, sent, held = mesh.splitlines()
    assert float(error) <= 1e-5
    assert min(json.loads(sent.replace("'", '"'))[name] for name in ("tensor", "unshard")) > 0
    held = json.loads(held.replace("'", '"'))
    assert held["optimizer"] == pytest.approx(held["weights"], rel=0.05)  # 2 / data


def output_of(example):
    # From standard input: the workers must not need a file of ours to start from.
    answer = subprocess.run(
        [sys.executable, "-"], input=example, capture_output=True, text=True, timeout=100
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_every_command_is_in_the_table(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    listed = re.findall(r"^    (\w+)(?: |$)", capsys.readouterr().out, re.MULTILINE)
    assert listed == [
        "lab", "doctor", "schedule", "simulate", "check", "train", "profile", "partition",
        "estimate", "plan", "grade", "handout", "autograder",
    ]  # fmt: skip
    assert all(f"| `{command}` |" in README for command in listed)


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / target).exists(), target
