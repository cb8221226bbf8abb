"""Why a measured timeline is longer than the predicted one, rank by rank."""

from typing import TYPE_CHECKING

import numpy as np

from ..errors import UsageError
from .idle import shortest_transfer
from .metrics import without_rounding

if TYPE_CHECKING:
    from .timeline import Timeline

PARTS = ("compute", "transfer", "waiting", "overhead", "processors")


def gap(measured: "Timeline", predicted: "Timeline") -> dict[str, list[float]]:
    """Measured minus predicted makespan on each rank, and what it is made of.

    The parts sum to ``total``. compute: actions that took longer than assumed. transfer: data
    under way while the rank waited for it. waiting: for others to send, and before the first and
    after the last action; where nothing makes the ranks wait for one another between two steps, it
    holds what was left of the step before on other ranks. overhead: between two actions although
    the input was there: starting an action, handing its result over. processors: time of any
    of these in which the rank could have run, but no processor was free (0 where nobody counts it).
    Negative where the run was faster. In the time unit of the measured timeline. Raises UsageError
    unless both are timelines of the same schedule.
    """
    if measured.schedule is not predicted.schedule and measured.schedule != predicted.schedule:
        raise UsageError(
            "A gap is between two timelines of one schedule; these are of "
            f"{measured.schedule.name} and {predicted.schedule.name}, with different actions."
        )
    if measured.unit != predicted.unit:
        units = [timeline.unit or "abstract units" for timeline in (measured, predicted)]
        raise UsageError(
            f"The measured timeline is in {units[0]}, the predicted one in {units[1]}: predict "
            "from costs in seconds."
        )
    found, expected = np.array(_parts(measured)), np.array(_parts(predicted))
    parts = _without_processors(found - expected, measured.queued)
    table = dict(zip(PARTS, parts.tolist(), strict=True))
    return table | {"total": parts.sum(axis=0).tolist()}


def _parts(timeline: "Timeline") -> tuple[np.ndarray, ...]:
    """Compute, transfer, waiting and overhead of each rank; they sum to the makespan."""
    schedule = timeline.schedule
    starts = schedule.offsets[:-1]
    between = np.append(0.0, timeline.asked[1:] - timeline.ended[:-1])
    between[starts] = 0
    between[schedule.seconds] = 0
    compute = timeline.compute_per_rank
    transfer = np.add.reduceat(np.where(_under_way(timeline), timeline.transfer, 0.0), starts)
    overhead = timeline.transfer_per_rank - transfer + np.add.reduceat(between, starts)
    waiting = timeline.makespan - compute - transfer - overhead
    return compute, transfer, without_rounding(waiting, timeline.makespan), overhead


def _without_processors(parts: np.ndarray, queued: np.ndarray | None) -> np.ndarray:
    """The parts, and as the last what of them is explained by ``queued``: of what grew alone.

    First of computing, then of starting and handing over, of transfers, and of waiting, in which a
    rank wakes up late.
    """
    left = np.zeros(parts.shape[1]) if queued is None else queued.copy()
    starved = np.zeros_like(left)
    for part in ("compute", "overhead", "transfer", "waiting"):
        row = parts[PARTS.index(part)]
        taken = np.minimum(left, np.maximum(row, 0.0))
        row -= taken
        left -= taken
        starved += taken
    return np.vstack([parts, starved])


def _under_way(timeline: "Timeline") -> np.ndarray:
    """Whether the input of each atom can have been under way when it was asked for."""
    schedule = timeline.schedule
    transit = shortest_transfer(timeline) if timeline.transit is None else timeline.transit
    there = np.where(schedule.crosses, timeline.ended[schedule.producer] + transit, -np.inf)
    second = schedule.seconds  # a pair waits for the inputs of both
    there[second - 1] = np.maximum(there[second - 1], there[second])
    late: np.ndarray = there > timeline.asked
    return late
