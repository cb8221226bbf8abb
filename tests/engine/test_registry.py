"""Every schedule of the catalogue, with real workers: its order, its gradients to the bit, its
costs.
"""

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional

import pipelab
from pipelab import Kind
from pipelab.catalogue import build, entry, names
from pipelab.schedule.versions import versions

from .conftest import batch, mlp

ASYNCHRONOUS = ("pipedream", "pipedream-2bw")
SYNCHRONOUS = [name for name in names() if name not in ASYNCHRONOUS]
SIZES = [(1, 4), (2, 4), (2, 6), (4, 8), (3, 5)]


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1)


def possible(name, ranks, microbatches):
    return entry(name).problem(ranks, microbatches) is None


def train(name, ranks, microbatches, model, data, **options):
    optimizer = {"optimizer": sgd} if name in ASYNCHRONOUS else {}
    return pipelab.run(
        model,
        *data,
        functional.cross_entropy,
        schedule=name,
        ranks=ranks,
        microbatches=microbatches,
        **optimizer | options,
    )


def by_sequence(model, data, schedule):
    """Micro-batches one after the other on the unsplit model, for every stage in the order in which
    the schedule runs its backwards (W for what is deferred), the copies of the model summed: the
    reference to the bit."""
    inputs, targets = (t.tensor_split(schedule.microbatches) for t in data)
    stage_of = [
        s
        for s, part in enumerate(torch.arange(len(model)).tensor_split(schedule.stages))
        for _ in part
    ]
    expected = {}
    for stage in range(schedule.stages):
        copies = []
        for replica in range(schedule.replicas):
            mine = (schedule.stage == stage) & (schedule.replica == replica)
            # Every weight of this model is a Linear's, so it is added in W wherever there is one.
            order = schedule.microbatch[mine & np.isin(schedule.kind, (Kind.B, Kind.W))]
            whole = copy.deepcopy(model)
            for i in order.tolist():
                loss = functional.cross_entropy(whole(inputs[i].clone()), targets[i].clone())
                (loss * (len(inputs[i]) / len(data[0]))).backward()
            copies.append(
                {
                    n: p.grad
                    for n, p in whole.named_parameters()
                    if stage_of[int(n.split(".")[0])] == stage
                }
            )
        expected |= {
            n: g if schedule.replicas == 1 else g + copies[1][n] for n, g in copies[0].items()
        }
    return expected


@pytest.mark.parametrize("name", SYNCHRONOUS)
def test_gradients_equal_sequential_accumulation_to_the_bit(name):
    model, data = mlp(12), batch(size=23)  # micro-batches of different sizes
    sizes = [size for size in SIZES if possible(name, *size)]
    assert len(sizes) >= 2
    for ranks, microbatches in sizes:
        run = train(name, ranks, microbatches, model, data)
        expected = by_sequence(model, data, run.schedule)
        assert run.gradients.keys() == expected.keys()
        for parameter, gradient in expected.items():
            assert torch.equal(run.gradients[parameter], gradient), (ranks, microbatches, parameter)
        assert run.gradient_error <= 1e-5 and run.gradient_note is None


@pytest.mark.parametrize("name", SYNCHRONOUS)
def test_uneven_microbatches_in_double_precision_equal_the_full_batch(name):
    model, (x, y) = mlp().double(), batch(size=11)
    run = train(name, 2, 4, model, (x.double(), y))
    assert run.gradient_error <= 1e-12
    whole = copy.deepcopy(model)
    loss = functional.cross_entropy(whole(x.double()), y)
    loss.backward()
    assert run.losses == [pytest.approx(loss.item(), rel=1e-12)]


@pytest.mark.parametrize("name", names())
def test_the_order_that_ran_is_the_schedules(name, model, data):
    run = train(name, 2, 4, model, data, steps=2)
    schedule, timeline = run.schedule, run.timeline
    ran = [[str(a) for a in row if "REDUCE_GRAD" not in str(a)] for row in schedule.actions]
    assert ran == [list(map(str, row)) for row in build(name, ranks=2, microbatches=4).actions]
    for low, high in zip(schedule.offsets, schedule.offsets[1:], strict=False):
        cells = np.flatnonzero(np.diff(schedule.cell[low:high], prepend=-1)) + low
        assert (timeline.started[cells[1:]] >= timeline.ended[cells[:-1]]).all()
    parts = timeline.compute_per_rank + timeline.transfer_per_rank + timeline.wait_per_rank
    assert parts == pytest.approx([timeline.makespan] * 2)
    assert sum(i.end - i.start for i in timeline.idle) == pytest.approx(sum(run.metrics["idle"]))
    assert timeline.bytes_after[schedule.offsets[1:] - 1].tolist() == [0, 0]
    assert (timeline.bytes_held >= timeline.bytes_after).all() and (timeline.bytes_after >= 0).all()


@pytest.mark.timing
@pytest.mark.parametrize("name", names())
def test_measured_costs_predict_every_schedule(name, model, data):
    run = train(name, 2, 4, model, data, steps=3)
    costs, kinds = run.costs, run.schedule.kinds
    assert min(costs.forward) > 0 or run.schedule.overlaps
    assert (costs.input_grad is not None) == (costs.weight_grad is not None) == (Kind.I in kinds)
    assert (costs.overlap is not None) == run.schedule.overlaps
    assert (max(costs.step) > 0) == (Kind.STEP in kinds)
    predicted = run.predicted
    assert predicted.unit == "s" and predicted.makespan > 0
    worked = run.costs.per_atom(run.schedule)
    assert (worked[np.isin(run.schedule.kind, (Kind.I, Kind.W))] > 0).all()
    assert 0.3 < predicted.compute_per_rank.sum() / run.timeline.worked.sum() < 3


@pytest.mark.timing
@pytest.mark.parametrize("name", names())
def test_every_schedule_can_be_paced(name, model, data):
    run = train(name, 2, 4, model, data, pace=(0.01, 0.01, 0.01))
    law = pipelab.simulate(run.schedule, pipelab.Costs(0.01, backward=0.02))
    assert run.predicted.makespan == pytest.approx(law.makespan)
    assert 0.995 * law.makespan <= run.timeline.makespan <= 2 * law.makespan
    assert (run.timeline.worked <= run.timeline.compute).all()


@pytest.mark.parametrize(
    "name", [n for n in names() if "STEP" not in str(build(n, ranks=2, microbatches=4).actions)]
)
def test_training_on_equals_the_unsplit_model(name):
    """Copies of a stage stay equal, or later steps would not fit."""
    model = mlp().double()

    def batches(step):
        x, y = batch(seed=step)
        return x.double(), y

    def adam(parameters):
        return torch.optim.Adam(parameters, lr=0.01)

    run = train(name, 2, 4, model, (batches, None), steps=3, optimizer=adam)
    whole = copy.deepcopy(model)
    trainer = adam(whole.parameters())
    for step in range(3):
        x, y = batches(step)
        trainer.zero_grad()
        functional.cross_entropy(whole(x), y).backward()
        trainer.step()
    assert run.gradient_error <= 1e-12
    for key, value in whole.state_dict().items():
        torch.testing.assert_close(run.state_dict[key], value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", names())
def test_versions_measured_are_those_predicted(name, model, data):
    run = train(name, 2, 4, model, data)
    assert (
        run.timeline.version.tolist()
        == run.predicted.version.tolist()
        == versions(run.schedule).tolist()
    )
