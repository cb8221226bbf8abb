"""Chimera: two 1F1B pipelines in opposite directions over the same ranks.

One fills the other's bubble.

rank 0  F0 F1 ▪▪ F2 B2 F3 B3 …       micro-batches 0, 1 go down, 2, 3 go up (p = 4, m = 4)
rank 3  F2 F3 ▪▪ F0 B0 F1 B1 …       every rank holds a stage of both: two copies of the weights
"""

from itertools import product

from ..schedule import Action, Kind, Schedule
from .entry import Entry, Size


def chimera(size: Size) -> Schedule:
    """Units of p micro-batches, half in each direction, joined directly.

    The last B's of one unit alternate with the first F's of the next.
    """
    rows = [_row(size, rank) for rank in range(size.ranks)]
    return Schedule.from_rows(rows, name="chimera")


def _row(size: Size, rank: int) -> list[Action]:
    """The actions of one rank."""
    p, n, units = size.ranks, size.ranks // 2, size.microbatches // size.ranks
    near = int(rank >= n)  # the direction whose first stage is nearer
    far, s = 1 - near, min(rank, p - 1 - rank)
    row: list[Action] = []
    done = dict.fromkeys(product((Kind.F, Kind.B), (0, 1)), 0)

    def do(kind: Kind, replica: int) -> None:
        unit, i = divmod(done[kind, replica], n)
        stage = p - 1 - rank if replica else rank
        row.append(Action(kind, stage, unit * p + replica * n + i, replica))
        done[kind, replica] += 1

    for unit in range(units):
        if unit == 0:
            for _ in range(n - s):
                do(Kind.F, near)
        for _ in range(s):
            do(Kind.F, far)
            do(Kind.F, near)
        for _ in range(n - s):
            do(Kind.F, far)
            do(Kind.B, far)
        for _ in range(s):
            do(Kind.B, near)
            do(Kind.B, far)
        for _ in range(n - s):
            do(Kind.B, near)
            if unit + 1 < units:
                do(Kind.F, near)
    return row


def _needs(size: Size) -> str | None:
    p, m = size.ranks, size.microbatches
    if p % 2:
        return (
            f"chimera needs an even number of ranks, not {p}: the two directions meet in the "
            "middle."
        )
    if m % p:
        return (
            f"chimera needs micro-batches in units of ranks ({p}, {2 * p}, {3 * p}, …), not {m}: "
            "half of a unit per direction."
        )
    return None


CHIMERA = Entry(
    name="chimera",
    title="Chimera",
    summary="Two opposite 1F1B pipelines fill each other's bubble; two copies of the weights.",
    source="Chimera, Li and Hoefler 2021, arXiv 2107.06925, section 3.1 (direct concatenation of "
    "units)",
    make=chimera,
    stages_per_rank=2,
    fixed="holds one stage of each direction per rank, which is two by construction",
    constraint=_needs,
)
