"""GPipe: all forwards, then all backwards, first in first out.

    rank 0  F0 F1 F2          B0 B1 B2
    rank 1     F0 F1 F2    B0 B1 B2
    rank 2        F0 F1 F2 B0 B1 B2          (drawn with B = F)

The paper and torchgpipe run the backwards last in first out; torch's ScheduleGPipe and this one
first in first out. The makespan is the same.
"""

import numpy as np

from ..schedule import Kind
from .entry import Entry, Order, actions, one_stage


def order(rank: int, _: int, microbatches: int) -> Order:
    """All forwards, then all backwards, in the order of the micro-batches."""
    ids = np.arange(microbatches)
    return actions(np.repeat([Kind.F, Kind.B], microbatches), rank, np.concatenate([ids, ids]))


GPIPE = Entry(
    name="gpipe",
    title="GPipe",
    summary="All forwards, then all backwards. Every micro-batch is in flight at once.",
    source="Huang et al. 2019, arXiv 1811.06965, section 2.3; order as torch's ScheduleGPipe",
    make=one_stage("gpipe", order),
)
