"""The engine's gradients and losses against the unsplit model: what layers and data do
(test_registry.py: schedules).
"""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

import pipelab

from .conftest import batch, mlp

STEPS = 3


@pytest.mark.parametrize(
    "optimizer",
    [lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9), lambda ps: torch.optim.Adam(ps)],
)
def test_training_with_an_optimizer_equals_the_unsplit_model_over_several_steps(model, optimizer):
    def batches(step):
        return batch(seed=step)

    before = copy.deepcopy(model.state_dict())
    run = pipelab.run(
        model,
        batches,
        None,
        functional.cross_entropy,
        schedule="1f1b",
        ranks=4,
        microbatches=4,
        steps=STEPS,
        optimizer=optimizer,
    )
    whole, losses = copy.deepcopy(model), []
    trainer = optimizer(whole.parameters())
    for step in range(STEPS):
        x, y = batches(step)
        trainer.zero_grad()
        loss = functional.cross_entropy(whole(x), y)
        loss.backward()
        trainer.step()
        losses.append(loss.item())
    assert run.losses == pytest.approx(losses, rel=1e-5)
    assert run.gradient_error <= 1e-5
    state = run.state_dict
    assert state.keys() == whole.state_dict().keys()
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(state[name], value, rtol=1e-4, atol=1e-5)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), "the caller's model must stay as it is"


def test_several_stages_per_rank_in_any_legal_order(model, data):
    looped = pipelab.Schedule.from_rows(
        [
            "0F0 0F1 2F0 2F1 2B1 2B0 0B1 0B0".split(),
            "1F0 1F1 3F0 3F1 3B1 3B0 1B1 1B0".split(),
        ],
        name="looped by hand",
    )
    v_shape = pipelab.Schedule.from_rows(
        [
            "0F0 0F1 3F0 3B0 3F1 3B1 0B0 0B1".split(),
            "1F0 2F0 1F1 2F1 2B0 1B0 2B1 1B1".split(),
        ],
        name="V by hand",
    )
    for schedule in (looped, v_shape):
        run = pipelab.run(model, *data, functional.cross_entropy, schedule=schedule)
        assert run.gradient_error <= 1e-5
        assert run.timeline.metrics["stages_per_rank"] == 2
        measured = [
            run.timeline.started[low:high]
            for low, high in zip(schedule.offsets, schedule.offsets[1:], strict=False)
        ]
        assert all((times[1:] >= times[:-1]).all() for times in measured), (
            "each rank follows the schedule's order"
        )


def test_last_stage_may_run_microbatches_out_of_order(model, data):
    schedule = pipelab.Schedule.from_rows(
        ["0F0 0F1 0F2 0B1 0B0 0B2".split(), "1F1 1F0 1B1 1B0 1F2 1B2".split()], name="out of order"
    )
    run = pipelab.run(model, *data, functional.cross_entropy, schedule=schedule)
    assert run.gradient_error <= 1e-5
    assert len(run.losses) == 1


def test_dropout_is_the_same_however_the_model_is_cut():
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Sequential(nn.Linear(16, 16), nn.Dropout(0.5)) for _ in range(3)), nn.Linear(16, 4)
    )
    x, y = batch()
    runs = [
        pipelab.run(
            model, x, y, functional.cross_entropy, schedule="1f1b", ranks=p, microbatches=4, seed=5
        )
        for p in (1, 2, 4)
    ]
    assert runs[0].losses == runs[1].losses == runs[2].losses
    assert all(run.gradient_error <= 1e-5 for run in runs)
    assert "random" in runs[0].gradient_note
    other = pipelab.run(
        model, x, y, functional.cross_entropy, schedule="1f1b", ranks=2, microbatches=4, seed=6
    )
    assert other.losses != runs[0].losses


def test_batchnorm_is_compared_with_microbatches_and_its_statistics_come_back():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))
    run = pipelab.run(
        model,
        *batch(),
        functional.cross_entropy,
        schedule="gpipe",
        ranks=2,
        microbatches=3,
        pace=(0.01, 0.02),
    )
    assert run.gradient_error <= 1e-5
    assert "BatchNorm" in run.gradient_note
    assert run.state_dict["1.num_batches_tracked"] == 3, (
        "rehearsing a paced run leaves nothing behind"
    )


class Small(nn.Module):
    """Has room for so many samples."""

    def __init__(self, room):
        super().__init__()
        self.room = room

    def forward(self, x):
        if len(x) > self.room:
            raise torch.OutOfMemoryError("planted")
        return x


def test_where_the_whole_batch_does_not_fit(data):
    layers = [nn.Linear(16, 16), Small(6), nn.Linear(16, 4)]
    run = pipelab.run(
        layers, *data, functional.cross_entropy, schedule="1f1b", ranks=2, microbatches=4
    )
    assert run.gradient_error <= 1e-5
    assert (
        run.gradient_note
        == "against micro-batches one after the other: the whole batch does not fit in memory"
    )


class First(nn.Module):
    """Shares its process with Second only where the model is unsplit."""

    here = False

    def forward(self, x):
        First.here = True
        return x


class Second(nn.Module):
    def forward(self, x):
        if First.here:
            raise torch.OutOfMemoryError("planted")
        return x


def test_where_the_unsplit_model_does_not_fit(data):
    layers = [nn.Sequential(First(), nn.Linear(16, 16)), nn.Sequential(Second(), nn.Linear(16, 4))]
    run = pipelab.run(
        layers, *data, functional.cross_entropy, schedule="1f1b", ranks=2, microbatches=4
    )
    assert (run.gradient_error, run.gradient_note) == (
        None,
        "nothing to compare with: the unsplit model does not fit in memory",
    )


def test_views_identities_and_parameters_added_to_them_keep_their_own_gradients():
    """A gradient read in place must not become the gradient of a parameter: its memory is used
    again.
    """

    class Shift(nn.Module):
        def __init__(self):
            super().__init__()
            self.by = nn.Parameter(torch.zeros(16, 4, 4))

        def forward(self, x):
            return (x.view(-1, 16, 4, 4) + self.by).view(-1, 256)

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(16, 256), Shift(), nn.Flatten(), nn.Identity(), Shift(), nn.Linear(256, 4)
    )
    x, y = batch(size=8)
    run = pipelab.run(
        model, x, y, functional.cross_entropy, schedule="1f1b", ranks=6, microbatches=8
    )
    assert run.gradient_error <= 1e-5


@pytest.mark.parametrize("recompute", [None, "early"])
@pytest.mark.parametrize("schedule", ["1f1b", "zb-v"])
def test_layers_that_work_in_place_may_stand_first_on_a_stage(schedule, recompute):
    """An in-place layer that a cut put first on a stage raised torch's error about leaf tensors."""
    torch.manual_seed(0)
    layers = [
        nn.Hardtanh(inplace=True),
        nn.Linear(16, 16),
        nn.ReLU(inplace=True),
        nn.Linear(16, 16),
        nn.Flatten(),
        # fmt: skip
        nn.ELU(inplace=True),
        nn.Linear(16, 16),
        nn.ReLU(inplace=True),
        nn.Linear(16, 4),
    ]
    model, (x, y) = nn.Sequential(*layers).double(), batch()
    run = pipelab.run(
        model,
        x.double() * 3,
        y,
        functional.cross_entropy,
        schedule=schedule,
        ranks=4,
        microbatches=4,
        recompute=recompute,
        steps=2,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    )
    assert run.gradient_error <= 1e-12


def test_frozen_and_unused_parts_are_no_trouble(data):
    model = mlp(4)
    for parameter in model[0].parameters():
        parameter.requires_grad_(False)
    run = pipelab.run(
        model, *data, functional.cross_entropy, schedule="1f1b", ranks=4, microbatches=2
    )
    assert run.gradient_error <= 1e-5
    assert "0.0.weight" not in run.gradients


def test_weights_of_tokens_replace_the_share_of_samples(model, data):
    x, y = data
    run = pipelab.run(
        model,
        x,
        y,
        functional.cross_entropy,
        schedule="gpipe",
        ranks=2,
        microbatches=2,
        weight=lambda t: float((t > 0).sum()),
    )
    halves = list(zip(x.tensor_split(2), y.tensor_split(2), strict=True))
    counts = [float((t > 0).sum()) for _, t in halves]
    losses = [functional.cross_entropy(model(a), b).item() for a, b in halves]
    expected = sum(c * loss for c, loss in zip(counts, losses, strict=True)) / sum(counts)
    assert run.losses == [pytest.approx(expected, rel=1e-6)]


def test_one_module_that_stands_twice_on_a_stage_runs_twice():
    """A list of distinct modules would leave the second out, and train another model."""
    torch.manual_seed(0)
    relu, shared = nn.ReLU(), nn.Linear(16, 16)
    model = nn.Sequential(shared, relu, nn.Linear(16, 16), relu, shared, relu, nn.Linear(16, 4))
    x, y = batch()
    run = pipelab.run(model, x, y, functional.cross_entropy, schedule="1f1b", ranks=1,
                      microbatches=2)  # fmt: skip
    functional.cross_entropy(model(x), y).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(run.gradients[name], parameter.grad)
