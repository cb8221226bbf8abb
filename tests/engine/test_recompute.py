"""Forwards that keep only their input and run once more: the same gradients, less memory, a time of
their own.
"""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import pipelab
from pipelab import Kind

from .conftest import batch, mlp

MODES = ["in-backward", "early"]


def train(model, recompute, data=None, **options):
    options = {"schedule": "1f1b", "ranks": 2, "microbatches": 4, "seed": 3} | options
    return pipelab.run(
        model, *(data or batch()), functional.cross_entropy, recompute=recompute, **options
    )


def random_layers():
    torch.manual_seed(0)
    layers = [
        nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.ReLU())
        for _ in range(5)
    ]
    return nn.Sequential(*layers, nn.Linear(16, 4))


@pytest.mark.parametrize(
    "schedule", ["gpipe", "1f1b", "interleaved-1f1b", "zb-h1", "zb-v", "chimera"]
)
@pytest.mark.parametrize("mode", MODES)
def test_gradients_and_losses_are_the_same_to_the_bit(schedule, mode):
    """With dropout, whose numbers must be drawn again, and BatchNorm, whose statistics must not be
    taken twice.
    """
    model = random_layers()
    plain, again = (train(model, m, schedule=schedule) for m in (None, mode))
    assert again.losses == plain.losses
    assert all(torch.equal(again.gradients[name], g) for name, g in plain.gradients.items())
    state = plain.state_dict
    assert all(torch.equal(again.state_dict[name], value) for name, value in state.items())
    assert state["0.1.num_batches_tracked"] == (
        4 if schedule != "chimera" else 2
    )  # a copy sees half of them
    assert again.gradient_error <= 1e-5


def test_a_layer_whose_buffers_change_its_result_starts_from_the_same_buffers():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))
            self.linear = nn.Linear(16, 16)

        def forward(self, x):
            self.calls = self.calls + 1
            return self.linear(x) * self.calls

    torch.manual_seed(0)
    model = nn.Sequential(Counting(), nn.Linear(16, 4))
    plain, again = (train(model, m, schedule="gpipe") for m in (None, "early"))
    assert all(torch.equal(again.gradients[name], g) for name, g in plain.gradients.items())
    assert again.state_dict["0.calls"] == 4


@pytest.mark.parametrize("mode", MODES)
def test_memory_holds_inputs_and_one_micro_batch_of_activations(mode):
    run, plain = (train(mlp(), m, schedule="gpipe", microbatches=6) for m in (mode, None))
    one_input, one_stage = 4 * 16 * 4, plain.peak_activation_bytes[0] // 6
    assert run.peak_activation_bytes[0] == 6 * one_input + (one_stage - one_input)
    assert run.timeline.bytes_after[run.timeline.rank == 0][-1] == 0


def test_a_layer_that_changes_its_input_unseen_runs_again_from_what_it_was_given():
    """The stage ran again from doubled inputs; then such a run was refused."""

    class Doubling(nn.Module):
        def forward(self, x):
            return x.mul_(2)

    model = nn.Sequential(nn.Linear(16, 16), Doubling(), nn.Linear(16, 4))
    plain, again = (train(model, mode, ranks=3) for mode in (None, "early"))
    assert all(torch.equal(again.gradients[name], g) for name, g in plain.gradients.items())
    assert again.gradient_error <= 1e-5


def test_early_recomputation_stands_in_the_schedule_and_costs_a_forward():
    run = train(mlp(), "early", schedule="gpipe", steps=3)
    assert (
        run.schedule
        == pipelab.simulate(
            pipelab.build("gpipe", ranks=2, microbatches=4), recompute="early"
        ).schedule
    )
    assert (run.timeline.kind == Kind.R).sum() == 8
    assert min(run.costs.recompute) > 0
    assert run.predicted.makespan > 0


def test_recomputing_where_a_schedule_says_so():
    rows = ["0F0 0F1 0R0 0B0 0B1".split(), "1F0 1F1 1B0 1R1 1I1 1W1".split()]
    schedule = pipelab.Schedule.from_rows(rows, name="some recompute")
    run = train(mlp(4), None, schedule=schedule, ranks=None, microbatches=None)
    assert run.gradient_error <= 1e-5
    held = run.timeline.bytes_held[run.timeline.rank == 0]
    assert held[0] < held[1] - held[0], "only the micro-batch with an R keeps just its input"


@pytest.mark.timing
def test_a_paced_run_gives_recomputing_the_time_of_a_forward():
    early = train(mlp(), "early", schedule="gpipe", pace=(0.01, 0.02))
    assert early.timeline.compute[early.timeline.kind == Kind.R] == pytest.approx(0.01, rel=0.5)
    assert early.predicted.makespan == pytest.approx(
        pipelab.simulate(
            early.schedule,
            pipelab.Costs(
                0.01,
                backward=0.02,
                # fmt: skip
                recompute=0.01,
            ),
        ).makespan
    )
    inside = train(mlp(), "in-backward", schedule="gpipe", pace=(0.01, 0.02))
    assert np.median(inside.timeline.compute[inside.timeline.kind == Kind.B]) == pytest.approx(
        0.03, rel=0.1
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"recompute": "late"},
            "There is no way of recomputing 'late'. Valid names: in-backward, early.",
        ),
        (
            {"recompute": "early", "schedule": "dualpipe"},
            "Early recomputation is not defined for schedules that overlap",
        ),
    ],
)
def test_what_cannot_be_recomputed(options, message):
    with pytest.raises(pipelab.PipelabError) as caught:
        train(mlp(), **options)
    assert message in str(caught.value)
