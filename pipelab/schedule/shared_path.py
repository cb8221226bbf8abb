"""The longest path where ranks share more than data: links of one message at a time, and barriers.

    rank 0   0F0 ─▶ 0F1 ─▶ 0F2        link 0 → 1 carries 0F0's result while 0F1's waits its turn
               └▬▬▬▬┐└▬▬▬▬┐
    rank 1          1F0 ─▶ 1F1

A rank computes one action after the other, so the order of the messages on a link is the order of
its rank's actions: the path stays one over a fixed order.
"""

import numpy as np

from .kinds import Kind
from .longest_path import as_array
from .schedule import Schedule


def relax_shared(
    schedule: Schedule,
    duration: np.ndarray,
    delays: list[np.ndarray],
    occupancy: np.ndarray | None,
    *,
    barriers: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start and end of each cell, and when the link had carried the result of each atom.

    Args:
        schedule: What the ranks do, in which order.
        duration: Of each cell.
        delays: How long each input of the cells is under way, an array over cells for each.
        occupancy: How long the result of each atom occupies its link; None without a limit.
        barriers: Whether each optimizer step waits until all ranks have come to it.

    Returns:
        Three arrays, with nan for what is never reached.
    """
    return _Shared(schedule, duration, delays, occupancy, barriers=barriers).run()


class _Shared:
    """Advances each rank until it waits, as ``longest_path`` does."""

    def __init__(
        self,
        schedule: Schedule,
        duration: np.ndarray,
        delays: list[np.ndarray],
        occupancy: np.ndarray | None,
        *,
        barriers: bool,
    ):
        atoms, cells = len(schedule.kind), len(duration)
        self.graph, self.ranks = schedule.graph, schedule.ranks
        self.first = np.append(self.graph.heads, atoms).tolist()  # atom of each cell
        self.link = _links(schedule).tolist()
        self.busy = (np.zeros(atoms) if occupancy is None else occupancy).tolist()
        self.barrier = _barriers(schedule).tolist() if barriers else [-1] * cells
        self.producer, self.duration = schedule.producer.tolist(), duration.tolist()
        self.delays = [delay.tolist() for delay in delays]
        self.started: list[float | None] = [None] * cells
        self.ended: list[float | None] = [None] * cells
        self.sent: list[float | None] = [None] * atoms
        self.link_free: dict[int, float] = {}
        self.waiting: dict[int, list[int]] = {}  # atom -> the ranks that wait for its result
        self.gate: dict[int, dict[int, float]] = {}  # barrier -> when each rank came to it
        self.free = [0.0] * self.ranks
        self.ready = list(range(self.ranks))

    def run(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All times; nan for what is never reached."""
        position = [low for low, _ in self.graph.slices]
        while self.ready:
            rank = self.ready.pop()
            while position[rank] < self.graph.slices[rank][1]:
                cell = position[rank]
                begin = self.inputs(rank, cell)
                if begin is not None and self.barrier[cell] >= 0:
                    begin = self.pass_gate(self.barrier[cell], rank, begin)
                if begin is None:
                    break
                self.finish(rank, cell, begin)
                position[rank] += 1
        return as_array(self.started), as_array(self.ended), as_array(self.sent)

    def inputs(self, rank: int, cell: int) -> float | None:
        """When the rank is free and the cell's inputs are there, or None: then the rank waits."""
        begin, atoms = self.free[rank], range(self.first[cell], self.first[cell + 1])
        for atom, delay in zip(atoms, self.delays, strict=False):
            need = self.producer[atom]
            if need < 0:
                continue
            sent = self.sent[need]
            if sent is None:
                self.waiting.setdefault(need, []).append(rank)
                return None
            begin = max(begin, sent + delay[cell])
        return begin

    def pass_gate(self, barrier: int, rank: int, begin: float) -> float | None:
        """When the last rank came to the barrier, or None: the last one wakes the others."""
        came = self.gate.setdefault(barrier, {})
        if rank not in came:
            came[rank] = begin
            if len(came) == self.ranks:
                self.ready.extend(other for other in came if other != rank)
        return max(came.values()) if len(came) == self.ranks else None

    def finish(self, rank: int, cell: int, begin: float) -> None:
        """Run the cell, and sends its results on."""
        end = begin + self.duration[cell]
        self.started[cell], self.ended[cell], self.free[rank] = begin, end, end
        for atom in range(self.first[cell], self.first[cell + 1]):
            sent, link = end, self.link[atom]
            if link >= 0:
                sent = max(end, self.link_free.get(link, 0.0)) + self.busy[atom]
                self.link_free[link] = sent
            self.sent[atom] = sent
            self.ready.extend(self.waiting.pop(atom, ()))


def _links(schedule: Schedule) -> np.ndarray:
    """The link that the result of each atom takes, from · ranks + to; -1 where it stays."""
    links = np.full(len(schedule.kind), -1)
    consumers = np.flatnonzero(schedule.crosses)
    sources = schedule.producer[consumers]
    links[sources] = schedule.rank[sources].astype(int) * schedule.ranks + schedule.rank[consumers]
    return links


def _barriers(schedule: Schedule) -> np.ndarray:
    """The optimizer step before which each cell waits for all ranks, or -1.

    That is its rank's first STEP of that number.
    """
    graph = schedule.graph
    barrier = np.full(len(graph.heads), -1)
    steps = np.flatnonzero(schedule.kind[graph.heads] == Kind.STEP)
    number = schedule.microbatch[graph.heads[steps]]
    _, where = np.unique(np.stack([graph.rank[steps], number]), axis=1, return_index=True)
    barrier[steps[where]] = number[where]
    return barrier
