"""Nothing is below a lower bound: neither the exact optimum nor any schedule of the catalogue that
fits.
"""

from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipelab.catalogue import build, entry, names
from pipelab.schedule import Kind
from pipelab.search import best, peak_memory
from pipelab.search.bounds import lower_bound, lower_bounds
from pipelab.search.problem import OBJECTIVES, pose
from pipelab.simulator import Costs, simulate

quarters = st.integers(0, 12).map(lambda n: n / 4)
positive = st.integers(1, 12).map(lambda n: n / 4)


@st.composite
def cases(draw, ranks, microbatches):
    """(sizes, placement, costs per stage, limit, share) with numbers that the exact search takes as
    they are.
    """
    p, m, placement = draw(ranks), draw(microbatches), draw(st.sampled_from(["loop", "v"]))
    stages = p * (2 if placement == "v" else 1)
    each = st.lists(positive, min_size=stages, max_size=stages)
    full = draw(st.sampled_from([None, "given"]))
    costs = Costs(
        draw(each),
        input_grad=draw(each),
        weight_grad=draw(each),
        backward=full and draw(each),
        latency=draw(quarters),
    )
    return (
        p,
        m,
        placement,
        costs,
        draw(st.integers(2, 4 * p)) / 2,
        draw(st.sampled_from([0, 0.25, 0.5, 1])),
    )


@pytest.mark.parametrize("objective", OBJECTIVES)
@given(case=cases(st.integers(1, 3), st.integers(1, 3)))
@example(
    # A long W on rank 1: the bound of a span was 2.0, the optimum is 1.75.
    case=(3, 1, "loop", Costs(0.25, input_grad=0.25, weight_grad=(0.25, 0.75, 0.25)), 1.0, 0)
)
@settings(max_examples=40, deadline=None)
def test_bounds_against_the_exact_optimum(objective, case):
    p, m, placement, costs, limit, share = case
    asked = {
        "placement": placement,
        "costs": costs,
        "memory_limit": limit,
        "weight_grad_memory": share,
        "objective": objective,
    }
    bound = lower_bound(pose(p, m, placement, costs, limit, share, objective), costs)
    quick = best(ranks=p, microbatches=m, **asked)
    optimum = best(ranks=p, microbatches=m, **asked, exact=True, time_limit=20)
    assert bound <= optimum.length * (1 + 1e-9)
    assert bound <= optimum.lower_bound <= optimum.length * (1 + 1e-9)
    assert optimum.length <= quick.length * (1 + 1e-9)
    assert max(optimum.memory) <= limit * (1 + 1e-9)


@given(
    name=st.sampled_from(names()),
    ranks=st.integers(1, 7),
    microbatches=st.integers(1, 20),
    f=positive,
    i=positive,
    w=positive,
    latency=quarters,
    share=st.sampled_from([0, 0.4324, 0.5, 1]),
)
@settings(max_examples=150, deadline=None)
def test_bounds_against_the_catalogue(name, ranks, microbatches, f, i, w, latency, share):
    """Each schedule is held against the bound for just the memory that it needs."""
    costs = Costs(f, input_grad=i, weight_grad=w, latency=latency)
    for stages_per_rank, kind in ((1, "loop"), (2, "v")):
        if entry(name).problem(ranks, microbatches, stages_per_rank, costs):
            continue
        schedule = build(
            name,
            ranks=ranks,
            microbatches=microbatches,
            stages_per_rank=stages_per_rank,
            costs=costs,
        )
        limit = max(1, *peak_memory(schedule, share))
        problem = pose(ranks, microbatches, kind, costs, limit, share)
        spans = replace(problem, objective="span")
        placement = {(0, stage): problem.home(stage) for stage in range(problem.stages)}
        if Kind.STEP in schedule.kinds or dict(schedule.placement) != placement:
            continue
        found = simulate(schedule, costs).metrics
        makespan = found["makespan"]
        for what, bound in lower_bounds(problem, costs).items():
            assert bound <= makespan * (1 + 1e-9), what
        for what, bound in lower_bounds(spans, costs).items():
            assert bound <= max(found["spans"]) * (1 + 1e-9), what


def test_a_test_that_could_fail_does():
    """A schedule that holds more than the limit is shorter than the bound for that limit."""
    gpipe = build("gpipe", ranks=4, microbatches=12)
    assert lower_bound(pose(4, 12, "loop", Costs(), 1, 0.5), Costs()) > simulate(gpipe).makespan


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        # One micro-batch: down through 4 stages, back, the last W: 4·1 + 4·1 + 1.
        ((4, 1, "loop", 4), {"path": 9, "work": 9}),
        # Rank 3 starts after 3 forwards and works 24: 27. Rank 0 waits from 4 to 7 for its first I:
        # 27 too.
        ((4, 8, "loop", 4), {"path": 9, "work": 27}),
        # One at a time: rank 0 holds each of eight for a round trip of 8, and half of it for a W.
        ((4, 8, "loop", 1), {"memory": 68}),
        # The V: rank 3 starts after 3 forwards and works 48.
        ((4, 8, "v", 4), {"path": 17, "work": 51}),
    ],
)
def test_bounds_by_hand(sizes, expected):
    ranks, microbatches, placement, limit = sizes
    costs = Costs(1, input_grad=1, weight_grad=1)
    bounds = lower_bounds(pose(ranks, microbatches, placement, costs, limit, 0.5), costs)
    assert {name: bounds[name] for name in expected} == pytest.approx(expected)


def test_more_memory_never_raises_a_bound():
    costs = Costs(5, input_grad=6, weight_grad=4, latency=0.5)
    for placement in ("loop", "v"):
        bounds = [
            lower_bound(pose(6, 20, placement, costs, limit / 2, 0.5), costs)
            for limit in range(2, 40)
        ]
        assert bounds == sorted(bounds, reverse=True) and bounds[0] > bounds[-1]


def test_a_full_backward_that_is_faster_counts():
    split, full = (
        Costs(1, input_grad=1, weight_grad=1),
        Costs(1, input_grad=1, weight_grad=1, backward=1.5),
    )
    assert [lower_bound(pose(2, 9, "loop", costs, 2, 0.5), costs) for costs in (split, full)] == [
        28,
        24,
    ]
