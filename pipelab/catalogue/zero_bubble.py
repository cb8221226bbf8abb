"""Zero bubble, handcrafted: the backward in two parts.

I (input gradient) runs now, W (weight gradient) where there is time.

    rank 0  F0 F1 F2 F3             I0 W0 F4 I1 W1 F5 …   ZB-H1, p = 4: rank s delays W by s pairs
    rank 3           F0 I0 F1 I1 F2 I2 F3 I3 W0 F4 I4 W1 …

ZB-H2 starts with more forwards, fills the whole warm-up, and holds up to twice the memory. The
papers write B for I.
"""

from collections.abc import Callable

from ..schedule import Kind, Schedule
from .entry import Entry, Size, from_lists, loop


def handcrafted(name: str, depth: int) -> Callable[[Size], Schedule]:
    """A maker of the handcrafted schedules.

    Rank s: depth·(p − s − 1) forwards; depth·s pairs F, I; then F, I, W; when the F's end, I, W;
    then what W is left.
    """

    def make(size: Size) -> Schedule:
        p, m, rows = size.ranks, size.microbatches, []
        for rank in range(p):
            warm_up, delay = min(m, depth * (p - rank - 1)), depth * rank
            row, weights = [(Kind.F, rank, i) for i in range(warm_up)], iter(range(m))
            for i in range(m):
                if warm_up + i < m:
                    row.append((Kind.F, rank, warm_up + i))
                row.append((Kind.I, rank, i))
                if i >= delay or warm_up + i >= m:
                    row.append((Kind.W, rank, next(weights)))
            row += [(Kind.W, rank, i) for i in weights]
            rows.append(row)
        return from_lists(name, rows, size, loop(size))

    return make


ZB_H1 = Entry(
    name="zb-h1",
    title="ZB-H1",
    summary="1F1B's memory, a third of its bubble: weight gradients fill the drain.",
    source="Zero bubble, Qi et al. 2024, arXiv 2401.10241, section 2.2",
    make=handcrafted("zb-h1", 1),
)
ZB_H2 = Entry(
    name="zb-h2",
    title="ZB-H2",
    summary="Up to twice 1F1B's memory: no rank waits inside its span when F = I = W.",
    source="Zero bubble, Qi et al. 2024, arXiv 2401.10241, section 2.2",
    make=handcrafted("zb-h2", 2),
)
