"""1F1B: after a warm-up, one forward and one backward in turn; few micro-batches are in flight.

rank 0  F0 F1 F2       B0 F3 B1    B2    B3
rank 1     F0 F1    B0 F2 B1 F3 B2    B3
rank 2        F0 B0 F1 B1 F2 B2 F3 B3    (drawn with B = F)
"""

import numpy as np

from ..schedule import Kind
from .entry import Entry, Order, actions, alternate, one_stage


def order(rank: int, ranks: int, microbatches: int) -> Order:
    """First p − rank − 1 forwards, then F and B in turn, then the backwards left; any m ≥ 1."""
    return _alternating(ranks - rank - 1, rank, microbatches)


def eager_order(rank: int, ranks: int, microbatches: int) -> Order:
    """Twice the forwards first, so that every input arrives while the rank is still busy."""
    return _alternating(2 * (ranks - rank - 1), rank, microbatches)


def _alternating(warm_up: int, rank: int, microbatches: int) -> Order:
    warm_up = min(microbatches, warm_up)
    ids = np.arange(microbatches)
    steady = microbatches - warm_up
    kinds = np.concatenate(
        [np.full(warm_up, Kind.F), np.tile([Kind.F, Kind.B], steady), np.full(warm_up, Kind.B)]
    )
    in_turn = alternate(ids[warm_up:], ids[:steady])
    return actions(kinds, rank, np.concatenate([ids[:warm_up], in_turn, ids[steady:]]))


ONE_F_ONE_B = Entry(
    name="1f1b",
    title="1F1B",
    summary="One forward, one backward in turn: GPipe's bubble, with at most as many micro-batches "
    "in flight as ranks.",
    source="PipeDream-Flush, Narayanan et al. 2021, arXiv 2006.09503, section 2.2; Megatron-LM, "
    "arXiv 2104.04473, figure 4",
    make=one_stage("1f1b", order),
)

EAGER_1F1B = Entry(
    name="eager-1f1b",
    title="Eager 1F1B",
    summary="1F1B with a longer warm-up: hides latency between ranks, for up to twice the memory.",
    source="Alpa's overlap-friendly schedule, Zhuang et al. 2023, arXiv 2211.05322, section 4",
    make=one_stage("eager-1f1b", eager_order),
)
