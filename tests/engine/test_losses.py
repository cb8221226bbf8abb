"""Losses: what trains nothing, or less than it seems to, is refused; what counts 0 counts 0."""

import functools

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

import pipelab
from pipelab.engine.reference.loss_kind import not_a_mean


class Tempered(nn.Module):
    def __init__(self):
        super().__init__()
        self.log = nn.Parameter(torch.zeros(()))

    def forward(self, output, target):
        return mse_loss(output, target) * (-self.log).exp() + self.log


def layers():
    torch.manual_seed(0)
    return [nn.Linear(8, 8), nn.Linear(8, 8)]


def train(loss, model=None, x=None, y=None, **options):
    torch.manual_seed(1)
    x = torch.randn(12, 8) if x is None else x
    y = torch.randn(12, 8) if y is None else y
    options = {"schedule": "1f1b", "ranks": 2, "microbatches": 4} | options
    return pipelab.run(model or layers(), x, y, loss, **options)


@pytest.mark.parametrize(
    "loss", [Tempered(), Tempered().forward, functools.partial(Tempered(), target=None)]
)
def test_a_loss_with_parameters_of_its_own_is_refused_by_name(loss):
    with pytest.raises(pipelab.PipelabError, match="Tempered.*parameter of its own, log"):
        train(loss)


@pytest.mark.parametrize("schedule", ["1f1b", "zb-h1", "pipedream"])
def test_a_trainable_tensor_in_the_closure_of_a_loss_is_refused(schedule):
    hidden = Tempered()
    with pytest.raises(pipelab.PipelabError, match="uses a trainable tensor of shape"):
        train(lambda o, t: hidden(o, t), schedule=schedule, optimizer=torch.optim.SGD)


def test_a_frozen_or_unused_teacher_in_a_loss_is_no_reason_to_refuse():
    teacher = nn.Linear(8, 8)

    def distill(output, target):
        with torch.no_grad():
            wanted = teacher(target)
        return mse_loss(output, wanted)

    assert train(distill).losses[0] > 0
    assert train(Tempered().requires_grad_(False)).losses[0] > 0


@pytest.mark.parametrize("recompute", [None, "in-backward"])
def test_a_detached_loss_is_refused_with_its_place(recompute):
    with pytest.raises(pipelab.PipelabError, match="loss of micro-batch 0, computed by stage 1, "):
        train(lambda o, t: mse_loss(o, t).detach(), recompute=recompute)


@pytest.mark.parametrize(
    ("loss", "text"),
    [
        (lambda o, t: mse_loss(o, t) * 1j, "not a complex tensor of no dimensions"),
        (lambda o, t: None, "one real number as a tensor, averaged over the batch, not None"),
        (lambda o, t: (mse_loss(o, t), 1), "not a tuple"),
    ],
)
def test_a_loss_that_is_no_number_is_refused(loss, text):
    """float() argument must be a real number, not 'complex': nothing said what that was."""
    with pytest.raises(pipelab.PipelabError, match=text):
        train(loss)


@pytest.mark.parametrize("recompute", [None, "in-backward"])
def test_a_loss_that_changes_the_target_in_place_finds_it_whole_in_the_next_step(recompute):
    """Its targets grew from step to step on the rank, and the badge said 4."""
    y = torch.ones(12, 8)
    how = {"steps": 3, "recompute": recompute}
    run = train(lambda o, t: mse_loss(o, t.mul_(2)), None, None, y, **how)
    assert run.gradient_error <= 1e-5 and bool((y == 1).all())
    plain = train(lambda o, t: mse_loss(o, t * 2), None, None, y, **how)
    assert run.losses == plain.losses


def test_a_sum_is_told_from_a_mean():
    x, y = torch.randn(12, 8), torch.randn(12, 8)
    whole = mse_loss(x, y, reduction="sum").item()
    parts = [
        mse_loss(a, b, reduction="sum").item() for a, b in zip(x.split(3), y.split(3), strict=True)
    ]
    assert "4 times" in not_a_mean(whole, sum(parts) / 4, 4)
    assert not_a_mean(1.0, 1.00001, 4) is None
    assert not_a_mean(float("nan"), 1.0) is None


@pytest.mark.parametrize("schedule", ["1f1b", "zb-h1", "chimera"])
@pytest.mark.parametrize("recompute", [None, "in-backward"])
def test_a_microbatch_of_weight_0_counts_for_nothing_even_where_it_is_nan(schedule, recompute):
    torch.manual_seed(2)
    x, y = torch.randn(12, 8), torch.randint(0, 8, (12,))
    y[:3] = -100
    model = layers()
    cross_entropy(nn.Sequential(*model)(x), y).backward()
    wanted = [p.grad for layer in model for p in layer.parameters()]
    x[:3] = float("nan")
    how = {"schedule": schedule, "recompute": recompute}
    run = train(cross_entropy, None, x, y, weight=lambda t: (t != -100).sum(), **how)
    for gradient, truth in zip(run.gradients.values(), wanted, strict=True):
        torch.testing.assert_close(gradient, truth)
    assert run.gradient_error <= 1e-5  # it was nan: the full batch's backward is 0 times nan


def normed():
    torch.manual_seed(0)
    return [nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 8), nn.BatchNorm1d(8)]


@pytest.mark.parametrize(
    "options", [{}, {"schedule": "zb-h1"}, {"recompute": "early"}, {"workers": "threads"}], ids=str
)
@pytest.mark.parametrize("bad", [1.0, float("nan")])
def test_batchnorm_sees_a_microbatch_of_weight_0_as_in_plain_torch(options, bad):
    """Its samples are in the batch: they count in the statistics, and for no gradient."""
    torch.manual_seed(2)
    x, y = torch.randn(12, 8), torch.randint(0, 8, (12,))
    x[3:6], y[3:6] = x[3:6] * bad, -100
    plain = nn.Sequential(*normed())
    for inputs, target in zip(x.split(3), y.split(3), strict=True):
        output = plain(inputs)
        if (target != -100).any():
            (cross_entropy(output, target) / 3).backward()
    run = train(cross_entropy, normed(), x, y, weight=lambda t: (t != -100).sum(), **options)
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(run.gradients[name], parameter.grad)
    for name, value in plain.named_buffers():
        torch.testing.assert_close(run.state_dict[name], value, equal_nan=True)
    assert run.gradient_error <= 1e-5


@pytest.mark.parametrize(
    ("ignored", "loss"),
    [
        (-100, cross_entropy),
        (7, nn.CrossEntropyLoss(ignore_index=7)),
        (7, lambda o, t: cross_entropy(o, t, ignore_index=7)),
    ],
)
def test_targets_that_are_all_ignored_are_named_with_the_remedy(ignored, loss):
    y = torch.arange(12) % 7
    y[3:6] = ignored
    with pytest.raises(pipelab.PipelabError) as caught:
        train(loss, None, None, y)
    assert "the loss of micro-batch 1, " in str(caught.value)
    assert f"weight=lambda t: (t != {ignored}).sum()" in str(caught.value)
