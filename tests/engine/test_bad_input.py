"""Everything that cannot work is refused before a worker starts, with what would."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import pipelab
from pipelab.engine.workers import pool
from pipelab.errors import UsageError

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
        (
            {"pace": pipelab.Costs(0.1, nodes=pipelab.Nodes(1, pipelab.Link(), pipelab.Link(1)))},
            "A paced run knows one latency between ranks",
        ),
        (
            {"pace": pipelab.Costs(0.1, slowdown=(1, 1, 1, 1, 1))},
            "slowdown is of 5 ranks, but there are",
        ),
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
            "or a tuple of such tensors, not a list.",
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


X = torch.zeros(24, 8)


class Unfinished(nn.Module):
    def __init__(self):
        self.scale = 2


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"model": None}, "a model of type NoneType cannot be cut into stages"),
        ({"model": (nn.Linear(8, 8) for _ in range(2))}, "a model of type generator cannot be cut"),
        ({"model": {"a": nn.Linear(8, 8)}}, "a model of type dict cannot be cut"),
        ({"model": [nn.Linear, nn.Linear]}, "is the class Linear: make one of it, Linear(...)"),
        ({"model": [nn.Linear(8, 8), torch.relu]}, "layer 1 of the model is a builtin_function"),
        ({"model": [nn.LazyLinear(8), nn.ReLU()]}, "layer 0 has no shape yet, as its module is la"),
        ({"model": [nn.ReLU(), Unfinished()]}, "begin its __init__ with super().__init__()"),
        ({"partition": "fast"}, "partition is 'fast'; it is 'auto' (measured), 'even'"),
        ({"partition": [0.5, 1.5]}, "partition is [0.5, 1.5]; it is the number of layers"),
        ({"schedule": None}, "schedule is None; it is a name, such as '1f1b', or a Schedule"),
        ({"loss_fn": nn.CrossEntropyLoss}, "the class CrossEntropyLoss; make one of it: loss_fn="),
        ({"loss_fn": lambda output: output}, "loss_fn cannot be called with output, target: too"),
        ({"optimizer": lambda: None}, "optimizer cannot be called with parameters: too many"),
        ({"optimizer": torch.optim.Adam, "scheduler": torch.optim.lr_scheduler.StepLR},
         "scheduler cannot be called with optimizer: missing a required argument: 'step_size'"),
        ({"on_event": "print"}, "on_event is not callable; it takes each finished action"),
        ({"seed": "seven"}, "seed is 'seven'; it is a whole number"),
        ({"resume": 3, "optimizer": torch.optim.Adam}, "resume is 3; it is the path of a checkpoi"),
        ({"weight": "tokens"}, "weight is not callable; it takes the target of a micro-batch"),
        ({"weight": lambda t: None}, "weight must return one number for the target of a micro-bat"),
        ({"weight": lambda t: t}, "not a tensor of shape (12, 8); such as lambda t: (t != -100)"),
        ({"inputs": X[:0], "targets": X[:0]}, "The batch is empty"),
        ({"inputs": torch.zeros(())}, "not a tensor of no dimensions"),
        ({"inputs": X.to_sparse()}, "inputs has a sparse_coo tensor, which cannot be split into"),
        ({"inputs": iter([(X, X)]), "targets": None}, "inputs=lambda step: next(batches)"),
        ({"inputs": lambda: (X, X), "targets": None}, "inputs cannot be called with step: too ma"),
    ],
)  # fmt: skip
def test_what_came_bare_from_python_or_torch_is_refused_by_name(given, text):
    """AttributeError, KeyError, NotImplementedError …: none of them said what to do."""
    how = {"model": [nn.Linear(8, 8), nn.Linear(8, 8)], "inputs": X, "targets": X}
    how |= {"loss_fn": functional.mse_loss, "schedule": "1f1b", "ranks": 2, "microbatches": 2}
    with pytest.raises(UsageError) as caught:
        pipelab.run(**how | given)
    assert text in str(caught.value)
