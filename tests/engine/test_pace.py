"""The plan of one rank in paced mode, by its clock: waits may last longer, never shorter."""

import time

import numpy as np
import pytest
import torch

import pipelab
from pipelab.engine.job.recipe import Recipe
from pipelab.engine.job.where import Where
from pipelab.engine.rank.pace import Pace
from pipelab.engine.setup import pacing
from pipelab.engine.setup.setup import set_up
from pipelab.schedule import Kind


def test_an_action_lasts_as_long_as_planned_and_lateness_does_not_add_up():
    pace = Pace({0: 0.1, 1: 0.1}, latency=0.0)
    pace.begin_step()
    began = time.perf_counter()
    pace.begin(0, None, 0.0)
    first = pace.finish()
    assert began + 0.1 <= first <= time.perf_counter()
    time.sleep(0.01)  # late, but by less than half an action
    pace.begin(1, None, 0.0)
    assert pace.finish() == first + 0.1
    pace.begin(0, None, 0.0)
    time.sleep(0.17)  # later than the plan can bear
    assert pace.finish() > first + 0.26


def test_after_a_step_those_that_end_with_it_are_let_wake_up():
    pace = Pace({0: 0.02}, latency=0.0)
    pace.begin_step()
    pace.begin(0, None, 0.0)
    ended = pace.finish()
    pace.end_step()
    assert time.perf_counter() >= ended + 0.01
    raw = Pace(None, latency=0.0)
    raw.begin(0, None, 0.0)
    raw.finish()
    raw.end_step()


def test_what_several_do_together_ends_with_the_last_of_them():
    pace = Pace({0: 0.02}, latency=0.0)
    pace.begin_step()
    end = pace.begin(0, None, 0.0)
    assert pace.finish(end + 0.01) == pace.free == end + 0.01


def test_an_input_arrives_after_the_latency():
    pace = Pace({0: 0.01}, latency=0.03)
    planned = time.perf_counter() + 0.01
    pace.begin_step()
    pace.begin(0, planned, planned)
    assert time.perf_counter() >= planned + 0.03


def test_threads_may_compute_less_than_processes(monkeypatch):
    """One Python runs one of them at a time: a pace was accepted, and steps took 9 % longer."""
    schedule = pipelab.build("1f1b", ranks=4, microbatches=4)
    monkeypatch.setattr(pacing.os, "sched_getaffinity", lambda _: range(16))
    costs = pipelab.Costs(forward=0.01, backward=0.01)
    measured = dict.fromkeys(range(len(schedule.kind)), 0.002)
    pacing.require_keepable_pace(costs, schedule, measured)
    with pytest.raises(
        pipelab.PipelabError, match="4 ranks as threads of one Python it may use 10"
    ) as refused:
        pacing.require_keepable_pace(costs, schedule, measured, threads=True)
    assert refused.value.slower == pytest.approx(2)
    costs = pipelab.Costs(forward=0.0201, backward=0.0201)
    pacing.require_keepable_pace(costs, schedule, measured, threads=True)


@pytest.mark.parametrize("workers", ["threads", "processes"])
def test_the_driver_knows_whether_ranks_are_threads(model, data, workers, monkeypatch):
    told = []
    monkeypatch.setattr(
        "pipelab.engine.hosts.driver.require_keepable_pace",
        lambda *_, threads: told.append(threads),
    )
    loss = torch.nn.functional.cross_entropy
    sizes = {"schedule": "1f1b", "ranks": 2, "microbatches": 2}
    pipelab.run(model, *data, loss, **sizes, pace=(0.005, 0.01), workers=workers)
    assert told == [workers == "threads"]


@pytest.mark.timing
def test_a_slow_copy_keeps_the_others_waiting_as_predicted(model, data):
    """It came late by less than half of the sum's time: the others ended theirs before it did."""
    pace = pipelab.Costs(0.02, backward=0.04, reduce_grad=0.06, slowdown=(1, 1, 1.1, 1))
    sizes = {"schedule": "gpipe", "ranks": 2, "microbatches": 2, "data": 2}
    loss = torch.nn.functional.cross_entropy
    run = pipelab.run(model, *data, loss, **sizes, pace=pace, steps=3)
    law = run.predicted
    sums = law.kind == Kind.REDUCE_GRAD
    assert law.waiting[sums] == pytest.approx([0.012, 0.004, 0, 0], abs=1e-9)
    assert law.compute[sums] == pytest.approx(0.06)
    steps = run.timelines[1:]
    assert min(step.makespan for step in steps) == pytest.approx(law.makespan, rel=0.02)
    ended = [step.ended[sums] for step in steps]
    assert np.min(ended, axis=0) == pytest.approx(law.ended[sums], rel=0.03)
    waited = [step.waiting[sums] for step in steps]
    assert np.min(waited, axis=0) == pytest.approx(law.waiting[sums], abs=0.005)


PLAN = {"0.0": "column", "1.0": "row"}


@pytest.mark.timing
def test_parts_of_a_layer_keep_in_step_as_predicted(model, data):
    """A part that was early stayed so: steps took 7 % longer than the law, from first to last."""
    pace = pipelab.Costs(0.03, input_grad=0.03, weight_grad=0.03, slowdown=(1, 1.5, 1, 1))
    sizes = {"schedule": "zb-h1", "ranks": 2, "microbatches": 2, "tensor": 2}
    loss = torch.nn.functional.cross_entropy
    run = pipelab.run(model, *data, loss, **sizes, tensor_plan=PLAN, pace=pace, steps=4)
    found = min(step.makespan for step in run.timelines[1:])
    assert found == pytest.approx(run.predicted.makespan, rel=0.02)


def test_parts_of_a_layer_are_paced_as_the_slowest(model, data):
    """With what passes between them: 2 α inside of F and B."""
    pace = pipelab.Costs(
        0.01, backward=0.02, tensor_link=pipelab.Link(0.002), slowdown=(1, 1.5, 1, 1)
    )
    setup = set_up(
        model,
        *data,
        torch.nn.functional.cross_entropy,
        schedule="gpipe",
        ranks=2,
        microbatches=1,
        where=Where.of("cpu", "processes", "pipelab"),
        recipe=Recipe(pace=pace),
        mesh=pipelab.Mesh(tensor=2),
        tensor_plan=PLAN,
    )
    for worker, lasts in enumerate(
        ([0.019, 0.034], [0.019, 0.034], [0.014, 0.024], [0.014, 0.024])
    ):
        assert list(setup.durations(worker).values()) == pytest.approx(lasts)
