"""When each action starts and ends, given how long it lasts: the longest path over a fixed order.

    rank 0   0F0 ─▶ 0F1 ─▶ 0B0 ─▶ 0B1        ─▶  the rank's own order
              │      │      ▲      ▲          │  what a stage needs from its neighbour,
    rank 1   1F0 ─▶ 1B0 ─▶ 1F1 ─▶ 1B1           ``latency`` later when that is another rank

``check`` asks it whether a schedule can finish; the simulator asks it for the times. Where ranks
share more than data (links that carry one message at a time, meetings), ``shared_path`` does the
same.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .graph import Graph, Waves
from .schedule import Schedule


class Meetings(NamedTuple):
    """Cells in which ranks wait for one another.

    number: the meeting of each cell, or -1; a rank has one cell of each that it comes to. before:
    how long each works in its cell before it waits there for the others; if that is 0, the cell
    begins when all have come.
    """

    number: np.ndarray
    before: np.ndarray


@dataclass(frozen=True)
class LongestPath:
    """Times per cell, rank after rank; ``cell_slices[r]`` is rank r's.

    Cells that are never reached have ``started`` = nan. producer: for each atom the atom whose
    result it needs from another stage, or -1. cell_of: the cell of each atom. arrival: when that
    result was on the atom's rank, which means nothing where there is none; None where it is
    ``latency`` after the producer's end for all.
    """

    started: np.ndarray
    ended: np.ndarray
    cell_of: np.ndarray
    cell_slices: list[tuple[int, int]]
    producer: np.ndarray
    arrival: np.ndarray | None

    @property
    def complete(self) -> bool:
        """Whether every cell was reached."""
        return not np.isnan(self.ended).any()


def longest_path(
    schedule: Schedule,
    duration: np.ndarray | None = None,
    latency: float | np.ndarray = 0.0,
    *,
    occupancy: np.ndarray | None = None,
    meetings: Meetings | None = None,
) -> LongestPath:
    """Times of every cell when each starts as early as its rank and its inputs allow.

    Args:
        schedule: What the ranks do, in which order.
        duration: Of each atom; of an overlapped pair the first atom's counts. Default: 1 each.
        latency: How long the input of an atom takes from another rank, one number or one per atom.
        occupancy: How long the message with the result of each atom keeps its link busy. Each
            direction of a pair of ranks is a link that carries one message at a time.
        meetings: Where ranks wait for one another.

    Returns:
        The times. Where ranks wait for one another for ever, they are not complete.
    """
    graph = schedule.graph
    durations = np.ones(len(schedule.kind)) if duration is None else duration
    if schedule.overlaps:
        durations = durations[graph.heads]
    delays, arrival = _delays(schedule, latency), None
    sent: np.ndarray | None
    if occupancy is None and meetings is None:
        if graph.waves is None:
            started, ended = _relax(graph, durations, delays)
        else:
            started, ended = _relax_wide(graph, graph.waves, durations, delays)
        sent = ended[graph.cell_of] if np.ndim(latency) else None
    else:
        from .shared_path import relax_shared

        started, ended, sent = relax_shared(schedule, durations, delays, occupancy, meetings)
    if sent is not None:
        arrival = sent[graph.producer] + np.where(schedule.crosses, latency, 0.0)
    return LongestPath(started, ended, graph.cell_of, graph.slices, graph.producer, arrival)


def _delays(schedule: Schedule, latency: float | np.ndarray) -> list[np.ndarray]:
    """How long each input of the cells is under way; one array over cells, or two with pairs."""
    graph = schedule.graph
    cells, latencies = len(graph.rank), np.asarray(latency, dtype=float)
    if latencies.ndim:
        per_input = [latencies[graph.heads], np.zeros(cells)]
        per_input[1][graph.cell_of[schedule.seconds]] = latencies[schedule.seconds]
    else:
        per_input = [np.full(cells, latencies)] * 2
    return [
        np.where((sources >= 0) & (graph.rank[sources] != graph.rank), delay, 0.0)
        for sources, delay in zip(graph.inputs, per_input, strict=False)
    ]


def finishes(schedule: Schedule) -> bool:
    """Whether every action gets its turn, or some ranks wait for one another for ever."""
    graph = schedule.graph
    if graph.waves is None:
        return longest_path(schedule).complete
    return len(graph.waves.cells) == len(graph.rank)


def as_array(times: list[float | None]) -> np.ndarray:
    """Times as an array, with nan for what was never reached."""
    return np.array(times, dtype=float)


def _relax(
    graph: Graph, duration: np.ndarray, delays: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Advance each rank until it waits; a finished cell wakes the ranks that wait for it.

    Takes time in proportion to the cells, in plain Python. Times are in lists, and None marks "not
    yet": about half a microsecond per cell, several times faster than numpy scalars.
    """
    (needs, delay), *more = [
        (cells.tolist(), d.tolist()) for cells, d in zip(graph.inputs, delays, strict=True)
    ]
    lasts, slices = duration.tolist(), graph.slices
    started: list[float | None] = [None] * len(lasts)
    ended: list[float | None] = [None] * len(lasts)
    waiting: dict[int, list[int]] = {}  # cell -> the ranks that wait for it
    position = [low for low, _ in slices]
    free = [0.0] * len(slices)
    ready = list(range(len(slices)))
    while ready:
        rank = ready.pop()
        cell, stop, now = position[rank], slices[rank][1], free[rank]
        while cell < stop:
            begin, blocker = now, -1
            need = needs[cell]
            if need >= 0:
                arrival = ended[need]
                if arrival is None:
                    blocker = need
                else:
                    arrival += delay[cell]
                    if arrival > begin:
                        begin = arrival
            for needs2, delay2 in more:
                need = needs2[cell]
                if need >= 0:
                    arrival = ended[need]
                    if arrival is None:
                        blocker = need
                    elif arrival + delay2[cell] > begin:
                        begin = arrival + delay2[cell]
            if blocker >= 0:
                waiting.setdefault(blocker, []).append(rank)
                break
            started[cell] = begin
            ended[cell] = now = begin + lasts[cell]
            if cell in waiting:
                ready.extend(waiting.pop(cell))
            cell += 1
        position[rank], free[rank] = cell, now
    return as_array(started), as_array(ended)


def _relax_wide(
    graph: Graph, waves: Waves, duration: np.ndarray, delays: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The same, one wave after the other: numpy over the ranks.

    Cells in no wave are never reached.
    """
    count = len(waves.cells)
    duration = duration[waves.cells]
    inputs = [np.where(places == len(graph.rank), count, places) for places in waves.inputs]
    delays = [delay[waves.cells] for delay in delays]
    begin, end = np.empty(count), np.empty(count + 1)
    end[count] = -np.inf  # "no input" has always arrived
    free = np.zeros(len(graph.slices))
    for low, high in zip(waves.bounds[:-1], waves.bounds[1:], strict=True):
        mine = waves.ranks[low:high]
        now = free[mine]
        for places, delay in zip(inputs, delays, strict=True):
            np.maximum(now, end[places[low:high]] + delay[low:high], out=now)
        begin[low:high] = now
        now += duration[low:high]
        free[mine] = end[low:high] = now
    started, ended = np.full(len(graph.rank), np.nan), np.full(len(graph.rank), np.nan)
    started[waves.cells], ended[waves.cells] = begin, end[:-1]
    return started, ended
