"""DualPipe: micro-batches enter from both ends of the pipeline.

A forward runs together with a backward of the other direction. DualPipe keeps two copies of the
model; DualPipeV folds the same order into a V, so that each weight exists once. Per rank, with the
direction (DualPipe) or arm of the V (DualPipeV) written behind each letter, h ranks from the nearer
end and H ranks in the half (the V: H = p, h = s; else H = p/2, h = min(s, p − 1 − s)):

    1  F0 × 2(H−h−1)               5  B1 (F1&B0) × (H−h−1)
    2  F0 F1 × (h+1)               6  B1 B0 × (h+1), its second half with W put off
    3  I1 W F1 × (H−h−1)           7  W I0 × (H−h−1)
    4  (F0&B1)(F1&B0) × the rest   8  W × (h+1)
"""

from collections import deque
from collections.abc import Callable
from itertools import product

from ..schedule import Action, Kind, Overlap, Schedule
from .entry import Entry, Size

Act = Callable[[Kind, int, int], Action]
"""(kind, direction, count) -> the action on the count-th micro-batch of that direction."""


class RankOrder:
    """The actions of one rank, step by step as above."""

    def __init__(self, act: Act):
        self.act = act
        self.done = dict.fromkeys(product((True, False), (0, 1)), 0)
        self.row: list[Action | Overlap] = []
        self.put_off: deque[Action] = deque()

    def take(self, direction: int, *, forward: bool) -> int:
        """The next micro-batch of a direction, counted from 0."""
        self.done[forward, direction] += 1
        return self.done[forward, direction] - 1

    def forward(self, direction: int) -> None:
        """Add an F."""
        self.row.append(self.act(Kind.F, direction, self.take(direction, forward=True)))

    def backward(self, direction: int, *, split: bool = False) -> None:
        """Add a B, or an I whose W is put off."""
        i = self.take(direction, forward=False)
        self.row.append(self.act(Kind.I if split else Kind.B, direction, i))
        if split:
            self.put_off.append(self.act(Kind.W, direction, i))

    def both(self, direction: int) -> None:
        """Add a forward in one direction with a backward in the other."""
        other = 1 - direction
        first = self.act(Kind.F, direction, self.take(direction, forward=True))
        self.row.append(Overlap(first, self.act(Kind.B, other, self.take(other, forward=False))))

    def weights(self) -> None:
        """Add the W that was put off first."""
        self.row.append(self.put_off.popleft())


def rank_order(
    half: int, h: int, pairs: int, act: Act, *, join_first: bool
) -> list[Action | Overlap]:
    """The actions of one rank.

    Args:
        half: The ranks in the half, H.
        h: The ranks from the nearer end.
        pairs: How often step 4 is repeated.
        act: Makes an action on a micro-batch of a direction.
        join_first: Whether the first F0 and B1 of step 4 overlap.
    """
    order = RankOrder(act)
    for _ in range(2 * (half - h - 1)):
        order.forward(0)
    for _ in range(h + 1):
        order.forward(0)
        order.forward(1)
    for _ in range(half - h - 1):
        order.backward(1, split=True)
        order.weights()
        order.forward(1)
    for i in range(pairs):
        if i or join_first:
            order.both(0)
        else:
            order.forward(0)
            order.backward(1)
        order.both(1)
    for _ in range(half - h - 1):
        order.backward(1)
        order.both(1)
    split_from = (h + 1) // 2
    for i in range(h + 1):
        order.backward(1, split=i > split_from or (i == split_from and h % 2 == 1))
        order.backward(0, split=i >= split_from)
    for _ in range(half - h - 1):
        order.weights()
        order.backward(0, split=True)
    return [*order.row, *order.put_off]


def dualpipe(size: Size) -> Schedule:
    """DualPipe: two copies of the model, in opposite directions."""
    return Schedule.from_rows([_row(size, rank) for rank in range(size.ranks)], name="dualpipe")


def _row(size: Size, rank: int) -> list[Action | Overlap]:
    """DualPipe's actions of one rank."""
    p, m = size.ranks, size.microbatches
    swap = rank >= p // 2  # seen from its own end, every rank does the same

    def act(kind: Kind, direction: int, count: int) -> Action:
        replica = direction ^ swap
        stage = p - 1 - rank if replica else rank
        return Action(kind, stage, replica * (m // 2) + count, replica)

    h = min(rank, p - 1 - rank)
    return rank_order(p // 2, h, m // 2 - p + h + 1, act, join_first=h != p // 2 - 1)


def dualpipe_v(size: Size) -> Schedule:
    """DualPipeV: one copy of the model, in a V."""
    return Schedule.from_rows(
        [_row_of_v(size, rank) for rank in range(size.ranks)], name="dualpipe-v"
    )


def _row_of_v(size: Size, rank: int) -> list[Action | Overlap]:
    """DualPipeV's actions of one rank."""
    p, m = size.ranks, size.microbatches

    def act(kind: Kind, arm: int, count: int) -> Action:
        return Action(kind, 2 * p - 1 - rank if arm else rank, count)

    return rank_order(p, rank, m - 2 * p + rank + 1, act, join_first=rank != p - 1)


def _needs_of_dualpipe(size: Size) -> str | None:
    p, m = size.ranks, size.microbatches
    if p % 2:
        return (
            f"dualpipe needs an even number of ranks, not {p}: each rank has a partner at the "
            "other end."
        )
    if m % 2 or m < 2 * p:
        return (
            f"dualpipe needs an even number of micro-batches, at least 2 × ranks = {2 * p}, not "
            f"{m}: half of them enter at each end."
        )
    return None


def _needs_of_dualpipe_v(size: Size) -> str | None:
    if size.microbatches < 2 * size.ranks:
        return (
            f"dualpipe-v needs at least 2 × ranks = {2 * size.ranks} micro-batches, not "
            f"{size.microbatches}: fewer do not fill both arms of the V."
        )
    return None


DUALPIPE = Entry(
    name="dualpipe",
    title="DualPipe",
    summary="From both ends at once, forwards hidden behind backwards; two copies of the weights.",
    source="DeepSeek-V3, 2024, arXiv 2412.19437, section 3.2.1; order as in its published code",
    make=dualpipe,
    stages_per_rank=2,
    fixed="holds one stage of each direction per rank, which is two by construction",
    constraint=_needs_of_dualpipe,
)
DUALPIPE_V = Entry(
    name="dualpipe-v",
    title="DualPipeV",
    summary="DualPipe folded into a V: each weight exists once.",
    source="DualPipe's cut-in-half variant, Qi et al. 2025; order as torch's ScheduleDualPipeV",
    make=dualpipe_v,
    stages_per_rank=2,
    fixed="has two stages per rank, one on each arm of the V",
    constraint=_needs_of_dualpipe_v,
)
