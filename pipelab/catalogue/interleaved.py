"""Interleaving: several stages per rank, looped.

The pipeline fills and drains in smaller steps.

    rank 0  0F0 0F1 2F0 2F1     2B0 2B1 0B0 0B1
    rank 1      1F0 1F1 3F0 3B0 3F1 3B1 1B0 1B1          (p = 2, v = 2, m = 2; drawn with B = F)

Micro-batches advance in groups of g: a group passes through all stages of a rank before the next
group begins.
"""

from collections.abc import Callable

import numpy as np

from ..schedule import Kind, Schedule, check
from .entry import Entry, Size, alternate, from_lists, loop


def table(size: Size, group: int) -> tuple[np.ndarray, np.ndarray]:
    """Chunk and micro-batch of each forward in order, both of shape (m·v,).

    A backward takes chunk v − 1 − chunk.
    """
    m, order = size.microbatches, []
    for first in range(0, m, group):
        ids = range(first, min(first + group, m))
        for chunk in range(size.stages_per_rank):
            order += [(chunk, i) for i in ids]
    chunks, microbatches = np.array(order).T
    return chunks, microbatches


def warm_up(rank: int, size: Size, group: int, per_rank: int) -> int:
    """Forwards before the first backward.

    Those are ``per_rank`` for each rank behind this one, and a group for each further chunk.
    """
    total = size.microbatches * size.stages_per_rank
    return min(total, per_rank * (size.ranks - rank - 1) + (size.stages_per_rank - 1) * group)


def grouped(make: Callable[[Size, int], Schedule]) -> Callable[[Size], Schedule]:
    """Choose the group.

    That is torch's m // max(1, m // p) where it divides m; else p, or the next larger with which
    the short last group (Megatron-LM's) does not deadlock.
    """

    def made(size: Size) -> Schedule:
        rounds = max(1, size.microbatches // size.ranks)
        if size.microbatches % rounds == 0:
            return make(size, size.microbatches // rounds)
        candidates = (make(size, group) for group in range(size.ranks, size.microbatches + 1))
        return next(schedule for schedule in candidates if check(schedule) is None)

    return made


def interleaved_1f1b(size: Size, group: int) -> Schedule:
    """1F1B over all stages of a rank, in groups of micro-batches."""
    chunk, microbatch = table(size, group)
    forward = chunk * size.ranks
    backward = (size.stages_per_rank - 1 - chunk) * size.ranks
    rows = []
    for rank in range(size.ranks):
        w = warm_up(rank, size, group, 2)
        steady = len(chunk) - w
        kinds = np.concatenate(
            [np.full(w, Kind.F), np.tile([Kind.F, Kind.B], steady), np.full(w, Kind.B)]
        )
        stages = _in_turn(forward, backward, w) + rank
        rows.append((kinds, stages, _in_turn(microbatch, microbatch, w)))
    return Schedule.from_columns(
        "interleaved-1f1b", rows, placement=loop(size), microbatches=size.microbatches
    )


def _in_turn(of_forward: np.ndarray, of_backward: np.ndarray, w: int) -> np.ndarray:
    """A column of w forwards, then one forward and one backward in turn, then the rest."""
    steady = len(of_forward) - w
    pairs = alternate(of_forward[w:], of_backward[:steady])
    return np.concatenate([of_forward[:w], pairs, of_backward[steady:]])


def looped_bfs(size: Size) -> Schedule:
    """All micro-batches through one stage of the rank, then all through the next.

    Backwards go in the reverse order.
    """
    m, v = size.microbatches, size.stages_per_rank
    ids, chunks = np.arange(m), np.repeat(np.arange(v), m)
    kinds = np.repeat([Kind.F, Kind.B], m * v)
    stages = np.concatenate([chunks, chunks[::-1]]) * size.ranks
    microbatches = np.concatenate([np.tile(ids, v), np.tile(ids[::-1], v)])
    rows = [(kinds, stages + rank, microbatches) for rank in range(size.ranks)]
    return Schedule.from_columns("looped-bfs", rows, placement=loop(size), microbatches=m)


def interleaved_zb(size: Size, group: int) -> Schedule:
    """Rounds of F, I, and W as soon as more than ``rank`` input gradients have run.

    W goes in the order of I.
    """
    pairs = [(int(chunk), int(i)) for chunk, i in zip(*table(size, group), strict=True)]
    p, v, rows = size.ranks, size.stages_per_rank, []
    for rank in range(p):
        w = warm_up(rank, size, group, 1)
        forwards = [(Kind.F, chunk * p + rank, i) for chunk, i in pairs]
        backwards = [((v - 1 - chunk) * p + rank, i) for chunk, i in pairs]
        row = forwards[:w]
        for k, backward in enumerate(backwards):
            row += forwards[w + k : w + k + 1]
            row.append((Kind.I, *backward))
            if k >= rank:
                row.append((Kind.W, *backwards[k - rank]))
        row += [(Kind.W, *backward) for backward in backwards[max(0, len(backwards) - rank) :]]
        rows.append(row)
    return from_lists("interleaved-zb", rows, size, loop(size))


INTERLEAVED_1F1B = Entry(
    name="interleaved-1f1b",
    title="Interleaved 1F1B",
    summary="Several stages per rank: their number divides the bubble and multiplies the traffic.",
    source="Megatron-LM, Narayanan et al. 2021, arXiv 2104.04473, section 2.2.2; "
    "any m as torch and Megatron-LM order it",
    make=grouped(interleaved_1f1b),
    stages_per_rank=2,
    fixed=None,
)
LOOPED_BFS = Entry(
    name="looped-bfs",
    title="Looped BFS",
    summary="Breadth first: all micro-batches through one stage, then the next. "
    "Hides latency, keeps everything in memory.",
    source="Breadth-first pipeline parallelism, Lamy-Poirier 2023, arXiv 2211.05953; order as "
    "torch's ScheduleLoopedBFS",
    make=looped_bfs,
    stages_per_rank=2,
    fixed=None,
)
INTERLEAVED_ZB = Entry(
    name="interleaved-zb",
    title="Interleaved zero bubble",
    summary="Interleaving with the backward split: weight gradients fill the waits.",
    source="torch's ScheduleInterleavedZeroBubble, after zero bubble, Qi et al. 2024, arXiv "
    "2401.10241",
    make=grouped(interleaved_zb),
    stages_per_rank=2,
    fixed=None,
)
