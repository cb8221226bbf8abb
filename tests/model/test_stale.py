"""Training with the weight versions of a pipeline, without one: it is what the engine does."""

import functools

import pytest
import torch

import pipelab
from pipelab.errors import UsageError
from pipelab.model import workload
from pipelab.model.stale import stale_losses
from pipelab.simulator import with_optimizer


@pytest.mark.parametrize("name", ["pipedream", "pipedream-2bw", "1f1b"])
def test_the_losses_are_those_of_a_real_pipeline(name):
    """Two rates side by side, each as the engine trains with it alone."""
    job, m, ranks = workload("mlp", layers=4, width=16, batch=4), 12, 3
    rates = (0.01, 0.05)
    order, every, steps = pipelab.build(name, ranks=ranks, microbatches=m), ranks, 1
    if name == "1f1b":
        order, every, steps = pipelab.build(name, ranks=ranks, microbatches=4), 4, 3
    batches = [tuple(map(torch.cat, zip(*(job.batches(step * m // steps + k)
                                          for k in range(m // steps)), strict=True)))
               for step in range(steps)]  # fmt: skip
    if name == "pipedream":
        every = 1
    whole = with_optimizer(order, "local", steps) if steps > 1 else order
    found = stale_losses(job, whole, rates)
    for rate, losses in zip(rates, found, strict=True):
        # a micro-batch counts 1 / (m / steps) in a run's mean
        lr = rate * m / steps / every
        run = pipelab.run(
            job.model, batches.__getitem__, None, job.loss_fn, schedule=order, steps=steps,
            optimizer=functools.partial(torch.optim.SGD, lr=lr, momentum=0.9), device="cpu",
        )  # fmt: skip
        means = torch.tensor(losses).reshape(steps, -1).mean(dim=1)
        assert torch.allclose(means, torch.tensor(run.losses), rtol=1e-5)
    assert found[0] != found[1]


def test_late_gradients_diverge_where_early_ones_learn():
    job, rates = workload("mlp", layers=8, width=32, batch=8), (0.002, 0.04)
    shallow, deep = (
        stale_losses(job, pipelab.build("pipedream", ranks=p, microbatches=160), rates)
        for p in (1, 8)
    )
    late = [sum(losses[-32:]) / 32 for losses in (*shallow, *deep)]
    assert late[0] < 0.4 and late[2] < 0.6, "small steps learn at any depth"
    assert not late[3] < 1, "large ones do not with eight stages"


@pytest.mark.parametrize("rates", [[], [0.1, 0.0]])
def test_a_rate_is_above_0(rates):
    order = pipelab.build("pipedream", ranks=2, microbatches=2)
    with pytest.raises(UsageError, match="it has learning rates above 0"):
        stale_losses(workload("mlp", layers=2, width=8, batch=4), order, rates)
