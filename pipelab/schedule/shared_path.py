"""The longest path where ranks share more than data: links of one message at a time, and meetings.

    rank 0   0F0 ─▶ 0F1 ─▶ 0F2        link 0 → 1 carries 0F0's result while 0F1's waits its turn
               └▬▬▬▬┐└▬▬▬▬┐
    rank 1          1F0 ─▶ 1F1

A rank computes one action after the other, so the order of the messages on a link is the order of
its rank's actions: the path stays one over a fixed order.
"""

import numpy as np

from .longest_path import Meetings, as_array
from .schedule import Schedule


def relax_shared(
    schedule: Schedule,
    duration: np.ndarray,
    delays: list[np.ndarray],
    occupancy: np.ndarray | None,
    meetings: Meetings | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start and end of each cell, and when the link had carried the result of each atom.

    Args:
        schedule: What the ranks do, in which order.
        duration: Of each cell.
        delays: How long each input of the cells is under way, an array over cells for each.
        occupancy: How long the result of each atom occupies its link; None without a limit.
        meetings: Where ranks wait for one another; None: nowhere.

    Returns:
        Three arrays, with nan for what is never reached.
    """
    return _Shared(schedule, duration, delays, occupancy, meetings).run()


class _Shared:
    """Advances each rank until it waits, as ``longest_path`` does."""

    def __init__(
        self,
        schedule: Schedule,
        duration: np.ndarray,
        delays: list[np.ndarray],
        occupancy: np.ndarray | None,
        meetings: Meetings | None,
    ):
        atoms, cells = len(schedule.kind), len(duration)
        self.graph, self.ranks = schedule.graph, schedule.ranks
        self.first = np.append(self.graph.heads, atoms).tolist()  # atom of each cell
        self.link = _links(schedule).tolist()
        self.busy = (np.zeros(atoms) if occupancy is None else occupancy).tolist()
        if meetings is None:
            meetings = Meetings(np.full(cells, -1), np.zeros(cells))
        self.meeting, self.before = meetings.number.tolist(), meetings.before.tolist()
        self.size = np.bincount(meetings.number + 1).tolist()[1:]
        self.producer, self.duration = schedule.producer.tolist(), duration.tolist()
        self.delays = [delay.tolist() for delay in delays]
        self.started: list[float | None] = [None] * cells
        self.ended: list[float | None] = [None] * cells
        self.sent: list[float | None] = [None] * atoms
        self.link_free: dict[int, float] = {}
        self.waiting: dict[int, list[int]] = {}  # atom -> the ranks that wait for its result
        self.came: dict[int, dict[int, float]] = {}  # meeting -> when each rank came to it
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
                if begin is None:
                    break
                end = begin + self.duration[cell]
                if self.meeting[cell] >= 0:
                    before = self.before[cell]
                    met = self.meet(self.meeting[cell], rank, begin + before)
                    if met is None:
                        break
                    begin, end = begin if before else met, met + (self.duration[cell] - before)
                self.finish(rank, cell, begin, end)
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

    def meet(self, meeting: int, rank: int, now: float) -> float | None:
        """When the last rank came to the meeting, or None: the last one wakes the others."""
        came = self.came.setdefault(meeting, {})
        if rank not in came:
            came[rank] = now
            if len(came) == self.size[meeting]:
                self.ready.extend(other for other in came if other != rank)
        return max(came.values()) if len(came) == self.size[meeting] else None

    def finish(self, rank: int, cell: int, begin: float, end: float) -> None:
        """Run the cell, and send its results on."""
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
