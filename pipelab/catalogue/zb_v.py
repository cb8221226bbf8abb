"""ZB-V: two stages per rank in a V, so that the last stage is on the first rank and its backward
can start at once.

rank 0  0F0 …                     3F0 3I0 3W0 …    stages 0 and 3 on rank 0, 1 and 2 on rank 1
rank 1      1F0 … 2F0 …                            1F1B's memory on every rank, no wait in the span
"""

from ..schedule import Kind, Schedule
from .entry import Entry, Size, from_lists, wave


def zb_v(size: Size) -> Schedule:
    """torch's ScheduleZBVZeroBubble: built for at least 2p − 1 micro-batches, of which those beyond
    m are left out.
    """
    p, m = size.ranks, size.microbatches
    n = max(m, 2 * p - 1)
    rows = []
    for rank in range(p):
        stage = (rank, 2 * p - 1 - rank)
        done = {(kind, chunk): 0 for kind in (Kind.F, Kind.I, Kind.W) for chunk in (0, 1)}
        row = []

        def do(kind: Kind, chunk: int, stage=stage, done=done, row=row) -> None:
            microbatch, done[kind, chunk] = done[kind, chunk], done[kind, chunk] + 1
            if microbatch < m:
                row.append((kind, stage[chunk], microbatch))

        for _ in range(2 * (p - rank) - 1):
            do(Kind.F, 0)
        for _ in range(rank):
            do(Kind.F, 1)
            do(Kind.F, 0)
        for _ in range(p - rank):
            do(Kind.F, 1)
            do(Kind.I, 1)
            do(Kind.W, 1)
        while done[Kind.F, 1] < n:
            if done[Kind.F, 0] < n:
                do(Kind.F, 0)
            do(Kind.I, 0)
            do(Kind.W, 0)
            do(Kind.F, 1)
            do(Kind.I, 1)
            do(Kind.W, 1)
        for _ in range(rank):
            do(Kind.I, 0)
            do(Kind.I, 1)
        for _ in range(p - rank):
            do(Kind.I, 0)
            do(Kind.W, 0)
        for chunk in (1, 0):
            while done[Kind.W, chunk] < n:
                do(Kind.W, chunk)
        rows.append(row)
    return from_lists("zb-v", rows, size, wave(size))


ZB_V = Entry(
    name="zb-v",
    title="ZB-V",
    summary="Two stages per rank in a V: zero bubble within 1F1B's memory when F = I = W.",
    source="Zero bubble, Qi et al. 2024, arXiv 2401.10241, section 6; order as torch's "
    "ScheduleZBVZeroBubble",
    make=zb_v,
    stages_per_rank=2,
    fixed="has two stages per rank, one on each arm of the V",
)
