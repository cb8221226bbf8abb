"""The longest path where ranks share more than data: links that carry one message at a time, and
barriers.

    rank 0   0F0 ─▶ 0F1 ─▶ 0F2        link 0 → 1 carries 0F0's result while 0F1's waits its turn
               └▬▬▬▬┐└▬▬▬▬┐
    rank 1          1F0 ─▶ 1F1

A rank computes one action after the other, so the order of the messages on a link is the order of
its rank's actions: the path stays one over a fixed order.
"""

import numpy as np

from .graph import Graph
from .kinds import Kind
from .schedule import Schedule


def relax_shared(
    schedule: Schedule,
    graph: Graph,
    duration: np.ndarray,
    delays: list[np.ndarray],
    occupancy: np.ndarray | None,
    barriers: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start and end of each cell, and when the link had carried the result of each atom (arrays;
    nan: never reached).

    duration, delays: per cell, as in ``longest_path``. occupancy: per atom, or None for links
    without a limit.
    """
    atoms = len(schedule.kind)
    first = np.append(graph.heads, atoms).tolist()
    link = _links(schedule).tolist()
    busy = (np.zeros(atoms) if occupancy is None else occupancy).tolist()
    barrier = _barriers(schedule, graph).tolist() if barriers else [-1] * len(duration)
    producer, duration, delays = (
        graph.producer.tolist(),
        duration.tolist(),
        [delay.tolist() for delay in delays],
    )
    started, ended, sent = [None] * len(duration), [None] * len(duration), [None] * atoms
    link_free: dict[int, float] = {}
    waiting: dict[int, list[int]] = {}  # atom -> the ranks that wait for its result
    gate: dict[int, dict[int, float]] = {}  # barrier -> when each rank came to it
    position, free = [low for low, _ in graph.slices], [0.0] * schedule.ranks
    ready = list(range(schedule.ranks))
    while ready:
        rank = ready.pop()
        while position[rank] < graph.slices[rank][1]:
            cell, begin = position[rank], free[rank]
            inputs = [
                (producer[atom], delay[cell])
                for atom, delay in zip(range(first[cell], first[cell + 1]), delays)
            ]
            blocker = next((need for need, _ in inputs if need >= 0 and sent[need] is None), None)
            if blocker is not None:
                waiting.setdefault(blocker, []).append(rank)
                break
            begin = max([begin, *(sent[need] + delay for need, delay in inputs if need >= 0)])
            if barrier[cell] >= 0:
                came = gate.setdefault(barrier[cell], {})
                if rank not in came:
                    came[rank] = begin
                    if len(came) == schedule.ranks:
                        ready.extend(other for other in came if other != rank)
                if len(came) < schedule.ranks:
                    break
                begin = max(came.values())
            started[cell], free[rank] = begin, begin + duration[cell]
            ended[cell] = free[rank]
            for atom in range(first[cell], first[cell + 1]):
                sent[atom] = free[rank]
                if link[atom] >= 0:
                    sent[atom] = max(sent[atom], link_free.get(link[atom], 0.0)) + busy[atom]
                    link_free[link[atom]] = sent[atom]
                ready.extend(waiting.pop(atom, ()))
            position[rank] += 1
    return tuple(
        np.array([np.nan if t is None else t for t in times]) for times in (started, ended, sent)
    )


def _links(schedule: Schedule) -> np.ndarray:
    """The link that the result of each atom takes, from · ranks + to; -1 where it stays on its
    rank.
    """
    links = np.full(len(schedule.kind), -1)
    consumers = np.flatnonzero(schedule.crosses)
    sources = schedule.producer[consumers]
    links[sources] = schedule.rank[sources].astype(int) * schedule.ranks + schedule.rank[consumers]
    return links


def _barriers(schedule: Schedule, graph: Graph) -> np.ndarray:
    """The number of the optimizer step before which each cell waits for all ranks: its rank's first
    STEP of it; else -1.
    """
    barrier = np.full(len(graph.heads), -1)
    steps = np.flatnonzero(schedule.kind[graph.heads] == Kind.STEP)
    key = np.stack([graph.rank[steps], schedule.microbatch[graph.heads[steps]]])
    _, where = np.unique(key, axis=1, return_index=True)
    barrier[steps[where]] = schedule.microbatch[graph.heads[steps[where]]]
    return barrier
