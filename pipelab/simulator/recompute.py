"""Recomputing a forward before its backward, so that its activations need not be kept.

Two ways. "early": an action R of its own just before the backward, on the last stage too; it may
run while the gradient is still under way (GPipe, arXiv 1811.06965 §2.3). "in-backward": inside the
backward, once the gradient is there.
"""

from dataclasses import replace

import numpy as np

from ..errors import UnknownName, UsageError
from ..schedule import Kind, Schedule
from ..schedule.kinds import sending
from .costs import Costs, add

MODES = ("in-backward", "early")


def with_recompute(schedule: Schedule, costs: Costs, mode: str) -> tuple[Schedule, Costs]:
    """The schedule and the costs when every forward is recomputed, which takes ``costs.recompute``.

    Raises UnknownName for an unknown mode, UsageError when the schedule already recomputes or
    overlaps actions.
    """
    if mode not in MODES:
        raise UnknownName("way of recomputing", mode, MODES)
    if Kind.R in schedule.kinds:
        raise UsageError(
            "This schedule already says where it recomputes (R); recompute=… would do it twice."
        )
    if mode == "in-backward":
        values, recompute = costs.durations, costs.per_stage["recompute"]
        return schedule, replace(
            costs,
            backward=add(values["backward"], recompute),
            input_grad=add(values["input_grad"], recompute),
            weight_grad=values["weight_grad"],
            overlap=None if costs.overlap is None else add(values["overlap"], recompute),
            recompute=0,
        )
    if schedule.overlaps:
        raise UsageError(
            "Early recomputation is not defined for schedules that overlap F and B; use "
            "'in-backward'."
        )
    is_backward = np.isin(schedule.kind, sending("up"))
    backward = np.flatnonzero(is_backward)
    lengths = np.diff(schedule.offsets) + np.add.reduceat(is_backward, schedule.offsets[:-1])

    def doubled(column: np.ndarray) -> np.ndarray:
        return np.insert(column, backward, column[backward])

    return replace(
        schedule,
        kind=np.insert(schedule.kind, backward, np.int8(Kind.R)),
        stage=doubled(schedule.stage),
        microbatch=doubled(schedule.microbatch),
        replica=doubled(schedule.replica),
        cell=np.concatenate([np.arange(n, dtype=np.int32) for n in lengths]),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
    ), costs
