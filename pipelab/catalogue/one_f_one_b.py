"""1F1B: after a warm-up, one forward and one backward in turn; few micro-batches are in flight.

    rank 0  F0 F1 F2       B0 F3 B1    B2    B3
    rank 1     F0 F1    B0 F2 B1 F3 B2    B3
    rank 2        F0 B0 F1 B1 F2 B2 F3 B3    (drawn with B = F)
"""

import numpy as np

from .entry import Entry, Kind, Order, actions, alternate


def order(rank: int, ranks: int, microbatches: int) -> Order:
    """min(m, p − rank − 1) forwards, then F and B in turn, then the backwards that are left; any m ≥ 1."""
    warm_up = min(microbatches, ranks - rank - 1)
    ids = np.arange(microbatches)
    steady = microbatches - warm_up
    kinds = np.concatenate([np.full(warm_up, Kind.F), np.tile([Kind.F, Kind.B], steady), np.full(warm_up, Kind.B)])
    return actions(kinds, rank, np.concatenate([ids[:warm_up], alternate(ids[warm_up:], ids[:steady]), ids[steady:]]))


ONE_F_ONE_B = Entry(
    name="1f1b",
    title="1F1B",
    summary="One forward, one backward in turn: GPipe's bubble, with at most as many micro-batches in flight as ranks.",
    source="PipeDream-Flush, Narayanan et al. 2021, arXiv 2006.09503, section 2.2; Megatron-LM, arXiv 2104.04473, figure 4",
    order=order,
)
