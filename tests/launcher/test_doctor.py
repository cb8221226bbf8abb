"""The doctor: what it sees, and what it advises."""

import json
import subprocess
import sys

import pytest

from pipelab.cli import main
from pipelab.launcher import doctor


def test_this_machine_is_fine(capsys):
    assert main(["doctor", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["ok"], data["problems"]
    assert data["versions"]["pipelab"] == "0.1.0"
    assert data["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert data["cores"] >= 1 and data["memory_bytes"] > 2**28


def a_machine(**changes):
    healthy = {
        "versions": {"torch": "2.13.0", "plotly": "7.1.0"},
        "notebooks": "/course/notebooks",
        "cores": 8,
        "fork": True,
        "chromium": "/usr/bin/chromium",
        "unusable_gpus": None,
    }
    return healthy | changes


def test_a_healthy_machine_has_no_problems():
    assert doctor.problems(a_machine(), None) == []


@pytest.mark.parametrize(
    "machine, torch_problem, what, do, needed",
    [
        (
            {"versions": {"torch": None}},
            "whatever",
            "not installed: torch",
            "pip install -e .",
            True,
        ),
        (
            {},
            "torch cannot be imported: OSError: libgomp.so.1",
            "libgomp",
            "pip install --force-reinstall torch",
            True,
        ),
        ({"notebooks": None}, None, "the notebooks are not there", "from a checkout", True),
        ({"cores": 1}, None, "one CPU core", "--pace 10,20", False),
        ({"fork": False}, None, "cannot fork", "it works", False),
        ({"chromium": None}, None, "no Chromium", "apt-get install chromium", False),
    ],
)
def test_what_is_missing_comes_with_what_to_do(machine, torch_problem, what, do, needed):
    (problem,) = doctor.problems(a_machine(**machine), torch_problem)
    assert what in problem["what"] and do in problem["do"] and problem["needed"] is needed


def test_a_torch_that_cannot_be_imported_is_a_finding(monkeypatch):
    monkeypatch.setattr(doctor, "PROBE", "raise ImportError('no libtorch')")
    assert doctor.look_at_torch() == (None, "torch cannot be imported: ImportError: no libtorch")
    report = doctor.examine()
    assert not report.data["ok"]
    assert "PROBLEM: torch cannot be imported: ImportError: no libtorch" in report.text
    assert report.text.endswith("pipelab will not work until the problems are solved")


def test_a_torch_that_hangs_is_a_finding(monkeypatch):
    monkeypatch.setattr(doctor, "PROBE", "import time; time.sleep(60)")
    monkeypatch.setattr(doctor, "TORCH_S", 1)
    assert doctor.look_at_torch() == (None, "importing torch takes longer than 1 s")


def test_the_report_for_a_person():
    answer = subprocess.run(
        [sys.executable, "-m", "pipelab", "doctor"], capture_output=True, text=True, timeout=60
    )
    assert answer.returncode == 0
    heads = [line.split()[0] for line in answer.stdout.splitlines()[:8]]
    assert heads == [
        "versions",
        "system",
        "cores",
        "memory",
        "GPUs",
        "workers",
        "notebooks",
        "chromium",
    ]
