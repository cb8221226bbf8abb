"""Optimizers, schedulers and data as people bring them: they work, or the refusal says what would.

Some of these trained less than plain torch without a word; others got a bare error of torch.
"""

import copy
import functools
from collections import OrderedDict

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
        ({"optimizer": lambda ps: None}, PipelabError,
         "returned None, which is no optimizer: .* A function needs a return"),
        ({"optimizer": lambda ps: torch.optim.SGD}, PipelabError,
         "returned the class SGD, which is no optimizer"),
        ({"optimizer": sgd, "scheduler": lambda o: None}, PipelabError,
         "returned None, which is no scheduler"),
    ],
    ids=["LBFGS", "partial", "made inside", "plateau", "plateau made inside", "foreign", "None",
         "class", "no scheduler"],
)  # fmt: skip
def test_what_a_pipeline_cannot_step_is_refused_with_the_reason(options, error, text):
    with pytest.raises(error, match=text):
        train(**options)


def decays(name):
    return name.endswith("weight") and not name.startswith("norm")


def by_name(parameters, named):
    """As people write it: norms and biases without decay."""
    groups = [
        {"params": [p for name, p in named if decays(name)], "weight_decay": 0.5},
        {"params": [p for name, p in named if not decays(name)], "weight_decay": 0.0},
    ]
    assert [p for _, p in named] == parameters
    return torch.optim.AdamW(groups, lr=0.01)


def by_torchs_own_names(named):
    """torch's optimizers take pairs of names and parameters too."""
    return by_name([p for _, p in named], named)


def blocks(*, tied):
    torch.manual_seed(0)
    layers = {"first": nn.Linear(8, 8), "norm0": nn.LayerNorm(8), "middle": nn.Linear(8, 8)}
    layers |= {"norm1": nn.LayerNorm(8), "last": nn.Linear(8, 8)}
    if tied:
        layers["norm1"].weight = layers["norm0"].weight
        layers["last"].weight = layers["first"].weight
    return nn.Sequential(OrderedDict(layers))


def assert_decays_as_torch(layers, **options):
    how = {"schedule": "1f1b", "ranks": 2, "microbatches": 4, "steps": 3, "optimizer": by_name}
    run = pipelab.run(layers, *data(), functional.mse_loss, **how | options)
    plain = copy.deepcopy(layers)
    named = list(plain.named_parameters())
    optimizer = by_name([p for _, p in named], named)
    for _ in range(3):
        optimizer.zero_grad()
        functional.mse_loss(plain(data()[0]), data()[1]).backward()
        optimizer.step()
    for name, value in plain.state_dict().items():
        assert torch.allclose(run.state_dict[name], value, rtol=1e-4, atol=1e-5), name


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("schedule", ["1f1b", "zb-v", "chimera"])
def test_names_decide_what_decays(schedule, tied):
    """A rank's parameters had no names: decay could go by shapes alone, and 0.weight is not 2's."""
    assert_decays_as_torch(blocks(tied=tied), schedule=schedule)


@pytest.mark.parametrize(
    "options",
    [{"workers": "threads"}, {"partition": [4, 1]}, {"executor": "torch"},
     {"optimizer": by_torchs_own_names}, {"optimizer": functools.partial(by_name)}],
    ids=["threads", "partition", "torch", "own names", "partial"],
)  # fmt: skip
def test_names_decide_what_decays_however_the_run_is_made(options):
    assert_decays_as_torch(blocks(tied=False), **options)


def pairs_alone(named):
    return torch.optim.AdamW(named, lr=0.01)


@pytest.mark.parametrize("optimizer", [by_name, pairs_alone])
def test_decay_by_names_goes_on_after_resume_cut_otherwise(tmp_path, optimizer):
    layers, how = blocks(tied=True), {"optimizer": optimizer}
    whole = train(layers, steps=4, **how)
    train(layers, steps=2, ranks=3, **how).save(tmp_path / "half.pt")
    rest = train(layers, steps=2, resume=tmp_path / "half.pt", **how)
    for name, value in whole.state_dict.items():
        assert torch.allclose(rest.state_dict[name], value, rtol=1e-5, atol=1e-6), name


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
