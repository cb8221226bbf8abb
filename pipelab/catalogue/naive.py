"""Naive model parallelism: one rank computes while the others wait.

rank 0  F0             B0 F1             B1
rank 1     F0       B0       F1       B1
rank 2        F0 B0             F1 B1
"""

import numpy as np

from ..schedule import Kind
from .entry import Entry, Order, actions, alternate, one_stage


def order(rank: int, _: int, microbatches: int) -> Order:
    """F and B of each micro-batch in turn."""
    ids = np.arange(microbatches)
    return actions(np.tile([Kind.F, Kind.B], microbatches), rank, alternate(ids, ids))


NAIVE = Entry(
    name="naive",
    title="Naive",
    summary="Each micro-batch goes forward and back through all stages before the next starts.",
    source="The baseline of GPipe, Huang et al. 2019, arXiv 1811.06965, figure 2b",
    make=one_stage("naive", order),
)
