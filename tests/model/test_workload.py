"""Workloads: reproducible, shippable, and their loss falls."""

import cloudpickle
import pytest
import torch

from pipelab.errors import UnknownName, UsageError
from pipelab.model import workload


def train(job, steps):
    optimizer = job.optimizer(job.model.parameters())
    losses = []
    for step in range(steps):
        inputs, targets = job.batches(step)
        optimizer.zero_grad()
        loss = job.loss_fn(job.model(inputs), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", ["gpt", "mlp"])
def test_loss_falls_visibly_within_twelve_steps(name):
    losses = train(workload(name), 12)
    assert sum(losses[-3:]) / 3 < 0.8 * losses[0]


@pytest.mark.parametrize("name", ["gpt", "mlp"])
def test_same_arguments_same_numbers(name):
    first, again, other = (
        workload(name, layers=3, width=8, batch=4, seed=seed) for seed in (1, 1, 2)
    )
    for name, parameter in first.model.state_dict().items():
        assert torch.equal(parameter, again.model.state_dict()[name])
    x, _ = first.batches(5)
    assert not torch.equal(first.model(x), other.model(x))
    assert torch.equal(first.batches(5)[0], again.batches(5)[0])
    assert not torch.equal(first.batches(5)[0], first.batches(6)[0])
    assert not torch.equal(first.batches(5)[0], other.batches(5)[0])


def test_the_callers_random_numbers_are_left_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    workload("mlp").batches(0)
    assert torch.equal(torch.rand(3), expected)


def test_gpt_targets_are_the_next_characters():
    inputs, targets = workload("gpt", batch=4).batches(0)
    assert inputs.shape == targets.shape == (4, 64)
    assert torch.equal(inputs[:, 1:], targets[:, :-1])


def test_a_workload_travels_to_a_worker():
    job = workload("mlp", batch=4)
    there = cloudpickle.loads(cloudpickle.dumps(job))
    assert torch.equal(there.batches(3)[0], job.batches(3)[0])
    assert there.loss_fn is job.loss_fn


def test_an_unknown_name_lists_the_known_and_the_nearest():
    with pytest.raises(UnknownName) as error:
        workload("gtp")
    assert str(error.value) == "There is no model 'gtp'. Did you mean 'gpt'? Valid names: gpt, mlp."


@pytest.mark.parametrize("what", ["layers", "width", "batch"])
def test_impossible_sizes_are_refused(what):
    with pytest.raises(UsageError, match=f"{what} must be at least 1, not 0"):
        workload("mlp", **{what: 0})


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_impossible_seeds_are_refused(seed):
    with pytest.raises(UsageError, match=f"seed must be from 0 to 4294967295, not {seed}"):
        workload("mlp", seed=seed)


def test_a_gpt_of_words_has_a_large_embedding_and_learns():
    job = workload("gpt", layers=3, width=16, batch=4, vocabulary=500)
    inputs, targets = job.batches(0)
    assert inputs.shape == targets.shape == (4, 64)
    assert 0 <= int(inputs.min()) and int(inputs.max()) < 500
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    assert job.model(inputs).shape == (4, 64, 500)
    assert job.model[0].token.weight.shape == (500, 16)
    with pytest.raises(UsageError, match="vocabulary is of a gpt"):
        workload("mlp", vocabulary=500)
    with pytest.raises(UsageError, match="vocabulary must be at least 1"):
        workload("gpt", vocabulary=0)
