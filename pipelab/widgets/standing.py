"""What stands in a schedule that is being built: its times and memory, and what may come next.

standing: whether each atom of the completed schedule stands already.
"""

from typing import Any

import numpy as np

from ..plots.view import COLUMNS, live_view
from ..schedule import Action, Schedule
from ..timeline import Timeline
from .construction import Construction


def times(timeline: Timeline, standing: np.ndarray) -> list[list[tuple[float, float]]]:
    """(start, end) of what stands, rank by rank."""
    return [
        [
            (float(timeline.started[i]), float(timeline.ended[i]))
            for i in range(low, high)
            if standing[i]
        ]
        for low, high in timeline.schedule.slices
    ]


def memory(timeline: Timeline, standing: np.ndarray) -> list[list[tuple[float, float]]]:
    """(time, what the rank holds from then on) of what stands, rank by rank."""
    return [
        [
            step
            for i in range(low, high)
            if standing[i]
            for step in (
                (float(timeline.started[i]), float(timeline.bytes_held[i])),
                (float(timeline.ended[i]), float(timeline.bytes_after[i])),
            )
        ]
        for low, high in timeline.schedule.slices
    ]


def partial(timeline: Timeline, standing: np.ndarray, memory_unit: str) -> dict[str, Any]:
    """The picture of what stands, of a timeline in units of cost."""
    columns = {name: getattr(timeline, name)[standing] for name in COLUMNS}
    # A live view takes seconds and draws milliseconds; units are drawn as they are.
    in_seconds = {name: columns[name] / 1000 for name in ("started", "ended")}
    unscaled = live_view(columns | in_seconds, timeline.schedule)
    picture = live_view(columns, timeline.schedule)
    picture |= {name: unscaled[name] for name in ("bars", "end", "step")}
    return picture | {"source": "predicted", "unit": "", "memory_unit": memory_unit}


def standing_atoms(now: Construction, schedule: Schedule) -> np.ndarray:
    """Whether each atom of the completed schedule stands already.

    What stands comes first on each rank.
    """
    return schedule.cell < np.repeat([len(row) for row in now.rows], np.diff(schedule.offsets))


def starts(timeline: Timeline, now: Construction, latency: float) -> dict[Action, float]:
    """When each action that may come next could start, at the earliest.

    timeline: of the completed schedule.
    """
    schedule = timeline.schedule
    ends = {schedule.atom(i): float(timeline.ended[i]) for i in range(len(schedule.kind))}
    found = {}
    for rank, row in enumerate(now.rows):
        free = ends[row[-1]] if row else 0.0
        for action in now.legal(rank):
            arrivals = [free]
            for need in now.needs(action):
                elsewhere = now.homes[need.stage] != rank
                arrivals.append(ends[need] + (latency if elsewhere else 0.0))
            found[action] = max(arrivals)
    return found


def legal_times(
    timeline: Timeline, now: Construction, latency: float
) -> list[list[tuple[float, float]]]:
    """(start, end) of each action that may come next, rank by rank, if it came next."""
    schedule, begin = timeline.schedule, starts(timeline, now, latency)
    lasts = {schedule.atom(i): float(timeline.compute[i]) for i in range(len(schedule.kind))}
    legal = [now.legal(rank) for rank in range(len(now.rows))]
    return [[(begin[each], begin[each] + lasts[each]) for each in actions] for actions in legal]
