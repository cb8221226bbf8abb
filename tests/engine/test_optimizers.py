"""Optimizers, schedulers and data as people bring them: they work, or the refusal says what would.

Some of these trained less than plain torch without a word; others got a bare error of torch.
"""

import functools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import pipelab
from pipelab.errors import PipelabError, RunError, UsageError

SIZES = {"schedule": "1f1b", "ranks": 2, "microbatches": 4}


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1)


def model(layers=2):
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(8, 8) for _ in range(layers)))


def data():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(12, 8, generator=generator) for _ in range(2)]


def train(layers=None, batch=None, **options):
    batch = batch or data()
    layers = model() if layers is None else layers
    return pipelab.run(layers, *batch, functional.mse_loss, **SIZES | options)


def test_a_factory_that_keeps_nothing_on_a_rank_is_skipped_there():
    """torch's "optimizer got an empty parameter list" ended the run."""
    layers = model()
    layers[1].requires_grad_(False)

    def only_trained(parameters):
        return sgd([p for p in parameters if p.requires_grad])

    run = train(layers, optimizer=only_trained, steps=2)
    assert not torch.equal(run.state_dict["0.weight"], layers[0].weight)
    assert torch.equal(run.state_dict["1.weight"], layers[1].weight)
    nothing = train(layers, optimizer=lambda ps: None, steps=2)
    assert torch.equal(nothing.state_dict["0.weight"], layers[0].weight)


def lbfgs(parameters):
    return torch.optim.LBFGS(parameters)


def plateau(optimizer):
    return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"optimizer": torch.optim.LBFGS}, UsageError, "needs a closure"),
        ({"optimizer": functools.partial(torch.optim.LBFGS, lr=1)}, UsageError, "needs a closure"),
        ({"optimizer": lbfgs}, PipelabError, "needs a closure"),
        ({"optimizer": sgd, "scheduler": torch.optim.lr_scheduler.ReduceLROnPlateau}, UsageError,
         "needs a metric at every step"),
        ({"optimizer": sgd, "scheduler": plateau}, PipelabError, "needs a metric at every step"),
        ({"optimizer": lambda ps: sgd([nn.Parameter(torch.ones(1))])}, PipelabError,
         "holds parameters that its factory was not given"),
    ],
    ids=["LBFGS", "partial", "made inside", "plateau", "plateau made inside", "foreign"],
)  # fmt: skip
def test_what_a_pipeline_cannot_step_is_refused_with_the_reason(options, error, text):
    with pytest.raises(error, match=text):
        train(**options)


def test_data_that_end_say_so_and_the_losses_stay():
    """A bare StopIteration came, and with it went what had been trained."""
    batches = iter([data()] * 2)
    options = SIZES | {"steps": 4, "optimizer": sgd}
    loss = functional.mse_loss
    run = pipelab.start(model(), lambda step: next(batches), None, loss, **options)
    with pytest.raises(RunError, match=r"The data ended: inputs\(2\) raised StopIteration"):
        run.wait()
    assert len(run.losses) == 2


def test_numbers_of_numpy_are_numbers():
    run = train(
        steps=np.int64(3), optimizer=sgd, clip=np.float32(1), latency=np.float64(0),
        timeout=np.int32(30), ranks=np.int64(2), microbatches=np.int64(4),
        partition=np.array([1, 1]), weight=lambda t: np.float32(len(t)),
    )  # fmt: skip
    assert len(run.losses) == 3
    with pytest.raises(UsageError, match="steps is True"):
        train(steps=True)
