"""What collectives of a mesh take, and the timeline of all of its workers.

    all-reduce               2 (k − 1) · α + 2 (k − 1)/k · bytes / β       over k workers, as a ring
    gather, reduce-scatter     (k − 1) · α +   (k − 1)/k · bytes / β

Source: Thakur et al. 2005, "Optimization of Collective Communication Operations in MPICH", §4.
"""

from dataclasses import replace

import numpy as np

from ..schedule import Mesh, Schedule
from ..schedule.kinds import COLLECTIVES
from .costs import Costs, PerStage, Staged, add
from .link import Link


def with_mesh(schedule: Schedule, costs: Costs, mesh: Mesh) -> tuple[Schedule, Costs]:
    """The schedule with what its copies do together, and costs with what collectives take.

    A schedule that says itself when its copies meet stays as it is. Durations of UNSHARD and
    REDUCE_GRAD that are given stay, too.
    """
    if mesh.data > 1 and not schedule.kinds & COLLECTIVES:
        schedule = schedule.with_data_parallel(zero=mesh.zero)
    return schedule, _with_tensor(_with_data(costs, mesh), mesh)


def _with_data(costs: Costs, mesh: Mesh) -> Costs:
    """What weights and gradients take among the copies."""
    if mesh.data == 1 or costs.data_link is None:
        return costs
    link, once = costs.data_link, (mesh.data - 1) / mesh.data
    rounds = 1 if mesh.zero else 2  # a reduce-scatter, or with a gather behind it
    reduce = _seconds(link, rounds * (mesh.data - 1), costs.weights, rounds * once)
    gather = _seconds(link, mesh.data - 1, costs.weights, once)
    return replace(
        costs,
        reduce_grad=costs.reduce_grad or reduce,
        unshard=costs.unshard or (gather if mesh.zero else 0),
    )


def _with_tensor(costs: Costs, mesh: Mesh) -> Costs:
    """What passes inside F and B, or I, between those who share a layer: never in W."""
    if mesh.tensor == 1 or costs.tensor_link is None:
        return costs
    calls = np.asarray(costs.tensor_calls, dtype=float)
    link, share = costs.tensor_link, 2 * (mesh.tensor - 1) / mesh.tensor
    steps = 2 * (mesh.tensor - 1) * calls
    more = _seconds(link, steps, costs.tensor_bytes, share)
    durations = costs.durations
    return replace(
        costs,
        forward=add(durations["forward"], more),
        backward=add(durations["backward"], more),
        input_grad=add(durations["input_grad"], more),
        weight_grad=durations["weight_grad"],
        recompute=add(costs.per_stage["recompute"], more) if costs.recompute else 0,
        overlap=None if costs.overlap is None else add(add(durations["overlap"], more), more),
    )


def _seconds(link: Link, steps: float | np.ndarray, size: PerStage, share: float) -> Staged:
    """Steps · α + share · size / β, stage by stage where sizes differ."""
    rate = link.bandwidth or np.inf
    values = np.asarray(steps) * link.latency + share * np.asarray(size, dtype=float) / rate
    return float(values) if values.ndim == 0 else tuple(values.tolist())
