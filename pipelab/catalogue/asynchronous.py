"""Asynchronous pipelines: no flush between batches, but weights of several versions.

Without a flush, there is no bubble in the steady state.

rank 0  F0 F1 F2       B0 STEP0 F3 B1 STEP1 F4 …    PipeDream, p = 3: a step after every backward
rank 2        F0 B0 STEP0 F1 B1 STEP1 …             rank s stashes weights of p − s micro-batches
"""

import numpy as np

from ..schedule import Kind
from .entry import Entry, Order, Size, actions, one_stage


def _with_steps(rank: int, ranks: int, microbatches: int, every: int) -> Order:
    """1F1B, and an optimizer step after every so many backwards."""
    warm_up = min(microbatches, ranks - rank - 1)
    kinds, ids = [Kind.F] * warm_up, list(range(warm_up))
    for i in range(microbatches):
        if warm_up + i < microbatches:
            kinds.append(Kind.F)
            ids.append(warm_up + i)
        kinds.append(Kind.B)
        ids.append(i)
        if (i + 1) % every == 0:
            kinds.append(Kind.STEP)
            ids.append(i // every)
    return actions(np.array(kinds), rank, np.array(ids))


def pipedream(rank: int, ranks: int, microbatches: int) -> Order:
    """A step after every micro-batch's backward."""
    return _with_steps(rank, ranks, microbatches, 1)


def pipedream_2bw(rank: int, ranks: int, microbatches: int) -> Order:
    """A step after every p micro-batches.

    These are the fewest for which two versions of the weights are enough.
    """
    return _with_steps(rank, ranks, microbatches, ranks)


def _whole_batches(size: Size) -> str | None:
    p, m = size.ranks, size.microbatches
    if m % p:
        return (
            f"pipedream-2bw needs micro-batches in multiples of ranks ({p}, {2 * p}, {3 * p}, …), "
            f"not {m}: it updates the weights after every batch of that many, and with fewer two "
            "versions are not enough."
        )
    return None


PIPEDREAM = Entry(
    name="pipedream",
    title="PipeDream",
    summary="1F1B without a flush: a step after every backward, each micro-batch with its own "
    "stashed weights.",
    source="PipeDream, Narayanan et al. 2019 (SOSP), arXiv 1806.03377, sections 3.2 and 3.3",
    make=one_stage("pipedream", pipedream, weights="stashed"),
)
PIPEDREAM_2BW = Entry(
    name="pipedream-2bw",
    title="PipeDream-2BW",
    summary="1F1B without a flush: gradients accumulated over a batch, two weight versions.",
    source="PipeDream-2BW, Narayanan et al. 2021, arXiv 2006.09503, section 2.1",
    make=one_stage("pipedream-2bw", pipedream_2bw, weights="double"),
    constraint=_whole_batches,
)
