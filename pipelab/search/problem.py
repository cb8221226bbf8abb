"""What is searched for: an order of F, I and W on every rank, for given costs and memory."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..errors import UnknownName, UsageError
from ..schedule import Kind, Schedule
from ..simulator import Costs

PLACEMENTS = ("loop", "v")
OBJECTIVES = ("makespan", "span")
"""What is to be short: first start to last end over all ranks, or on the rank with the longest."""
WEIGHT_GRAD_MEMORY = 0.5
LARGEST = 100_000
"""Actions of a schedule that is still searched for; beyond, it would take minutes."""
EXACT = 1e-9
"""Relative difference that counts as none: sums of floats in another order."""

Row = list[tuple[Kind, int, int]]
"""The actions of one rank in order, each (kind, stage, micro-batch)."""


@dataclass(frozen=True)
class Problem:
    """Sizes, durations and the limit of memory.

    placement: "loop" (one stage per rank) or "v" (two: stages s and 2·ranks − 1 − s on rank s).
    times: durations of F, I and W, one tuple each with one number per stage. limit: activations of
    one micro-batch through all of a rank's layers that a rank may hold; F takes one (on a V a half,
    for each stage is half of the layers), I gives back 1 − weight_grad_memory of it, W the rest.
    full: whether I stands for a full backward B, which leaves no W. objective: what is to be short.
    """

    ranks: int
    microbatches: int
    placement: str
    times: tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]
    latency: float
    limit: float
    weight_grad_memory: float
    full: bool = False
    objective: str = "makespan"

    @property
    def stages(self) -> int:
        """How many there are."""
        return self.ranks * self.arms

    @property
    def arms(self) -> int:
        """Stages per rank."""
        return 2 if self.placement == "v" else 1

    def home(self, stage: int) -> int:
        """The rank of a stage."""
        return min(stage, 2 * self.ranks - 1 - stage) if self.arms == 2 else stage

    def stages_of(self, rank: int) -> tuple[int, ...]:
        """The stages of a rank, one for each arm."""
        return (rank, 2 * self.ranks - 1 - rank)[: self.arms]

    @cached_property
    def hops(self) -> tuple[float, ...]:
        """Latency from each stage to the next.

        There is none where both are on the same rank: at the turn of the V.
        """
        hops = []
        for stage in range(self.stages - 1):
            stays = self.home(stage) == self.home(stage + 1)
            hops.append(0.0 if stays else self.latency)
        return tuple(hops)

    def before(self, stage: int) -> float:
        """The way in: the forwards of the stages before."""
        return sum(self.times[0][:stage]) + sum(self.hops[:stage])

    @cached_property
    def uncounted(self) -> tuple[float, ...]:
        """Of each rank, the time that does not count: for spans, until it can first start.

        Where micro-batches keep their order it does start then.
        """
        if self.objective == "makespan":
            return (0.0,) * self.ranks
        return tuple(map(self.before, range(self.ranks)))

    def length(self, ends: Sequence[float]) -> float:
        """The objective, from the last end of each rank."""
        return max(end - before for end, before in zip(ends, self.uncounted, strict=True))

    @cached_property
    def room(self) -> float:
        """The limit in activations of one stage, with room for the rounding of sums."""
        return self.limit * self.arms * (1 + EXACT)

    def schedule(self, rows: Sequence[Row]) -> Schedule:
        """The rows as a Schedule; with ``full``, I becomes B and W is left out."""
        columns = []
        for row in rows:
            kinds, stages, microbatches = np.array(row, dtype=np.int64).T
            if self.full:
                stays = kinds != Kind.W
                kinds, stages, microbatches = kinds[stays], stages[stays], microbatches[stays]
                kinds = np.where(kinds == Kind.I, Kind.B, kinds)
            columns.append((kinds, stages, microbatches))
        placement = {(0, stage): self.home(stage) for stage in range(self.stages)}
        return Schedule.from_columns(
            "auto", columns, placement=placement, microbatches=self.microbatches
        )

    def with_full_backwards(self, costs: Costs) -> "Problem":
        """The same problem for orders of F and B."""
        backward = per_stage(costs.durations["backward"], self.stages)
        times = (self.times[0], backward, (0.0,) * self.stages)
        return replace(self, times=times, weight_grad_memory=0.0, full=True)


def reason_against(
    ranks: int, microbatches: int, placement: str, memory_limit: float | None
) -> str | None:
    """Why nothing can be searched for, with what is possible; None when something can.

    The arguments are those of ``pipelab.search.best``.
    """
    for what, count in (("ranks", ranks), ("micro-batches", microbatches)):
        if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < 1:
            return (
                f"{count!r} {what} are impossible; the number of {what} is a whole number, 1 or "
                "more."
            )
    if placement not in PLACEMENTS:
        return (
            f"placement is {placement!r}; it is 'loop' (one stage per rank) or 'v' (two, there "
            "and back again)."
        )
    if memory_limit is not None and not _is_limit(memory_limit):
        return (
            f"memory_limit is {memory_limit!r}, in activations of one micro-batch through all of "
            "a rank's layers. The smallest that works is 1, one micro-batch at a time; 1F1B "
            f"holds up to {ranks}, one per rank."
        )
    actions = 3 * ranks * microbatches * (2 if placement == "v" else 1)
    if actions > LARGEST:
        return (
            f"auto searches among schedules of up to {LARGEST:,} actions, and these sizes make "
            f"{actions:,}: search for fewer micro-batches, or take a schedule that needs no "
            "search."
        )
    return None


def _is_limit(value: object) -> bool:
    """Whether a value is a finite number from 1."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        return False
    return 1 <= float(value) < math.inf


def pose(
    ranks: int,
    microbatches: int,
    placement: str,
    costs: Costs,
    memory_limit: float | None,
    weight_grad_memory: float,
    objective: str = "makespan",
) -> Problem:
    """The problem, once every number makes sense.

    Args:
        ranks: How many there are.
        microbatches: How many there are.
        placement: "loop" or "v".
        costs: Per action of one stage, with one latency.
        memory_limit: None for ``ranks``, what 1F1B needs.
        weight_grad_memory: The share of a micro-batch's activations that W gives back.
        objective: "makespan" or "span".

    Raises:
        UsageError: it says what is possible.
    """
    if objective not in OBJECTIVES:
        raise UnknownName("objective", objective, OBJECTIVES)
    reason = reason_against(ranks, microbatches, placement, memory_limit)
    if reason:
        raise UsageError(reason)
    if (
        not isinstance(weight_grad_memory, (int, float, np.number))
        or not 0 <= weight_grad_memory <= 1
    ):
        raise UsageError(
            f"weight_grad_memory is {weight_grad_memory!r}; it is the share of a micro-batch's "
            "activations that W gives back, from 0 (I gives back all) to 1 (W does)."
        )
    if not isinstance(costs.latency, int | float) or costs.bandwidth is not None:
        raise UsageError(
            "auto searches for one latency between all ranks and links without a limit of "
            "bandwidth."
        )
    limit = ranks if memory_limit is None else memory_limit
    stages = ranks * (2 if placement == "v" else 1)
    forward, inputs, weights = (
        per_stage(costs.durations[kind], stages)
        for kind in ("forward", "input_grad", "weight_grad")
    )
    return Problem(
        ranks=int(ranks),
        microbatches=int(microbatches),
        placement=placement,
        times=(forward, inputs, weights),
        latency=float(costs.latency),
        limit=float(limit),
        weight_grad_memory=float(weight_grad_memory),
        objective=objective,
    )


def per_stage(value: float | tuple[float, ...], stages: int) -> tuple[float, ...]:
    """One duration per stage.

    Raises UsageError when there are costs per stage, but not one for each.
    """
    if not isinstance(value, tuple):
        return (float(value),) * stages
    if len(value) != stages:
        raise UsageError(
            f"There are {len(value)} costs per stage, but the schedule has {stages} stages."
        )
    return tuple(map(float, value))


def peak_memory(schedule: Schedule, weight_grad_memory: float = WEIGHT_GRAD_MEMORY) -> list[float]:
    """The most that each rank holds, in activations of one micro-batch through all of its layers.

    An action takes before it starts and gives back when it has ended. Overlapped pairs are counted
    with the forward first.
    """
    taken = (schedule.kind == Kind.F).astype(float)
    given = np.select(
        [schedule.kind == Kind.B, schedule.kind == Kind.I, schedule.kind == Kind.W],
        [1.0, 1 - weight_grad_memory, weight_grad_memory],
    )
    order = np.lexsort((-taken, schedule.cell, schedule.rank))
    level = np.cumsum(taken[order] - given[order]) + given[order]
    before = np.concatenate([[0.0], np.cumsum(taken - given)])[schedule.offsets[:-1]]
    level -= np.repeat(before, np.diff(schedule.offsets))
    stages = np.bincount(list(schedule.placement.values()), minlength=schedule.ranks)
    peaks: list[float] = (np.maximum.reduceat(level, schedule.offsets[:-1]) / stages).tolist()
    return peaks
