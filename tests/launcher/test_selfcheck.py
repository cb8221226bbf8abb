"""The self-check: it trains for real, and tells what it found."""

import pytest

from pipelab.errors import RunError
from pipelab.launcher import selfcheck


def test_on_this_machine(capsys):
    assert selfcheck.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["devices", "training", "bubble", "gradients"]
    assert "CPU core" in lines[1] and "4 ranks, processes" in lines[1]
    assert "predicted 27.3% (idle / (ranks × makespan))" in lines[3]
    assert "equal to the unsplit model's" in lines[4]


def test_gradients_that_differ_fail_it(monkeypatch):
    monkeypatch.setattr(selfcheck, "EQUAL", -1)
    report = selfcheck.selfcheck()
    assert not report.ok
    assert "NOT equal to the unsplit model's" in report.lines[-1]


def test_a_training_that_fails_is_told(monkeypatch, capsys):
    def fail():
        raise RunError("rank 2 died")

    monkeypatch.setattr(selfcheck, "selfcheck", fail)
    assert selfcheck.main() == 1
    assert "self-check failed: rank 2 died" in capsys.readouterr().out


@pytest.mark.parametrize("names, said", [([], "no GPU"), (["H200", "H200"], "H200, H200")])
def test_devices(monkeypatch, names, said):
    import pipelab.engine

    monkeypatch.setattr(pipelab.engine, "gpu_names", lambda: names)
    assert selfcheck.devices().endswith(f"GiB memory, {said}")
