"""What theory says about a prediction: a lower bound, and the schedule's formula, filled in."""

from typing import Any

from ..errors import UsageError
from ..schedule import Kind, Schedule
from ..search.bounds import is_weak, lower_bound
from ..search.problem import pose
from ..simulator import Costs, closed_form
from ..timeline import Timeline
from .settings import Settings


def bound(timeline: Timeline, costs: Costs, memory_limit: float = 0.0) -> tuple[float, str]:
    """A makespan that no other order can beat, and why: (value, definition).

    Where stages stand one to a rank, or two in a V, it is the search's bound, within
    ``memory_limit`` if there is one. Elsewhere it is the work of the busiest rank.
    """
    schedule = timeline.schedule
    name = _placement(schedule)
    if name is None:
        work = timeline.compute_per_rank
        return float(work.max()), "work of the busiest rank: no order is shorter"
    within, limit = "within the memory limit", memory_limit
    if not memory_limit:
        within, limit = "with any amount of memory", float(schedule.microbatches)
    elif memory_limit < 1:
        within = "within the least memory that works, one micro-batch: the limit is below that"
        limit = 1.0
    problem = pose(schedule.ranks, schedule.microbatches, name, costs, limit, 0.5)
    definition = f"no order of these actions on these ranks is shorter, {within}"
    if is_weak(problem):
        definition += " (a weak bound: on a V with so little memory the best may be far above it)"
    return lower_bound(problem, costs), definition


def _placement(schedule: Schedule) -> str | None:
    """How the search calls the schedule's placement; None where it does not know it."""
    ranks = schedule.ranks
    if schedule.replicas > 1:
        return None
    if schedule.placement == {(0, stage): stage for stage in range(ranks)}:
        return "loop"
    there_and_back = [*range(ranks), *reversed(range(ranks))]
    if schedule.placement == {(0, stage): rank for stage, rank in enumerate(there_and_back)}:
        return "v"
    return None


def bound_number(
    timeline: Timeline, costs: Costs, memory_limit: float, scale: float = 1.0
) -> dict[str, Any]:
    """The bound as a row of the table of numbers."""
    value, definition = bound(timeline, costs, memory_limit)
    share = timeline.makespan / value - 1 if value else 0.0
    if share < -1e-6:
        beyond = "this schedule holds more than that"
    elif share < 5e-4:
        beyond = "reached"
    else:
        beyond = f"the makespan is {share:.1%} longer"
    return {
        "key": "lower_bound",
        "label": "lower bound",
        "form": "time",
        "value": value * scale,
        "definition": f"{definition}; {beyond}",
    }


def formula(settings: Settings, timeline: Timeline, scale: float = 1.0) -> dict[str, Any]:
    """The closed form of the schedule for these settings, with the values of its symbols.

    Keys: quantity, text, value, source, condition, exact, symbols (letter -> number), found: the
    same quantity in the timeline. Empty where there is no formula, or none for unequal stages or
    recomputation.
    """
    schedule = timeline.schedule
    if settings.recompute != "none" or Kind.STEP in schedule.kinds:
        return {}
    if settings.overhead:  # formulas know F, B, I and W, of which B = I + W
        return {}
    costs = settings.costs(schedule.stages)
    ranks, microbatches = schedule.ranks, schedule.microbatches
    per_rank = schedule.stages_per_rank or 1
    try:
        found = closed_form(
            settings.schedule,
            ranks=ranks,
            microbatches=microbatches,
            stages_per_rank=per_rank,
            costs=costs,
        )
    except UsageError:  # costs per stage
        return {}
    if found is None:
        return {}
    times = costs.durations
    numbers = timeline.metrics
    taken = {
        "makespan": timeline.makespan,
        "span": max(numbers["spans"]),
        "idle": max(numbers["idle"]),
    }
    lengths = {
        "F": times["forward"],
        "B": times["backward"],
        "I": times["input_grad"],
        "W": times["weight_grad"],
        "F&B": times["overlap"],
        "c": settings.latency,
    }
    symbols: dict[str, float] = {"p": ranks, "m": microbatches, "v": per_rank}
    for letter, length in lengths.items():
        if isinstance(length, int | float):  # a closed form has one for all stages
            symbols[letter] = length * scale
    return {
        "quantity": found.quantity,
        "text": found.text,
        "value": found.value * scale,
        "source": found.source,
        "condition": found.condition,
        "exact": found.exact,
        "symbols": symbols,
        "found": taken[found.quantity] * scale,
    }
