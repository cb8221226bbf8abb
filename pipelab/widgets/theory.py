"""What theory says about a prediction: a lower bound for its makespan, and the formula of its
schedule, filled in.
"""

from ..errors import UsageError
from ..schedule import Kind
from ..search.bounds import lower_bound
from ..search.problem import pose
from ..simulator import Costs, closed_form
from ..timeline import Timeline
from .settings import Settings

PLACEMENTS = {
    "loop": lambda stage, ranks: stage,
    "v": lambda stage, ranks: min(stage, 2 * ranks - 1 - stage),
}


def bound(timeline: Timeline, costs: Costs, memory_limit: float = 0.0) -> tuple[float, str]:
    """A makespan that no other order can beat, and why: (value, definition).

    Where stages stand one to a rank, or two in a V, it is the search's bound, within
    ``memory_limit`` if there is one. Elsewhere it is the work of the busiest rank.
    """
    schedule = timeline.schedule
    for name, home in PLACEMENTS.items():
        stages = schedule.ranks * (2 if name == "v" else 1)
        if schedule.replicas == 1 and schedule.placement == {
            (0, s): home(s, schedule.ranks) for s in range(stages)
        }:
            limit = memory_limit or float(schedule.microbatches)
            problem = pose(schedule.ranks, schedule.microbatches, name, costs, limit, 0.5)
            within = "within the memory limit" if memory_limit else "with any amount of memory"
            return lower_bound(
                problem, costs
            ), f"no order of these actions on these ranks is shorter, {within}"
    work = timeline.compute_per_rank
    return float(work.max()), "work of the busiest rank: no order is shorter"


def bound_number(timeline: Timeline, costs: Costs, memory_limit: float, scale: float = 1.0) -> dict:
    """The bound as a row of the table of numbers."""
    value, definition = bound(timeline, costs, memory_limit)
    share = timeline.makespan / value - 1 if value else 0.0
    if share < -1e-6:
        beyond = "this schedule holds more than that"
    else:
        beyond = "reached" if share < 5e-4 else f"the makespan is {share:.1%} longer"
    return {
        "key": "lower_bound",
        "label": "lower bound",
        "form": "time",
        "value": value * scale,
        "definition": f"{definition}; {beyond}",
    }


def formula(settings: Settings, timeline: Timeline, scale: float = 1.0) -> dict:
    """The closed form of the schedule for these settings: its text, the values of its symbols, and
    what it gives.

    Keys: quantity, text, value, source, condition, exact, symbols (letter -> number), found: the
    same quantity in the timeline. Empty where there is no formula, or none for unequal stages or
    recomputation.
    """
    schedule = timeline.schedule
    if settings.recompute != "none" or Kind.STEP in schedule.kinds:
        return {}
    costs = settings.costs(schedule.stages)
    counts = {
        "ranks": schedule.ranks,
        "microbatches": schedule.microbatches,
        "stages_per_rank": schedule.stages_per_rank or 1,
    }
    try:
        found = closed_form(settings.schedule, **counts, costs=costs)
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
    symbols = {"p": schedule.ranks, "m": schedule.microbatches, "v": counts["stages_per_rank"]}
    symbols |= {letter: length * scale for letter, length in lengths.items()}
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
