"""``run(partition=...)``: words, what auto chooses, and that no batch is lost by it."""

import json
import time

import pytest
import torch
from torch import nn
from torch.nn import functional

import pipelab
from pipelab.cli import main
from pipelab.errors import UsageError


class Slow(nn.Module):
    def __init__(self, seconds):
        super().__init__()
        self.seconds, self.linear = seconds, nn.Linear(4, 4)

    def forward(self, x):
        time.sleep(self.seconds)
        return self.linear(x)


def uneven():
    """Five layers, of which the last takes as long as the four others together."""
    return [*(Slow(0.01) for _ in range(4)), Slow(0.04)]


X = torch.randn(8, 4)
HOW = {"schedule": "1f1b", "ranks": 2, "microbatches": 2}


def test_auto_balances_what_it_measures_and_says_so():
    run = pipelab.run(uneven(), X, X, functional.mse_loss, **HOW, partition="auto")
    assert run.partition == [4, 1]
    assert run.partition_note.startswith("partition: [4, 1], where the slowest rank takes ")
    assert "[3, 2] would take" in run.partition_note
    assert run.gradient_error <= 1e-5


@pytest.mark.parametrize(("given", "sizes"), [("even", [3, 2]), (None, [3, 2]), ([1, 4], [1, 4])])
def test_other_ways_measure_nothing(given, sizes):
    run = pipelab.run(uneven(), X, X, functional.mse_loss, **HOW, partition=given)
    assert run.partition == sizes and run.partition_note is None


def test_auto_asks_for_no_batch_twice(tmp_path):
    """A loader's first batch was looked at, and training began with the second."""

    def train(partition, resume=None):
        asked = []

        def inputs(step):
            asked.append(step)
            return X + step, X

        torch.manual_seed(0)
        run = pipelab.run(
            [nn.Linear(4, 4) for _ in range(3)], inputs, None, functional.mse_loss, **HOW, steps=3,
            optimizer=lambda p: torch.optim.SGD(p, lr=0.1), partition=partition, resume=resume,
        )  # fmt: skip
        return run, asked

    plain, asked = train([2, 1])
    auto, asked_by_auto = train("auto")
    assert asked_by_auto == asked == [0, 1, 2] and auto.losses == pytest.approx(plain.losses)
    plain.save(tmp_path / "c.pt")
    resumed, asked = train("auto", tmp_path / "c.pt")
    assert asked == [3, 4, 5] and len(resumed.losses) == 3


def test_refusals(monkeypatch):
    with pytest.raises(UsageError, match="partition is 'evn'; it is 'auto'"):
        pipelab.run(uneven(), X, X, functional.mse_loss, **HOW, partition="evn")
    with pytest.raises(UsageError, match="10 stages are more than the 5 layers"):
        many = HOW | {"ranks": 10}
        pipelab.run(uneven(), X, X, functional.mse_loss, **many, partition="auto")
    with pytest.raises(UsageError, match="inputs cannot be called with step"):
        pipelab.run(uneven(), lambda: X, None, functional.mse_loss, **HOW, partition="auto")
    for name, value in {
        "RANK": "0",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "x",
        "MASTER_PORT": "1",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="processes of torchrun would not measure the same"):
        pipelab.run(uneven(), X, X, functional.mse_loss, **HOW, partition="auto")


def test_the_command(capsys):
    small = ["train", "--model", "mlp", "--layers", "5", "--width", "8", "--steps", "1", "--json"]
    for flags, sizes in (
        ([], [3, 2]),
        (["--partition", "even"], [3, 2]),
        (["--partition", "1,4"], [1, 4]),
    ):
        assert main([*small, *flags]) == 0
        data = json.loads(capsys.readouterr().out)
        assert data["partition"] == sizes and data["partition_note"] is None
    assert main([*small, "--partition", "auto"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert sum(data["partition"]) == 5 and "partition: " in data["partition_note"]
    assert main([*small, "--partition", "5"]) == 2
    assert main([*small, "--partition", "odd"]) == 2
