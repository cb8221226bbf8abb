"""The exact search: known optima, a proof, and what happens without OR-tools."""

import sys

import pytest

from pipelab.errors import UsageError
from pipelab.schedule import Kind, check
from pipelab.search import best, peak_memory
from pipelab.search.exact import _tick
from pipelab.search.problem import pose
from pipelab.simulator import Costs

UNIT = {"costs": Costs(1, input_grad=1, weight_grad=1)}


@pytest.mark.parametrize(
    ("ranks", "microbatches", "placement", "limit", "optimum"),
    [
        # One at a time on two ranks: F there, F I here, I back, then W before the next F may take
        # its room: 5 each.
        (2, 4, "loop", 1, 20),
        # With enough memory the last rank starts after p − 1 forwards and never waits: p − 1 + 3 m.
        (2, 3, "loop", 2, 10),
        (3, 4, "loop", 5, 14),
        (3, 4, "loop", 3, 14),
        # A V of two ranks: rank 1 starts after one forward, works 6 m.
        (2, 3, "v", 2, 19),
        (2, 2, "v", 1, 17),
    ],
)
def test_known_optima(ranks, microbatches, placement, limit, optimum):
    found = best(
        ranks=ranks,
        microbatches=microbatches,
        placement=placement,
        memory_limit=limit,
        exact=True,
        time_limit=30,
        **UNIT,
    )
    assert (found.makespan, found.lower_bound, found.gap, found.proven) == (
        optimum,
        optimum,
        0,
        True,
    )
    assert check(found.schedule) is None and max(found.memory) <= limit


def test_it_finds_what_the_heuristic_does_not():
    """Four micro-batches on three ranks of a V: with least effort the heuristic takes longer than
    the optimum, 152.
    """
    costs = Costs(5, input_grad=6, weight_grad=4)
    case = {"ranks": 3, "microbatches": 4, "placement": "v", "memory_limit": 2, "costs": costs}
    quick, exact = best(**case, effort=0), best(**case, effort=0, exact=True, time_limit=60)
    assert quick.lower_bound < exact.lower_bound == exact.makespan == 152 < quick.makespan
    assert exact.proven and not quick.proven


def test_the_shortest_span():
    """Not longer than the makespan; its bound also holds where times are rounded down."""
    found = best(ranks=2, microbatches=3, memory_limit=2, exact=True, objective="span", **UNIT)
    assert found.proven and found.length == found.span == found.lower_bound
    assert found.span < best(ranks=2, microbatches=3, memory_limit=2, **UNIT).makespan + 1e-9
    odd = Costs(2**0.5, input_grad=3**0.5, weight_grad=0.7**0.5, latency=0.1**0.5)
    case = {"ranks": 2, "microbatches": 2, "memory_limit": 1, "costs": odd}
    rounded = best(**case, exact=True, time_limit=10, objective="span")
    assert rounded.lower_bound <= rounded.span * (1 + 1e-9) and rounded.gap < 1e-4


def test_full_backwards_and_parts_in_one_order():
    costs = Costs(1, backward=1.2, input_grad=1, weight_grad=1, latency=0.1)
    found = best(ranks=3, microbatches=4, costs=costs, exact=True, time_limit=30)
    assert {Kind.B, Kind.I, Kind.W} <= found.schedule.kinds
    assert check(found.schedule) is None and found.makespan == pytest.approx(13.2)


@pytest.mark.parametrize(("share", "optimum"), [(0, 18), (0.5, 18), (0.6, 24), (1, 24)])
def test_memory_in_exact_shares(share, optimum):
    """One micro-batch at a time fits. While rank 0 waits 2 for its I there is time for the W
    before, of 2.

    Where what that W holds leaves room for the next F: 4 micro-batches × 4, and the last W. Else W
    must come first: 4 × 6.
    """
    found = best(
        ranks=2,
        microbatches=4,
        costs=Costs(1, input_grad=1, weight_grad=2),
        memory_limit=1.5,
        weight_grad_memory=share,
        exact=True,
        time_limit=30,
    )
    assert found.proven and max(peak_memory(found.schedule, share)) <= 1.5
    assert found.makespan == optimum


def test_the_time_limit_leaves_the_best_found_and_a_bound():
    found = best(ranks=4, microbatches=12, memory_limit=2, exact=True, time_limit=0.01, **UNIT)
    assert 0 < found.lower_bound <= found.makespan and max(found.memory) <= 2


def test_costs_that_are_no_fractions_keep_a_valid_bound():
    costs = Costs(2**0.5, input_grad=3**0.5, weight_grad=0.7**0.5, latency=0.1**0.5)
    found = best(ranks=2, microbatches=3, costs=costs, memory_limit=1, exact=True, time_limit=30)
    assert found.lower_bound <= found.makespan and found.gap < 1e-4


@pytest.mark.parametrize(
    ("costs", "tick"),
    [
        (Costs(1, input_grad=2, weight_grad=3), 1),
        (Costs(4, input_grad=2, weight_grad=6, latency=0.5), 0.5),
    ],
)
def test_ticks_hold_all_durations(costs, tick):
    problem = pose(2, 3, "loop", costs, None, 0.5)
    assert _tick([*(times[0] for times in problem.times), costs.latency], problem) == tick


@pytest.mark.parametrize("placement", ["loop", "v"])
def test_actions_that_take_no_time(placement):
    for costs in (Costs(0, input_grad=0, weight_grad=1), Costs(1, input_grad=0, weight_grad=0)):
        found = best(
            ranks=2,
            microbatches=3,
            placement=placement,
            memory_limit=1,
            costs=costs,
            exact=True,
            time_limit=30,
        )
        assert found.proven and check(found.schedule) is None


def test_without_or_tools_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ortools.sat.python", None)
    with pytest.raises(UsageError) as error:
        best(ranks=2, microbatches=4, memory_limit=1, exact=True, **UNIT)
    assert str(error.value) == (
        "An exact optimum needs OR-tools, which is not installed: pip install 'pipelab[exact]'. "
        "Without it, the heuristic finds a schedule and says how far it may be from the optimum."
    )
    assert best(ranks=2, microbatches=4, memory_limit=1, **UNIT).makespan == 20
