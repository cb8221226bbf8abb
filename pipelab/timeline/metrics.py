"""The numbers of a timeline. Three bubbles, never mixed, never unlabelled."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..schedule import Schedule
from ..schedule.kinds import Kind, remembering

if TYPE_CHECKING:
    from .timeline import Timeline


ROUNDING = 1e-9
"""Of the whole: what sums of floats in another order may differ by, with room to spare."""


def metrics(timeline: "Timeline") -> dict[str, Any]:
    """Numbers of a timeline; per-rank values as lists.

    makespan: first start to last end over all ranks. spans: the same on each rank. idle: makespan −
    busy on each rank. bubble_fraction: idle / (ranks × makespan). bubble_overhead: idle / busy,
    Megatron-LM's (p−1)/m where all is equal (arXiv 2104.04473 §2.2). bubble_rate: 1 − busy/span on
    the rank with the longest span (zero bubble, arXiv 2401.10241 §5.3). peak_in_flight: most
    (stage, micro-batch) pairs from the start of F to the end of B or I;
    peak_in_flight_until_weight_grad: to the end of W where the backward is split.
    """
    schedule = timeline.schedule
    first, last = schedule.offsets[:-1], schedule.offsets[1:] - 1
    busy = timeline.compute_per_rank
    spans = timeline.ended[last] - timeline.started[first]
    makespan = timeline.makespan
    idle = without_rounding(makespan - busy, makespan)
    longest = int(spans.argmax())
    total_busy = float(busy.sum())
    rate = 0.0
    if spans[longest]:
        rate = float(without_rounding(1 - busy[longest] / spans[longest], 1.0))
    return {
        "schedule": schedule.name,
        "ranks": schedule.ranks,
        "stages": schedule.stages,
        "stages_per_rank": schedule.stages_per_rank,
        "microbatches": schedule.microbatches,
        "makespan": makespan,
        "spans": spans.tolist(),
        "idle": idle.tolist(),
        "bubble_fraction": float(idle.sum()) / (schedule.ranks * makespan) if makespan else 0.0,
        "bubble_overhead": float(idle.sum()) / total_busy if total_busy else 0.0,
        "bubble_rate": rate,
        "peak_in_flight": peak_in_flight(schedule, remembering("gives back", "gives back a part")),
        "peak_in_flight_until_weight_grad": peak_in_flight(
            schedule, remembering("gives back", "the rest")
        ),
    }


def without_rounding(time: np.ndarray, whole: float) -> np.ndarray:
    """Time that is left of a whole, with 0 for what is below it by the rounding of sums.

    What is further below stays: it is no rounding.
    """
    rounded: np.ndarray = np.where((time < 0) & (time > -ROUNDING * whole), 0.0, time)
    return rounded


def peak_in_flight(schedule: Schedule, releases: tuple[Kind, ...]) -> list[int]:
    """Most micro-batches of all its stages that each rank holds at once.

    Counted along the rank's own order, which is exact: actions of a rank never run side by side,
    except in an overlapped cell, where the forward holds its activations before the backward lets
    go of its own.
    """
    opens = schedule.kind == Kind.F
    closes = np.isin(schedule.kind, releases)
    if schedule.overlaps:  # count the forward of a cell before its backward
        order = np.lexsort((~opens, schedule.cell, schedule.rank))
        opens, closes = opens[order], closes[order]
    level = np.cumsum(opens.astype(np.int64) - closes)
    peaks = []
    for low, high in schedule.slices:
        before = level[low - 1] if low else 0
        peaks.append(int(level[low:high].max() - before))
    return peaks


def peak_bytes(timeline: "Timeline") -> dict[str, Any]:
    """The most that each rank holds, and its parts at the first action during which it does.

    Both are lists over ranks.
    """
    slices = timeline.schedule.slices
    at = [low + int(timeline.bytes_held[low:high].argmax()) for low, high in slices]
    return {
        "peak_bytes": timeline.bytes_held[at].tolist(),
        "peak_bytes_by_part": {
            part: held[at].tolist() for part, (held, _) in timeline.memory.items()
        },
    }
