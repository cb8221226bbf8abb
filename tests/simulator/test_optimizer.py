"""Optimizer steps with and without a barrier, and several steps in a row."""

import numpy as np
import pytest

import pipelab
from pipelab.catalogue import entry, names
from pipelab.errors import UnknownName, UsageError

UNIT = {"input_grad": 1, "weight_grad": 1}


def simulate(name, p, m, **options):
    costs = pipelab.Costs(1, **UNIT, step=options.pop("step", 0))
    return pipelab.simulate(pipelab.build(name, ranks=p, microbatches=m), costs, **options)


def test_a_step_of_every_stage_ends_each_rank():
    timeline = simulate("gpipe", 2, 2, optimizer="local", step=5)
    assert [[str(action) for action in row][-1] for row in timeline.schedule.actions] == [
        "0STEP0",
        "1STEP0",
    ]
    assert timeline.ended[timeline.kind == pipelab.Kind.STEP].tolist() == [9 + 5, 8 - 1 + 5]
    assert pipelab.check(timeline.schedule) is None


def test_a_barrier_makes_every_rank_wait_for_the_last():
    timeline = simulate("gpipe", 2, 2, optimizer="barrier", step=5)
    steps = timeline.kind == pipelab.Kind.STEP
    assert timeline.started[steps].tolist() == [9, 9]
    assert timeline.idle_by_cause["barrier"] == [0, 2]
    assert timeline.makespan == 14


def test_without_a_barrier_the_stagger_of_the_ranks_costs_nothing():
    """Zero bubble, section 4: ZB-H2's ranks start late and end late; a barrier turns that into a
    bubble every step.
    """
    p, m, n = 4, 8, 5
    free, tied = (simulate("zb-h2", p, m, optimizer=mode, steps=n) for mode in ("local", "barrier"))
    span = max(simulate("zb-h2", p, m).metrics["spans"])
    one = simulate("zb-h2", p, m).makespan
    assert (span, one) == (24, 27)
    assert free.makespan == n * span + (one - span)
    assert tied.makespan == n * one
    assert free.metrics["bubble_fraction"] < tied.metrics["bubble_fraction"] == pytest.approx(1 / 9)


def test_gpipe_gains_nothing_without_a_barrier():
    free, tied = (
        simulate("gpipe", 4, 8, optimizer=mode, steps=3).makespan for mode in ("local", "barrier")
    )
    assert free == tied


@pytest.mark.parametrize("name", [n for n in names() if n not in ("pipedream", "pipedream-2bw")])
def test_every_synchronous_schedule_repeats(name):
    known = entry(name)
    p, m = (4, 8) if not known.problem(4, 8) else (2, 4)
    schedule = known.build(p, m)
    once = pipelab.simulate(schedule)
    thrice = pipelab.simulate(schedule, optimizer="barrier", steps=3)
    assert pipelab.check(thrice.schedule) is None
    assert thrice.makespan == pytest.approx(3 * once.makespan)
    assert thrice.schedule.microbatches == 3 * m and (
        thrice.kind == pipelab.Kind.STEP
    ).sum() == 3 * len(schedule.placement)
    first = thrice.ended <= once.makespan + 1e-9
    assert np.allclose(
        np.sort(thrice.started[first & (thrice.kind != pipelab.Kind.STEP)]), np.sort(once.started)
    )


def test_refusals():
    schedule = pipelab.build("gpipe", ranks=2, microbatches=2)
    with pytest.raises(UnknownName, match="no way of stepping 'lokal'. Did you mean 'local'"):
        pipelab.simulate(schedule, optimizer="lokal")
    with pytest.raises(
        UsageError, match="steps is 0; it is how often the schedule runs, a whole number from 1."
    ):
        pipelab.simulate(schedule, optimizer="local", steps=0)
    with pytest.raises(
        UsageError, match="divided by optimizer steps: say how, optimizer='local' or 'barrier'"
    ):
        pipelab.simulate(schedule, steps=2)
    with pytest.raises(UsageError, match=r"pipedream already says where it steps \(STEP\)"):
        pipelab.simulate(pipelab.build("pipedream", ranks=2, microbatches=2), optimizer="local")
