"""REDUCE_GRAD: the sum over the copies of a parameter is an action like any other.

Until it was one, the exchange after a step left no row in the trace: a picture showed a gap there.
"""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import pipelab
from pipelab.catalogue import build
from pipelab.errors import UsageError
from pipelab.schedule import Kind, Schedule, require_legal

from .conftest import batch, mlp


def reductions_of(run):
    return [str(run.schedule.atom(i)) for i in atoms_of(run)]


def atoms_of(run):
    return np.flatnonzero(run.schedule.kind == Kind.REDUCE_GRAD)


def tied(layers=4):
    """The first and the last layer share a weight."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(16, 16) for _ in range(layers)))
    model[-1].weight = model[0].weight
    return model


def squares(size=24):
    x, _ = batch(size)
    return x, x.flip(0)


@pytest.mark.parametrize("name", ["chimera", "dualpipe"])
def test_two_copies_sum_in_rows_of_the_trace(name):
    """Every stage of both copies has one, with waiting and moving apart, and it is legal."""
    run = pipelab.run(mlp(), *batch(), functional.cross_entropy, schedule=name, ranks=4,
                      microbatches=8, steps=2)  # fmt: skip
    require_legal(run.schedule)
    assert run.gradient_error <= 1e-5
    assert sorted(reductions_of(run)) == sorted(
        f"{stage}REDUCE_GRAD{copied}" for stage in range(4) for copied in ("", "@1")
    )
    t, atoms = run.timeline, atoms_of(run)
    assert (t.ended[atoms] > t.started[atoms]).all()
    assert (t.waiting[atoms] + t.transfer[atoms] > 0).any()
    sent = [t.bytes_sent[atoms][t.rank[atoms] == rank].sum() for rank in range(4)]
    assert min(sent) > 0
    held = t.compute_per_rank + t.transfer_per_rank + t.wait_per_rank
    assert np.allclose(held, t.makespan)
    assert all(idle.cause in ("barrier", "transfer", "gap") for idle in t.idle
               if idle.ended_by in atoms)  # fmt: skip


def test_tied_weights_sum_where_they_are_used():
    run = pipelab.run(tied(), *squares(), functional.mse_loss, schedule="1f1b", ranks=4,
                      microbatches=4)  # fmt: skip
    assert reductions_of(run) == ["0REDUCE_GRAD", "3REDUCE_GRAD"]
    assert run.gradient_error <= 1e-5
    assert len(run.predicted.started) == len(run.schedule.kind)


def test_who_shares_nothing_gets_none():
    schedule = build("1f1b", ranks=2, microbatches=4)
    run = pipelab.run(mlp(), *batch(), functional.cross_entropy, schedule=schedule)
    assert run.schedule == schedule


def test_two_ties_that_cross_cannot_wait_for_each_other():
    """Rank 0 comes to stage 0 before 2, rank 1 to stage 1 before 3; the ties are 0–3 and 1–2."""
    model = tied()
    model[2].weight = model[1].weight
    run = pipelab.run(model, *squares(), functional.mse_loss, schedule="interleaved-1f1b", ranks=2,
                      microbatches=4, timeout=20)  # fmt: skip
    assert len(atoms_of(run)) == 4 and run.gradient_error <= 1e-5


COPIES = {
    "at the ends": (
        ["0F0", "0B0", "1F1@1", "1B1@1", "0REDUCE_GRAD", "1REDUCE_GRAD@1"],
        ["1F0", "1B0", "0F1@1", "0B1@1", "1REDUCE_GRAD", "0REDUCE_GRAD@1"],
    ),
    "one of them early": (
        ["0F0", "0B0", "1F1@1", "1B1@1", "1REDUCE_GRAD@1", "0REDUCE_GRAD"],
        ["1F0", "0F1@1", "1B0", "1REDUCE_GRAD", "0B1@1", "0REDUCE_GRAD@1"],
    ),
    "one of them missing": (
        ["0F0", "0B0", "1F1@1", "1B1@1", "0REDUCE_GRAD"],
        ["1F0", "1B0", "0F1@1", "0B1@1"],
    ),
}


@pytest.mark.parametrize("rows", COPIES.values(), ids=COPIES)
def test_a_schedule_may_say_where(rows):
    run = pipelab.run(mlp(2), *batch(), functional.cross_entropy, schedule=Schedule.from_rows(rows))
    assert sorted(reductions_of(run)) == [
        "0REDUCE_GRAD", "0REDUCE_GRAD@1", "1REDUCE_GRAD", "1REDUCE_GRAD@1",
    ]  # fmt: skip
    assert run.gradient_error <= 1e-5


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (
            (
                ["0F0", "0B0", "0REDUCE_GRAD", "1F1@1", "1B1@1", "1REDUCE_GRAD@1"],
                ["1F0", "1B0", "0F1@1", "0B1@1", "1REDUCE_GRAD", "0REDUCE_GRAD@1"],
            ),
            "wait for one another for ever: rank 0 at 0REDUCE_GRAD, rank 1 at 0B1@1",
        ),
        (
            (
                ["0F0", "0B0", "0REDUCE_GRAD", "0F2", "0B2", "0REDUCE_GRAD"],
                ["0F1@1", "0B1@1", "0F3@1", "0B3@1", "0REDUCE_GRAD@1"],
            ),
            "0REDUCE_GRAD stands twice on rank 0",
        ),
        (
            (["0UNSHARD", "0F0", "0B0", "0RESHARD"],),
            "A run of one copy of the pipeline cannot do UNSHARD and RESHARD: its ranks keep",
        ),
    ],
    ids=["a circle", "twice", "weights that are not whole"],
)
def test_what_cannot_run_is_refused_before_it_starts(rows, text):
    schedule = Schedule.from_rows(rows)
    require_legal(schedule)
    with pytest.raises(UsageError, match=text):
        pipelab.run(mlp(2)[: schedule.stages], *squares(), functional.mse_loss, schedule=schedule)


def test_torchs_own_runtime_is_not_given_tied_weights():
    """It trained each copy alone, and nothing said so."""
    with pytest.raises(UsageError, match="does not sum the gradients of weights that several"):
        pipelab.run(tied(), *squares(), functional.mse_loss, schedule="1f1b", ranks=2,
                    microbatches=4, executor="torch")  # fmt: skip
