"""What there is to beat when a schedule is built by hand."""

from typing import Any

from ..catalogue import entry
from .construction import Construction
from .settings import Settings
from .theory import bound


def par(start: Construction, settings: Settings) -> dict[str, Any]:
    """What there is to beat: a known schedule on the same ranks, and a bound for all orders."""
    schedule = start.completed()
    ranks, microbatches = schedule.ranks, schedule.microbatches
    per_rank = schedule.stages_per_rank or 1
    found = entry(_like(start, ranks, per_rank))
    if found.problem(ranks, microbatches, None if found.fixed else per_rank):
        found = entry("gpipe")
    known = found.build(ranks, microbatches, None if found.fixed else per_rank)
    best = settings.simulate(known)
    costs = settings.costs(schedule.stages)
    least, _ = bound(settings.simulate(schedule), costs, settings.limit_in_microbatches)
    return {
        "par_name": found.title,
        "par": best.makespan,
        "par_peak": float(best.bytes_held.max()),
        "bound": least,
    }


def _like(start: Construction, ranks: int, per_rank: int) -> str:
    """The name of the usual schedule for stages that lie so."""
    if per_rank == 1:
        return "1f1b"
    looped = all(home == stage % ranks for stage, home in enumerate(start.homes))
    return "interleaved-1f1b" if looped else "zb-v"
