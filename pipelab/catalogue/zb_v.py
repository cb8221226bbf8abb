"""ZB-V: two stages per rank in a V.

So the last stage is on the first rank, and its backward can start at once.

rank 0  0F0 …                     3F0 3I0 3W0 …    stages 0 and 3 on rank 0, 1 and 2 on rank 1
rank 1      1F0 … 2F0 …                            1F1B's memory on every rank, no wait in the span
"""

from itertools import product

from ..schedule import Kind, Schedule
from .entry import Entry, Size, from_lists, wave


class _Rank:
    """The row of one rank; of a kind and arm of the V, always the next micro-batch runs."""

    def __init__(self, size: Size, rank: int):
        self.stages, self.microbatches = (rank, 2 * size.ranks - 1 - rank), size.microbatches
        self.done = dict.fromkeys(product((Kind.F, Kind.I, Kind.W), (0, 1)), 0)
        self.row: list[tuple[Kind, int, int]] = []

    def do(self, *what: tuple[Kind, int], times: int = 1) -> None:
        """Run these kinds on these arms in turn, so many times; micro-batches beyond m not."""
        for kind, arm in what * times:
            microbatch = self.done[kind, arm]
            self.done[kind, arm] += 1
            if microbatch < self.microbatches:
                self.row.append((kind, self.stages[arm], microbatch))


def zb_v(size: Size) -> Schedule:
    """The order of torch's ScheduleZBVZeroBubble.

    It is built for at least 2p − 1 micro-batches, of which those beyond m are left out.
    """
    rows = [_row(size, rank) for rank in range(size.ranks)]
    return from_lists("zb-v", rows, size, wave(size))


def _row(size: Size, rank: int) -> list[tuple[Kind, int, int]]:
    """The actions of one rank."""
    p, n = size.ranks, max(size.microbatches, 2 * size.ranks - 1)
    one, f, i, w = _Rank(size, rank), Kind.F, Kind.I, Kind.W
    one.do((f, 0), times=2 * (p - rank) - 1)
    one.do((f, 1), (f, 0), times=rank)
    one.do((f, 1), (i, 1), (w, 1), times=p - rank)
    while one.done[f, 1] < n:
        if one.done[f, 0] < n:
            one.do((f, 0))
        one.do((i, 0), (w, 0), (f, 1), (i, 1), (w, 1))
    one.do((i, 0), (i, 1), times=rank)
    one.do((i, 0), (w, 0), times=p - rank)
    for arm in (1, 0):
        one.do((w, arm), times=n - one.done[w, arm])
    return one.row


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
