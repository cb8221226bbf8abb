"""Hanayo: stages in waves over the ranks.

The pipeline turns at both ends and never jumps back.

    rank 0   0     7 8        stages of two waves on p = 4: down 0 1 2 3, up 4 5 6 7, down 8 …
    rank 3     3 4     11 12  next to each other at a turn, stages share a rank and need no transfer

The paper gives no order of actions but a rule; here each rank runs whatever can start first at F =
1, B = 2, ties going to backwards, then lower micro-batches, then deeper stages. Approximate: the
paper's closed form is met within a few percent.
"""

from ..schedule import Kind, Schedule
from .entry import Entry, Size, from_lists, wave

DURATION = {Kind.F: 1, Kind.B: 2}


def hanayo(size: Size) -> Schedule:
    """Each rank runs whatever can start first, as said above."""
    p, m = size.ranks, size.microbatches
    stages, home = p * size.stages_per_rank, wave(size)
    rows: list[list[tuple[Kind, int, int]]] = [[] for _ in range(p)]
    free = [0] * p
    # (kind, stage, micro-batch) by preference; of each rank, what has its inputs and from when on
    ready: list[dict[tuple[int, int, int], int]] = [{} for _ in range(p)]
    for i in range(m):
        ready[home[0, 0]][-Kind.F, i, 0] = 0
    left = 2 * stages * m
    while left:
        possible = []
        for rank in range(p):
            possible += [(max(free[rank], at), what, rank) for what, at in ready[rank].items()]
        start, preference, rank = min(possible)
        kind, i, stage = Kind(-preference[0]), preference[1], -preference[2]
        del ready[rank][preference]
        end = free[rank] = start + DURATION[kind]
        rows[rank].append((kind, stage, i))
        left -= 1
        if kind == Kind.F and stage < stages - 1:
            ready[home[0, stage + 1]][-Kind.F, i, -stage - 1] = end
        elif kind == Kind.F:
            ready[rank][-Kind.B, i, -stage] = end
        elif stage:
            ready[home[0, stage - 1]][-Kind.B, i, -stage + 1] = end
    return from_lists("hanayo", rows, size, wave(size))


def _even(size: Size) -> str | None:
    if size.stages_per_rank % 2:
        return (
            "hanayo needs an even number of stages per rank (2, 4, …: two per wave), not "
            f"{size.stages_per_rank}."
        )
    return None


HANAYO = Entry(
    name="hanayo",
    title="Hanayo",
    summary="Waves: stages zig-zag over the ranks; more waves, smaller bubble, one copy of the "
    "weights.",
    source="Hanayo, Liu et al. 2023 (SC), arXiv 2308.15762, section 3; order derived here",
    make=hanayo,
    stepwise=True,
    stages_per_rank=2,
    fixed=None,
    constraint=_even,
)
