"""The forwards of a schedule alone: what evaluation runs."""

from dataclasses import replace

import numpy as np

from .kinds import Kind
from .schedule import Schedule


def forwards_of(schedule: Schedule) -> Schedule:
    """The forwards alone, in the same order, each in a cell of its own."""
    forward = schedule.kind == Kind.F
    counts = np.add.reduceat(forward, schedule.offsets[:-1])
    columns = {
        name: getattr(schedule, name)[forward]
        for name in ("kind", "stage", "microbatch", "replica")
    }
    return replace(
        schedule,
        name=f"{schedule.name}, forwards alone",
        cell=np.concatenate([np.arange(n, dtype=np.int32) for n in counts]),
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        weights="one",
        **columns,
    )
