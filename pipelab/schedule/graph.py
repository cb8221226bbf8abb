"""What holds of a schedule whatever its actions cost: who needs whom, and what follows from it.

In: a Schedule. Out: the arrays behind ``Schedule.heads``, ``Schedule.producer`` and
``Schedule.graph``, each made once: a schedule never changes.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .kinds import sending

if TYPE_CHECKING:
    from .schedule import Schedule

WIDE = 128
"""From so many ranks on, numpy over all ranks at once beats a loop over cells."""


@dataclass(frozen=True)
class Waves:
    """The cells, each after its inputs: one wave over all ranks after the other.

    cells: in that order. bounds: where waves begin and end. ranks: of the cells. inputs: places in
    that order, one array per input; the place after the last stands for "no input".
    """

    cells: np.ndarray
    bounds: list[int]
    ranks: np.ndarray
    inputs: list[np.ndarray]


@dataclass(frozen=True)
class Graph:
    """Which cells wait for which.

    producer: for each atom the atom whose result it needs, or -1. cell_of: the cell of each atom.
    heads: the first atom of each cell. slices: the cells of each rank. rank: of each cell. inputs:
    arrays over cells, of cells or -1. waves: where there are many ranks.
    """

    producer: np.ndarray
    cell_of: np.ndarray
    heads: np.ndarray
    slices: list[tuple[int, int]]
    rank: np.ndarray
    inputs: list[np.ndarray]
    waves: Waves | None


def find_heads(schedule: "Schedule") -> np.ndarray:
    """Whether each atom begins a cell: all do but the second of an overlapped pair."""
    same = (np.diff(schedule.cell) == 0) & (np.diff(schedule.rank) == 0)
    return np.append(True, ~same)


def find_producers(schedule: "Schedule") -> np.ndarray:
    """For each atom, the atom of the neighbouring stage whose result it needs, or -1.

    A forward needs the forward of the stage before; a backward (B or I) needs the backward of the
    stage after.
    """
    stage, stages = schedule.stage, schedule.stages
    m = max(schedule.microbatches, int(schedule.microbatch.max()) + 1)
    key = schedule.part * m + schedule.microbatch
    copies, depth = int(schedule.replica.max()) + 1, max(stages, int(stage.max()) + 1)
    producer = np.full(len(key), -1)
    for direction, step, has_source in (
        ("down", -m, stage > 0),
        ("up", m, stage < stages - 1),
    ):
        first, *more = sending(direction)
        sends = schedule.kind == first
        for kind in more:
            sends |= schedule.kind == kind
        where = np.full(copies * depth * m, -1)
        where[key[sends]] = np.flatnonzero(sends)
        needs = sends & has_source
        producer[needs] = where[key[needs] + step]
    return producer


def make_graph(schedule: "Schedule") -> Graph:
    """The graph of a schedule."""
    rank, producer = schedule.rank, schedule.producer
    heads = cell_of = np.arange(len(rank))
    inputs = [producer]
    if schedule.overlaps:
        first, tails = schedule.heads, schedule.seconds
        cell_of, heads = np.cumsum(first) - 1, np.flatnonzero(first)
        second = np.full(len(heads), -1)
        second[cell_of[tails]] = producer[tails]
        inputs = [np.where(atom < 0, -1, cell_of[atom]) for atom in (producer[heads], second)]
    cell_rank = rank[heads]
    bounds = np.searchsorted(cell_rank, np.arange(schedule.ranks + 1)).tolist()
    slices = list(zip(bounds[:-1], bounds[1:], strict=True))
    waves = find_waves(slices, inputs) if schedule.ranks > WIDE else None
    return Graph(producer, cell_of, heads, slices, cell_rank, inputs, waves)


def find_waves(slices: list[tuple[int, int]], inputs: list[np.ndarray]) -> Waves:
    """The waves of cells that lie in ``slices``, one per rank, and need the cells ``inputs``."""
    position, stop = (np.array(column) for column in zip(*slices, strict=True))
    total = int(stop[-1])
    # The place of each cell in the order; the last one is where "no input", -1, points to.
    place = np.full(total + 1, -1)
    place[-1] = total
    cells: list[np.ndarray] = []
    ranks: list[np.ndarray] = []
    needs: list[list[np.ndarray]] = [[] for _ in inputs]
    bounds = [0]
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
    return Waves(joined[0], bounds, joined[1], joined[2:])
