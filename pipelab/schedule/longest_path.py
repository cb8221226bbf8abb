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

from .action import Kind
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


def producers(schedule: Schedule) -> np.ndarray:
    """For each atom, the atom of the neighbouring stage whose result it needs, or -1 (int array
    over atoms).

    A forward needs the forward of the stage before; a backward (B or I) needs the backward of the
    stage after.
    """
    return _graph(schedule).producer


def _find_producers(schedule: Schedule) -> np.ndarray:
    kind, stage, stages = schedule.kind, schedule.stage.astype(np.int64), schedule.stages
    m = max(schedule.microbatches, int(schedule.microbatch.max()) + 1)
    key = (schedule.replica.astype(np.int64) * stages + stage) * m + schedule.microbatch
    forward = kind == Kind.F
    backward = (kind == Kind.B) | (kind == Kind.I)
    copies, depth = int(schedule.replica.max()) + 1, max(stages, int(stage.max()) + 1)
    where = np.full((2, copies * depth * m), -1)
    where[0, key[forward]] = np.flatnonzero(forward)
    where[1, key[backward]] = np.flatnonzero(backward)
    producer = np.full(len(kind), -1)
    later = forward & (stage > 0)
    producer[later] = where[0, key[later] - m]
    earlier = backward & (stage < stages - 1)
    producer[earlier] = where[1, key[earlier] + m]
    return producer


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
    graph = _graph(schedule)
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
        remote = schedule.rank[graph.producer] != schedule.rank
        arrival = sent[graph.producer] + np.where(remote, latency, 0.0)
    return LongestPath(started, ended, graph.cell_of, graph.slices, graph.producer, arrival)


def _delays(graph: "_Graph", schedule: Schedule, latency: float | np.ndarray) -> list[np.ndarray]:
    """For each input of the cells (one, or two with overlapped pairs): how long it is under way, an
    array over cells.
    """
    per_input = (
        [np.full(len(graph.rank), latency)] if np.ndim(latency) == 0 else [latency[graph.heads]]
    )
    if len(graph.inputs) == 2:
        second = np.full(len(graph.rank), 0.0 if np.ndim(latency) else latency)
        if np.ndim(latency):
            tails = np.flatnonzero(np.diff(graph.cell_of, prepend=-1) == 0)
            second[graph.cell_of[tails]] = latency[tails]
        per_input.append(second)
    return [
        np.where((cells >= 0) & (graph.rank[cells] != graph.rank), delay, 0.0)
        for cells, delay in zip(graph.inputs, per_input, strict=True)
    ]


def finishes(schedule: Schedule) -> bool:
    """Whether every action gets its turn, or some ranks wait for one another for ever."""
    graph = _graph(schedule)
    return (
        len(graph.waves.cells) == len(graph.rank)
        if graph.waves
        else longest_path(schedule).complete
    )


WIDE = 128
"""From so many ranks on, numpy over all ranks at once beats a loop over cells."""


@dataclass(frozen=True)
class _Waves:
    """The cells in an order in which each comes after its inputs: one wave over all ranks after the
    other.

    cells: in that order. bounds: where waves begin and end. ranks: of the cells. inputs: places in
    that order, one array per input; the place after the last stands for "no input".
    """

    cells: np.ndarray
    bounds: list[int]
    ranks: np.ndarray
    inputs: list[np.ndarray]


@dataclass(frozen=True)
class _Graph:
    """What does not depend on durations. inputs: arrays over cells, of cells or -1; heads: the
    first atom of each cell.
    """

    producer: np.ndarray
    cell_of: np.ndarray
    heads: np.ndarray
    slices: list[tuple[int, int]]
    rank: np.ndarray
    inputs: list[np.ndarray]
    waves: _Waves | None


def _graph(schedule: Schedule) -> _Graph:
    """The graph of a schedule, made once: a schedule never changes."""
    if "_graph" not in vars(schedule):
        vars(schedule)["_graph"] = _make_graph(schedule)
    return vars(schedule)["_graph"]


def _make_graph(schedule: Schedule) -> _Graph:
    rank, producer = schedule.rank, _find_producers(schedule)
    heads = cell_of = np.arange(len(rank))
    inputs = [producer]
    if schedule.overlaps:
        first = np.concatenate([[True], (np.diff(schedule.cell) != 0) | (np.diff(rank) != 0)])
        cell_of = np.cumsum(first) - 1
        heads, tails = np.flatnonzero(first), np.flatnonzero(~first)
        second = np.full(len(heads), -1)
        second[cell_of[tails]] = producer[tails]
        inputs = [np.where(atom < 0, -1, cell_of[atom]) for atom in (producer[heads], second)]
    cell_rank = rank[heads]
    bounds = np.searchsorted(cell_rank, np.arange(schedule.ranks + 1)).tolist()
    slices = list(zip(bounds[:-1], bounds[1:], strict=True))
    waves = _find_waves(slices, inputs) if schedule.ranks > WIDE else None
    return _Graph(producer, cell_of, heads, slices, cell_rank, inputs, waves)


def _find_waves(slices: list[tuple[int, int]], inputs: list[np.ndarray]) -> _Waves:
    position, stop = (np.array(column) for column in zip(*slices, strict=True))
    total = int(stop[-1])
    place = np.full(
        total + 1, -1
    )  # of each cell in the order; the last one is where "no input", -1, points to
    place[-1] = total
    cells, ranks, needs, bounds = [], [], [[] for _ in inputs], [0]
    active = np.flatnonzero(position < stop)
    while len(active):
        heads = position[active]
        at = [place[column[heads]] for column in inputs]
        runs = at[0] >= 0 if len(at) == 1 else (at[0] >= 0) & (at[1] >= 0)
        run, mine = heads[runs], active[runs]
        if not len(run):
            break
        cells.append(run)
        ranks.append(mine)
        for column, wanted in zip(needs, at, strict=True):
            column.append(wanted[runs])
        place[run] = np.arange(bounds[-1], bounds[-1] + len(run))
        bounds.append(bounds[-1] + len(run))
        position[mine] += 1
        if (position[mine] == stop[mine]).any():
            active = active[position[active] < stop[active]]
    joined = [np.concatenate([np.zeros(0, int), *column]) for column in (cells, ranks, *needs)]
    return _Waves(joined[0], bounds, joined[1], joined[2:])


def _relax(
    graph: _Graph, duration: np.ndarray, delays: list[np.ndarray]
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
    graph: _Graph, duration: np.ndarray, delays: list[np.ndarray]
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
