"""Everything that cannot work is refused before a worker starts, with what would."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import pipelab
from pipelab.engine.hosts import pool

from .conftest import batch, mlp


@pytest.fixture(autouse=True)
def no_workers(monkeypatch):
    def launch(*_):
        raise AssertionError("a worker was started")

    monkeypatch.setattr(pool.ForkServer, "launch", launch)


def train(model=None, data=None, loss=functional.cross_entropy, **options):
    options = {"schedule": "1f1b", "ranks": 2, "microbatches": 2} | options
    return pipelab.run(model or mlp(4), *(data or batch()), loss, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"schedule": "1f1v"},
            "There is no schedule '1f1v'. Did you mean '1f1b'? Valid names: naive, gpipe, 1f1b, ",
        ),
        ({"ranks": 5}, "5 stages are more than the 4 layers"),
        (
            {"microbatches": 25},
            "A batch of 24 cannot be split into 25 micro-batches: use at most 24",
        ),
        ({"ranks": 0}, "0 ranks are impossible"),
        ({"stages_per_rank": 2}, "1f1b has one stage per rank, not 2"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": 10**8}, "GiB: use at most"),
        (
            {"device": "tpu"},
            "There is no device 'tpu'. Did you mean 'cpu'? Valid names: auto, cpu, cuda.",
        ),
        (
            {"workers": "fibers"},
            "There is no kind of workers 'fibers'. Valid names: auto, processes, threads, "
            "torchrun.",
        ),
        ({"partition": [3, 3]}, "adds up to 6 layers, but the model has 4"),
        ({"timeout": 0}, "timeout is 0"),
        ({"latency": -1}, "latency is -1"),
        ({"latency": float("nan")}, "latency is nan"),
        ({"pace": 3}, "pace is 3"),
        ({"pace": (0, 1)}, "pace of 0 s means no pacing"),
        ({"optimizer": "sgd"}, "optimizer is not callable"),
        (
            {"scheduler": "cosine", "optimizer": torch.optim.Adam},
            "scheduler is not callable; pass a factory that takes the",
        ),
        (
            {"scheduler": torch.optim.lr_scheduler.ConstantLR},
            "scheduler without an optimizer changes nothing",
        ),
        ({"clip": 1.0}, "clip without an optimizer changes nothing"),
        (
            {"clip": 0, "optimizer": torch.optim.Adam},
            "clip is 0, which leaves nothing of the gradients",
        ),
        ({"pace": pipelab.Costs(0.1, bandwidth=1)}, "A paced run knows one latency between ranks"),
        ({"clip": -1}, "clip is -1; it is a finite number, 0 or more."),
        (
            {"dtype": "float16"},
            "There is no dtype 'float16'. Did you mean 'bfloat16'? Valid names: float32, bfloat16.",
        ),
        (
            {"recompute": "always"},
            "There is no way of recomputing 'always'. Valid names: in-backward, early.",
        ),
        ({"loss": None}, "loss_fn is not callable"),
        ({"ranks": None}, "needs ranks=… and microbatches=…"),
        ({"data": (torch.zeros(3, 16), torch.zeros(4))}, "3 inputs but 4 targets"),
        ({"data": ([1, 2], torch.zeros(2))}, "inputs must be a tensor"),
        (
            {"data": ((torch.zeros(2), [1, 2]), torch.zeros(2))},
            "or a tuple of such tensors, not list.",
        ),
        (
            {"data": ((torch.zeros(3, 16), torch.zeros(2)), torch.zeros(3))},
            "There are 3/2 inputs but 3 targets",
        ),
        ({"data": (torch.zeros(3, 16), None)}, "targets is missing"),
        ({"weight": lambda target: 0}, "weights of the micro-batches are"),
    ],
)
def test_refused_before_anything_starts(options, message):
    with pytest.raises(pipelab.PipelabError) as caught:
        train(**options)
    assert message in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_an_illegal_schedule_never_reaches_a_worker():
    schedule = pipelab.Schedule.from_rows(["0F0 0B0 0F1 0B1".split(), "1F1 1F0 1B0 1B1".split()])
    with pytest.raises(pipelab.PipelabError, match="ranks wait for one another"):
        train(schedule=schedule, ranks=None, microbatches=None)
    schedule = pipelab.build("gpipe", ranks=2, microbatches=2)
    with pytest.raises(pipelab.PipelabError, match="gpipe has ranks = 2, not 3"):
        train(schedule=schedule, ranks=3)


def test_a_module_that_is_no_list_of_layers_is_refused():
    class Whole(nn.Module):
        def forward(self, x):
            return x

    with pytest.raises(pipelab.PipelabError, match="Whole cannot be cut into stages"):
        train(Whole())


def test_a_model_without_layers_is_refused():
    """It was told to use at most 0 stages."""
    with pytest.raises(pipelab.PipelabError, match="the model has no layers"):
        pipelab.run(nn.Sequential(), *batch(), functional.cross_entropy, schedule="1f1b", ranks=2,
                    microbatches=2)  # fmt: skip
