"""The same Schedule under torch.distributed.pipelining's own runtime."""

import os
import tempfile

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import pipelab
from pipelab import errors
from pipelab.catalogue import build, entry, names
from pipelab.schedule import Kind

from .test_faults import assert_nothing_left, fail, train

OURS_ALONE = {"chimera", "dualpipe", "pipedream", "pipedream-2bw", "auto"}


def run(model, data, **options):
    options = {"schedule": "1f1b", "ranks": 2, "microbatches": 4, "executor": "torch"} | options
    return pipelab.run(model, *data, functional.cross_entropy, **options)


@pytest.mark.parametrize("schedule", sorted(set(names()) - OURS_ALONE))
def test_torch_runs_our_schedules_and_its_gradients_are_ours_to_the_bit(model, data, schedule):
    options = {
        "schedule": schedule,
        "steps": 2,
        "optimizer": lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9),
    }
    theirs, ours = run(model, data, **options), run(model, data, **options, executor="pipelab")
    assert (theirs.executor, theirs.transport, ours.executor) == (
        "torch",
        "torch.distributed, gloo",
        "pipelab",
    )
    for name, gradient in ours.gradients.items():
        assert torch.equal(theirs.gradients[name], gradient), name
    for name, value in ours.state_dict.items():
        assert torch.equal(theirs.state_dict[name], value), name
    assert theirs.losses == pytest.approx(ours.losses, rel=1e-6)
    assert theirs.gradient_error <= 1e-5
    assert all(size > 0 for size in theirs.peak_activation_bytes)
    measured = theirs.timeline
    parts = measured.compute_per_rank + measured.transfer_per_rank + measured.wait_per_rank
    assert np.allclose(parts, measured.makespan) and (measured.compute >= 0).all()
    assert sum(map(sum, measured.idle_by_cause.values())) == pytest.approx(
        sum(measured.metrics["idle"])
    )
    assert theirs.predicted.makespan > 0


def test_its_timeline_respects_what_follows_from_what(model, data):

    measured = run(model, data, schedule="interleaved-1f1b").timeline
    producer = measured.schedule.producer
    used = np.flatnonzero(producer >= 0)
    assert (measured.started[used] >= measured.ended[producer[used]]).all()
    assert (np.diff(measured.started[measured.rank == 0]) > 0).all()


@pytest.mark.parametrize("schedule", sorted(OURS_ALONE & set(names()) - {"auto"}))
def test_what_torch_cannot_run_is_refused_by_name(model, data, schedule):
    with pytest.raises(
        errors.UsageError, match="hands the schedule to torch.distributed.pipelining, and it knows"
    ):
        run(model, data, schedule=schedule, optimizer=lambda ps: torch.optim.SGD(ps, lr=0.1))
    assert entry(schedule).problem(2, 4) is None


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {"microbatches": 5},
            "it weighs micro-batches of [5, 5, 5, 5, 4] samples alike, so its gradients would be "
            "wrong",
        ),
        ({"pace": (0.01, 0.02)}, "it knows no pace=…"),
        ({"recompute": "in-backward"}, "it knows no recompute=…"),
        ({"recompute": "early"}, "it knows no R (recompute)"),
        ({"workers": "threads"}, "it knows no workers=…"),
        ({"dtype": "bfloat16"}, "it knows no dtype=…"),
        ({"latency": 0.1}, "it knows no latency=…"),
    ],
)
def test_what_it_lacks(model, data, options, reason):
    with pytest.raises(errors.UsageError) as caught:
        run(model, data, **options)
    assert (
        f"executor='torch' hands the schedule to torch.distributed.pipelining, and {reason}"
        in str(caught.value)
    )


def test_micro_batches_out_of_order_on_the_last_stage(model, data):
    rows = [["0F1", "0F0", "0B1", "0B0"], ["1F1", "1B1", "1F0", "1B0"]]
    order = pipelab.Schedule.from_rows(rows)
    with pytest.raises(
        errors.UsageError, match="looks up the losses of the last stage by position"
    ):
        run(model, data, schedule=order, ranks=None, microbatches=None)
    assert (
        run(
            model, data, schedule=order, ranks=None, microbatches=None, executor="pipelab"
        ).gradient_error
        <= 1e-5
    )


def test_unknown_executors():
    with pytest.raises(errors.UnknownName, match="no executor 'troch'. Did you mean 'torch'"):
        train(lambda: None, executor="troch")


def test_a_failure_there_is_reported_as_ours_and_leaves_nothing():
    before = set(os.listdir(tempfile.gettempdir()))
    with pytest.raises(errors.WorkerError, match="Rank . raised"):
        train(fail, executor="torch", timeout=10)
    assert_nothing_left()
    assert {
        name
        for name in set(os.listdir(tempfile.gettempdir())) - before
        if name.startswith("pipelab-")
    } == set()


def test_the_kinds_it_can_run_are_those_of_its_notation():
    assert {
        kind
        for name in sorted(set(names()) - OURS_ALONE)
        for kind in build(name, ranks=2, microbatches=4).kinds
    } == {Kind.F, Kind.B, Kind.I, Kind.W}


class Flat(nn.Module):
    def forward(self, x):
        return x.view(len(x), -1)


def test_what_torchs_runtime_cannot_do_is_said_in_one_line():
    """The first line was empty, the next "Failed to run stage backward input:"."""
    layers = [nn.Linear(8, 8), Flat(), nn.Linear(8, 8)]
    x = torch.randn(12, 8)
    with pytest.raises(
        pipelab.PipelabError, match="own runtime failed: Can't detach views.*may ru"
    ):
        pipelab.run(layers, x, x, functional.mse_loss, schedule="zb-h1", ranks=3, microbatches=4,
                    executor="torch")  # fmt: skip
