"""When each action starts and ends, given how long it lasts: the longest path over a fixed order.

    rank 0   0F0 ─▶ 0F1 ─▶ 0B0 ─▶ 0B1        ─▶  the rank's own order
              │      │      ▲      ▲          │  what a stage needs from its neighbour,
    rank 1   1F0 ─▶ 1B0 ─▶ 1F1 ─▶ 1B1           ``latency`` later when that is another rank

``check`` asks it whether a schedule can finish; the simulator asks it for the times. Where ranks
share more than data (links that carry one message at a time, barriers), ``shared_path`` does the
same.
"""

from dataclasses import dataclass

import numpy as np

from .graph import Graph
from .schedule import Schedule


@dataclass(frozen=True)
class LongestPath:
    """Times per cell, rank after rank (``cell_slices[r]`` is rank r's). Cells never reached have
    ``started`` = nan.

    producer: for each atom the atom whose result it needs from another stage, or -1. cell_of: the
    cell of each atom. arrival: when that result was on the atom's rank, of no meaning where there
    is none; None where it is ``latency`` after the producer's end for all.
    """

    started: np.ndarray
    ended: np.ndarray
    cell_of: np.ndarray
    cell_slices: list[tuple[int, int]]
    producer: np.ndarray
    arrival: np.ndarray | None

    @property
    def complete(self) -> bool:
        return not np.isnan(self.ended).any()


def longest_path(
    schedule: Schedule,
    duration: np.ndarray | None = None,
    latency: float | np.ndarray = 0.0,
    *,
    occupancy: np.ndarray | None = None,
    barriers: bool = False,
) -> LongestPath:
    """Times of every cell when each starts as early as its rank and its inputs allow.

    duration: per atom; of an overlapped pair the first atom's counts. Default: 1 each. latency: how
    long the input of an atom takes from another rank, one number or one per atom. occupancy: per
    atom, how long the message with its result keeps the link to the other rank busy; links carry
    one message at a time, each direction of a pair of ranks its own. barriers: whether each
    optimizer step waits until all ranks have come to it.
    """
    graph = schedule.graph
    durations = np.ones(len(schedule.kind)) if duration is None else duration
    if schedule.overlaps:
        durations = durations[graph.heads]
    delays, arrival = _delays(graph, schedule, latency), None
    if occupancy is None and not barriers:
        started, ended = (_relax_wide if graph.waves else _relax)(graph, durations, delays)
        sent = ended[graph.cell_of] if np.ndim(latency) else None
    else:
        from .shared_path import relax_shared

        started, ended, sent = relax_shared(schedule, graph, durations, delays, occupancy, barriers)
    if sent is not None:
        arrival = sent[graph.producer] + np.where(schedule.crosses, latency, 0.0)
    return LongestPath(started, ended, graph.cell_of, graph.slices, graph.producer, arrival)


def _delays(graph: Graph, schedule: Schedule, latency: float | np.ndarray) -> list[np.ndarray]:
    """For each input of the cells (one, or two with overlapped pairs): how long it is under way, an
    array over cells.
    """
    per_input = (
        [np.full(len(graph.rank), latency)] if np.ndim(latency) == 0 else [latency[graph.heads]]
    )
    if len(graph.inputs) == 2:
        second = np.full(len(graph.rank), 0.0 if np.ndim(latency) else latency)
        if np.ndim(latency):
            second[graph.cell_of[schedule.seconds]] = latency[schedule.seconds]
        per_input.append(second)
    return [
        np.where((cells >= 0) & (graph.rank[cells] != graph.rank), delay, 0.0)
        for cells, delay in zip(graph.inputs, per_input, strict=True)
    ]


def finishes(schedule: Schedule) -> bool:
    """Whether every action gets its turn, or some ranks wait for one another for ever."""
    graph = schedule.graph
    return (
        len(graph.waves.cells) == len(graph.rank)
        if graph.waves
        else longest_path(schedule).complete
    )


def _relax(
    graph: Graph, duration: np.ndarray, delays: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Advances each rank until it waits; a finished cell wakes the ranks that wait for it.
    O(cells), plain Python.

    Times are in lists, and None marks "not yet": about half a microsecond per cell, several times
    faster than numpy scalars.
    """
    (needs, delay), *more = [
        (cells.tolist(), d.tolist()) for cells, d in zip(graph.inputs, delays, strict=True)
    ]
    duration, slices = duration.tolist(), graph.slices
    started, ended = [None] * len(duration), [None] * len(duration)
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
            ended[cell] = now = begin + duration[cell]
            if cell in waiting:
                ready.extend(waiting.pop(cell))
            cell += 1
        position[rank], free[rank] = cell, now
    return tuple(
        np.array([np.nan if t is None else t for t in times]) for times in (started, ended)
    )


def _relax_wide(
    graph: Graph, duration: np.ndarray, delays: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The same, one wave after the other: numpy over the ranks.

    Cells in no wave are never reached.
    """
    waves, count = graph.waves, len(graph.waves.cells)
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
