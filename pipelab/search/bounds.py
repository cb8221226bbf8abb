"""Lower bounds: what no order of F, B, I and W can beat, for the given costs, latency and memory.

    a rank   │ before │ F's that fit │ idle │ first I … the rest of its work … last F │ left │
    time ─▶  0        └ way in              └ round trip of the first micro-batch     └ of the last

A span counts from the end of the way in. Only what ends on rank 0, which has no way in, bounds a
span as it bounds the makespan; of the other ranks, what lies between their own first start and
last end counts.

Costs are relaxed first, so that no choice between B and I with W undercuts them: I' = min(I, B), W'
= min(I + W, B) − I'. Source: derived here; tested against exact optima and against every schedule
of the catalogue.
"""

from dataclasses import replace

from ..simulator import Costs
from .greedy import first_backwards
from .problem import Problem, per_stage


def lower_bound(problem: Problem, costs: Costs) -> float:
    """The largest of the bounds, in the unit of the costs."""
    return max(lower_bounds(problem, costs).values())


def is_weak(problem: Problem) -> bool:
    """Whether the bound is known to lie far below the optimum in places: on a V with little memory.

    Which micro-batches wait in their first arm, and which have turned, is not in it.
    """
    return problem.arms == 2 and problem.limit < problem.ranks


def lower_bounds(problem: Problem, costs: Costs) -> dict[str, float]:
    """Each bound by name.

    "path" is of one micro-batch, "work" of a rank with what surrounds it, "memory" of a rank.
    """
    problem = _relaxed(problem, costs)
    first = first_backwards(problem)
    ranks, stages = range(problem.ranks), range(problem.stages)
    return {
        "path": _trip(problem, 0) + _after(problem, 0),
        "work": max(_work(problem, rank, first[rank]) for rank in ranks),
        "memory": max(
            max(_turns(problem, stage) for stage in stages),
            max(_area(problem, rank) for rank in ranks),
        ),
    }


def _relaxed(problem: Problem, costs: Costs) -> Problem:
    """Costs that no choice between B and I + W undercuts."""
    forward, inputs, weights = (
        per_stage(costs.durations[kind], problem.stages)
        for kind in ("forward", "input_grad", "weight_grad")
    )
    full = per_stage(costs.durations["backward"], problem.stages)
    least = tuple(map(min, inputs, full))
    split = zip(inputs, weights, full, least, strict=True)
    rest = tuple(min(i + w, b) - least_i for i, w, b, least_i in split)
    return replace(problem, times=(forward, least, rest))


def _trip(problem: Problem, stage: int) -> float:
    """From the start of a stage's F to the end of its I: forward to the last stage and back."""
    forward, backward, _ = problem.times
    return sum(forward[stage:]) + sum(backward[stage:]) + 2 * sum(problem.hops[stage:])


def _after(problem: Problem, stage: int) -> float:
    """The way out, from the end of a stage's I.

    It is made of the I's of the stages before, and a W of stage 0.
    """
    return sum(problem.times[1][:stage]) + sum(problem.hops[:stage]) + problem.times[2][0]


def _work(problem: Problem, rank: int, first: float) -> float:
    """All work of a rank, and the time it must stand idle before its first I and after its last F.

    Before its first I a rank runs only forwards, as many as fit. After its last F it runs what it
    has not given back.
    """
    mine, m = problem.stages_of(rank), problem.microbatches
    work = _busy(problem, rank) * m
    fit = min(int(problem.room), m * len(mine))
    forwards = sorted([problem.times[0][stage] for stage in mine] * m, reverse=True)[:fit]
    before = problem.before(rank)
    opening = max(before, first - sum(forwards))
    # If not all fit, the last F comes after the first I: the two idle times are not the same one.
    apart = fit < m * len(mine)

    def with_closing(closing: float) -> float:
        return work + (opening + closing if apart else max(opening, before + closing))

    if problem.objective == "makespan":
        return with_closing(max(0.0, _closing(problem, rank)))
    own = with_closing(max(0.0, _closing(problem, rank, own=True))) - before
    to_rank_0 = _closing(problem, rank)
    # Where all F's fit, what is idle before the first I bounds the end of this rank alone.
    on_rank_0 = work + (opening if apart else before) + to_rank_0
    return max(own, on_rank_0) if to_rank_0 > 0 else own


def _busy(problem: Problem, rank: int) -> float:
    """The work of a rank for one micro-batch."""
    work = 0.0
    for times in problem.times:
        for stage in problem.stages_of(rank):
            work += times[stage]
    return work


def _closing(problem: Problem, rank: int, *, own: bool = False) -> float:
    """Idle time after the last F of a rank with one stage, until the end of rank 0 or its own.

    Its I comes no sooner than the round trip allows.
    """
    if problem.arms == 2:
        return 0.0
    m, share = problem.microbatches, problem.weight_grad_memory
    forward, backward, weight = (times[rank] for times in problem.times)
    most = 0.0
    # So many wait for their I; of the others, only W can be left.
    for waiting in range(1, min(int(problem.room), m) + 1):
        put_off = min(m - waiting, int((problem.room - waiting) / share) if share else m)
        most = max(most, waiting * (backward + weight) + put_off * weight)
    return _trip(problem, rank) - forward + (weight if own else _after(problem, rank)) - most


def _turns(problem: Problem, stage: int) -> float:
    """The bound when only k micro-batches of a stage fit.

    Each further F waits for the round trip of the k-th before it.
    """
    turns, more = divmod(problem.microbatches - 1, int(problem.room))
    trip = _trip(problem, stage)
    last = problem.before(stage) + turns * trip + more * problem.times[0][stage]
    return last + trip + _after(problem, stage)


def _area(problem: Problem, rank: int) -> float:
    """The bound by memory × time: what a rank's micro-batches take, against the limit × time.

    The memory fills by one F after the other.
    """
    mine, (forward, _, weight) = problem.stages_of(rank), problem.times
    trips = sum(
        _trip(problem, stage) + problem.weight_grad_memory * weight[stage] for stage in mine
    )
    shortest = min(forward[stage] for stage in mine)
    fit = min(int(problem.room), problem.microbatches * len(mine))
    empty = shortest * sum(problem.room - n for n in range(1, fit + 1))
    before = problem.before(rank) if problem.objective == "makespan" else 0.0
    return before + (problem.microbatches * trips + empty) / problem.room
