"""Each formula equals the simulation wherever its condition holds, and says where it does not."""

import itertools

import pytest

import pipelab
from pipelab.catalogue import entry
from pipelab.errors import UsageError
from pipelab.simulator.closed_forms import FORMULAS, closed_form

TIMES = [
    {"forward": 1, "backward": 2},
    {"forward": 3, "backward": 5},
    {"forward": 5, "input_grad": 6, "weight_grad": 4},
    {"forward": 2, "input_grad": 2, "weight_grad": 2, "overlap": 6},
    {"forward": 2, "input_grad": 2, "weight_grad": 2, "overlap": 4.5},
    {"forward": 2, "input_grad": 1, "weight_grad": 3},
]


def simulated(name, quantity, costs, **counts):
    metrics = pipelab.simulate(pipelab.build(name, **counts), costs).metrics
    return {
        "makespan": metrics["makespan"],
        "span": max(metrics["spans"]),
        "idle": max(metrics["idle"]),
    }[quantity]


@pytest.mark.parametrize("name", FORMULAS)
def test_formulas_equal_the_simulation_where_they_hold(name):
    held = 0
    for p, m, times, c in itertools.product(
        (1, 2, 3, 4, 6, 8), (1, 2, 4, 7, 12, 16, 18), TIMES, (0, 0.5, 3)
    ):
        counts = {"ranks": p, "microbatches": m, "stages_per_rank": entry(name).stages_per_rank}
        if entry(name).problem(**counts):
            continue
        costs = pipelab.Costs(**times, latency=c)
        form = closed_form(name, costs=costs, **counts)
        if form.exact:
            assert form.value == pytest.approx(simulated(name, form.quantity, costs, **counts)), (
                counts,
                times,
                c,
            )
            held += 1
    assert held >= 20


@pytest.mark.parametrize(
    ("name", "counts", "costs"),
    [
        ("eager-1f1b", (4, 12), {"latency": 5}),
        ("interleaved-1f1b", (4, 9), {}),
        ("zb-h1", (4, 8), {"forward": 1, "input_grad": 1, "weight_grad": 3}),
        ("zb-h2", (4, 4), {"forward": 1, "input_grad": 1, "weight_grad": 1}),
        ("zb-v", (4, 8), {"forward": 5, "input_grad": 6, "weight_grad": 4}),
        ("dualpipe", (4, 8), {"forward": 2, "input_grad": 3, "weight_grad": 1, "overlap": 5}),
    ],
)
def test_conditions_are_needed(name, counts, costs):
    """Beyond its condition a formula is not the simulation."""
    costs = pipelab.Costs(**costs)
    sizes = {
        "ranks": counts[0],
        "microbatches": counts[1],
        "stages_per_rank": entry(name).stages_per_rank,
    }
    form = closed_form(name, costs=costs, **sizes)
    assert not form.exact and form.condition
    assert form.value != pytest.approx(simulated(name, form.quantity, costs, **sizes))


def test_no_formula_and_unequal_stages():
    assert closed_form("chimera", ranks=4, microbatches=4) is None
    with pytest.raises(UsageError, match="assume equal stages"):
        closed_form("gpipe", ranks=2, microbatches=2, costs=pipelab.Costs(forward=[1, 2]))
