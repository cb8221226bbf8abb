"""auto: the best schedule that a search finds for given costs, latency and limit of memory.

    known schedules of the placement ─▶ pipelab.search ─▶ the shortest, and its gap to a bound

The search itself knows no schedule by name; here it gets those of the catalogue to start from, so
that it never returns a longer one than any of them that fits (DualPipeV aside, whose overlapped
pairs it does not make).
"""

from collections.abc import Iterator
from dataclasses import fields, replace
from statistics import fmean
from typing import Any

from ..errors import UsageError
from ..schedule import Schedule
from ..search import WEIGHT_GRAD_MEMORY, Found, best, reason_against
from ..simulator import Costs
from .controllable_memory import V_HALF, V_MIN
from .entry import Entry, Size
from .gpipe import GPIPE
from .hanayo import HANAYO
from .naive import NAIVE
from .one_f_one_b import EAGER_1F1B, ONE_F_ONE_B
from .zb_automatic import ZB_1P, ZB_2P
from .zb_v import ZB_V
from .zero_bubble import ZB_H1, ZB_H2

KNOWN = {
    "loop": (ZB_H1, ZB_H2, ZB_1P, ZB_2P, ONE_F_ONE_B, EAGER_1F1B, GPIPE, NAIVE),
    "v": (ZB_V, HANAYO, V_HALF, V_MIN),
}
"""What the search starts from, by placement."""
PLACEMENTS = {1: "loop", 2: "v"}
"""By stages per rank."""


def find(  # noqa: PLR0913 - keywords alone, the same as those of the search
    *,
    ranks: int,
    microbatches: int,
    stages_per_rank: int | None = None,
    costs: Costs | None = None,
    memory_limit: float | None = None,
    placement: str | None = None,
    weight_grad_memory: float = WEIGHT_GRAD_MEMORY,
    effort: float = 1,
    exact: bool = False,
    objective: str = "makespan",
) -> Found:
    """The schedule of ``build("auto", …)`` with its lower bound and gap.

    Args:
        ranks: How many there are.
        microbatches: How many there are.
        stages_per_rank: One, or two in a V.
        costs: Per action of one stage.
        memory_limit: What each rank may hold: see ``pipelab.search.best``.
        placement: "loop" or "v", instead of the number of stages.
        weight_grad_memory: The share of a micro-batch's activations that W gives back.
        effort: How much the heuristic may try: see ``pipelab.search.best``.
        exact: Whether to go on with OR-tools.
        objective: What is to be short, "makespan" or "span": see ``pipelab.search.best``.

    Raises:
        UsageError: it says what is possible.
    """
    problem = AUTO.problem(ranks, microbatches, stages_per_rank, costs, memory_limit, placement)
    if problem:
        raise UsageError(problem)
    size = AUTO.size(ranks, microbatches, stages_per_rank, costs, memory_limit, placement)
    return _find(size, weight_grad_memory, effort, exact=exact, objective=objective)


def _find(
    size: Size,
    weight_grad_memory: float = WEIGHT_GRAD_MEMORY,
    effort: float = 1,
    *,
    exact: bool = False,
    objective: str = "makespan",
) -> Found:
    return best(
        ranks=size.ranks,
        microbatches=size.microbatches,
        placement=PLACEMENTS[size.stages_per_rank],
        costs=size.costs,
        memory_limit=size.memory_limit,
        weight_grad_memory=weight_grad_memory,
        candidates=_known(size),
        effort=effort,
        exact=exact,
        objective=objective,
    )


def _known(size: Size) -> Iterator[Schedule]:
    """The catalogue's schedules for a size, one at a time.

    None is built once the search needs no more.
    """
    for known in KNOWN[PLACEMENTS[size.stages_per_rank]]:
        for costs in (size.costs, _mean(size.costs)):
            counts = (size.ranks, size.microbatches, size.stages_per_rank, costs)
            if not known.problem(*counts):
                yield known.build(*counts)
                break


def _mean(costs: Costs | None) -> Costs | None:
    """Equal stages with the mean of the costs, for schedules that are built for equal stages."""
    if costs is None:
        return None
    values = {field.name: getattr(costs, field.name) for field in fields(costs)}
    means: dict[str, Any] = {
        name: fmean(value) for name, value in values.items() if isinstance(value, tuple)
    }
    return replace(costs, **means)


def _possible(size: Size) -> str | None:
    if size.stages_per_rank not in PLACEMENTS:
        return f"auto searches one stage per rank, or two in a V, not {size.stages_per_rank}."
    placement = PLACEMENTS[size.stages_per_rank]
    if size.placement in PLACEMENTS.values() and size.placement != placement:
        stages = "1 stage" if size.stages_per_rank == 1 else f"{size.stages_per_rank} stages"
        return (
            f"auto places {stages} per rank as {placement!r}, not {size.placement!r}: give one of "
            "stages_per_rank and placement."
        )
    return reason_against(
        size.ranks, size.microbatches, size.placement or placement, size.memory_limit
    )


AUTO = Entry(
    name="auto",
    title="Auto",
    summary="Searched: the best found for the costs within a limit of memory (1F1B's, if none is "
    "given).",
    source="own search; the problem is that of the zero-bubble authors' automatic schedules, arXiv "
    "2401.10241, section 3",
    make=lambda size: _find(size).schedule,
    fixed=None,
    constraint=_possible,
    searched=True,
    from_costs=True,
)
