"""Optimizer steps after a synchronous schedule, and the same schedule several times in a row.

    rank 0  F0 F1 B0 B1 STEP0 F2 F3 …     "local": a rank steps as soon as its own work is done
    rank 1  F0 B0 F1 B1 STEP0 F2 …        "barrier": no rank steps before all have come to it

A barrier stands for what needs all ranks before the step: clipping by the global norm, a check for
overflow. Without one, ranks that start early also end early and go on with the next batch, so that
the stagger of the ranks costs nothing (zero bubble, arXiv 2401.10241 §4: "post-validation").
"""

from dataclasses import replace

import numpy as np

from ..errors import UnknownName, UsageError
from ..schedule import Kind, Schedule

MODES = ("local", "barrier")


def with_optimizer(schedule: Schedule, mode: str, steps: int = 1) -> Schedule:
    """The schedule ``steps`` times in a row, with a STEP of every stage after each.

    Each time it runs on as many micro-batches. Raises UnknownName for an unknown mode, UsageError
    for a schedule that has its steps already, or no whole number of steps.
    """
    if mode not in MODES:
        raise UnknownName("way of stepping", mode, MODES)
    if not isinstance(steps, int) or steps < 1:
        raise UsageError(
            f"steps is {steps!r}; it is how often the schedule runs, a whole number from 1."
        )
    if Kind.STEP in schedule.kinds:
        raise UsageError(
            f"{schedule.name} already says where it steps (STEP); optimizer=… would do it twice."
        )
    columns, lengths, m = [], [], schedule.microbatches
    own = sorted((rank, stage, replica) for (replica, stage), rank in schedule.placement.items())
    for rank, (low, high) in enumerate(schedule.slices):
        mine = [(stage, replica) for where, stage, replica in own if where == rank]
        stages, replicas = (np.array(column) for column in zip(*mine, strict=True))
        cell, cells = schedule.cell[low:high], int(schedule.cell[high - 1]) + 1
        numbers, batch = schedule.microbatch[low:high], m * schedule.of_microbatch[low:high]
        for step in range(steps):
            first = step * (cells + len(mine))
            columns.append(
                (
                    np.append(schedule.kind[low:high], np.full(len(mine), Kind.STEP)),
                    np.append(schedule.stage[low:high], stages),
                    np.append(numbers + step * batch, np.full(len(mine), step)),
                    np.append(schedule.replica[low:high], replicas),
                    np.append(cell, cells + np.arange(len(mine))) + first,
                )
            )
        lengths.append(steps * (high - low + len(mine)))
    kind, stage, microbatch, replica, cell = (
        np.concatenate(column) for column in zip(*columns, strict=True)
    )
    return replace(
        schedule,
        kind=kind.astype(np.int8),
        stage=stage.astype(np.int32),
        microbatch=microbatch.astype(np.int32),
        replica=replica.astype(np.int8),
        cell=cell.astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        microbatches=m * steps,
    )
