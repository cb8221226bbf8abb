"""The best cuts of a profile for a schedule, or what given cuts lead to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from numbers import Integral, Real
from typing import Any

import numpy as np

from ..errors import UsageError
from ..schedule import Schedule
from ..simulator import Costs, Link, Memory, simulate
from ..timeline import Timeline
from .chain import Chain, bounds
from .cuts import SAME, Best, Problem
from .folding import Folding, crossing
from .memory import Occupancy, occupancies, rank_bytes, stage_memory, states_of
from .profile import Profile

ATOMS = 100_000
"""Actions that may be simulated to choose among equal partitions."""


@dataclass(frozen=True)
class Partition:
    """The layers of each stage, and what follows from them.

    Attributes:
        sizes: Layers of each stage, for ``run(partition=)``.
        stage_seconds: F + I + W of each stage for one micro-batch, without transfers.
        slowest: Seconds of the slowest rank per micro-batch: its stages, or a transfer over a
            boundary if that is longer.
        makespan: Of the schedule, as simulated; seconds.
        bytes: Of each rank: weights, gradients, optimizer, activations, total.
        schedule: What it was made for.
        costs: Of each stage, for ``simulate``.
        memory: Of each stage, for ``simulate(memory=)``.
        link: Between any two ranks.
        even: As equal as possible in layers, to compare with.
        parameters: The largest stage in parameters as small as possible, to compare with.
    """

    sizes: list[int]
    stage_seconds: list[float]
    slowest: float
    makespan: float
    bytes: list[dict[str, int]]
    schedule: Schedule
    costs: Costs
    memory: Memory
    link: Link
    even: "Partition | None" = None
    parameters: "Partition | None" = None

    @property
    def rank_seconds(self) -> list[float]:
        """F + I + W of all stages of each rank, for one micro-batch."""
        return self.per_rank(self.stage_seconds)

    def per_rank(self, of_stage: Sequence[float]) -> list[float]:
        """What the stages of each rank add up to; two copies of a model halve the micro-batches."""
        totals = [0.0] * self.schedule.ranks
        for (_, stage), rank in self.schedule.placement.items():
            totals[rank] += of_stage[stage] / self.schedule.replicas
        return totals

    @cached_property
    def timeline(self) -> Timeline:
        """What the simulator expects of one step, in seconds, with bytes over time."""
        return replace(simulate(self.schedule, self.costs, memory=self.memory), unit="s")

    def to_json(self) -> dict[str, Any]:
        """What ``pipelab partition --json`` prints."""
        names = ("sizes", "stage_seconds", "slowest", "makespan", "bytes")
        data = {name: getattr(self, name) for name in names}
        for name in ("even", "parameters"):
            other = getattr(self, name)
            if other is not None:
                data[name] = other.to_json()
        return data


class Cutter:
    """Cuts one profile for one schedule.

    Raises UsageError for fewer layers than stages.
    """

    def __init__(
        self,
        profile: Profile,
        schedule: Schedule,
        link: Link | None = None,
        optimizer: str = "adam",
    ):
        self._profile, self._schedule = profile, schedule
        self._link, self._optimizer = link or Link(), optimizer
        self._chain, stages = Chain(profile), schedule.stages
        if stages > self._chain.layers:
            raise UsageError(
                f"{stages} stages are more than the {self._chain.layers} layers of the profile, "
                f"and every stage needs at least one: use at most {self._chain.layers} stages "
                "(stages = ranks × stages per rank), or a model with more layers."
            )
        self._states = states_of(optimizer)

    def partition(
        self, memory_limit: float | None = None, sizes: Sequence[int] | None = None
    ) -> Partition:
        """The best, or that of given sizes; with the even one and that by parameters beside it."""
        if sizes is not None:
            chosen = self.evaluated(self.whole(sizes))
            self._require(chosen, memory_limit)
        else:
            _require_limit(memory_limit)
            chosen = self._best(memory_limit)
        return replace(
            chosen,
            even=self.evaluated(self.even()),
            parameters=self.evaluated(self.by_parameters()),
        )

    def evaluated(self, sizes: list[int]) -> Partition:
        """What follows from sizes."""
        chain, (start, stop) = self._chain, bounds(sizes)
        seconds = chain.seconds(start, stop)
        last, crosses = stop[:-1] - 1, crossing(self._schedule)
        borders = [
            self._link.seconds(size)
            for size, crossed in zip(chain.output_bytes[last].tolist(), crosses, strict=True)
            if crossed
        ]
        costs = Costs(
            forward=chain.total("forward", start, stop).tolist(),
            input_grad=chain.total("input_grad", start, stop).tolist(),
            weight_grad=chain.total("weight_grad", start, stop).tolist(),
            message=chain.output_bytes[stop - 1].tolist(),
            link=self._link,
        )
        memory = stage_memory(self._profile, sizes, self._optimizer)
        found = Partition(
            sizes=sizes,
            stage_seconds=seconds.tolist(),
            slowest=0.0,
            makespan=simulate(self._schedule, costs).makespan,
            bytes=rank_bytes(self._schedule, memory),
            schedule=self._schedule,
            costs=costs,
            memory=memory,
            link=self._link,
        )
        return replace(found, slowest=max(*found.rank_seconds, *borders, 0.0))

    def even(self) -> list[int]:
        """As equal as possible in layers, the first stages one larger."""
        layers, stages = self._chain.layers, self._schedule.stages
        return [layers // stages + (stage < layers % stages) for stage in range(stages)]

    def by_parameters(self) -> list[int]:
        """The largest stage in parameters as small as possible."""
        chain, stages = self._chain, self._schedule.stages
        problem = Problem(
            groups=stages,
            blocks=1,
            least=chain.parameters_of_layer,
            rates=np.ones(stages),
            border=np.zeros(chain.layers + 1),
            cost=lambda _, a, b: chain.total("parameter_bytes", a, b)[:, 0],
        )
        return next(Best(problem).partitions())

    @cached_property
    def _folding(self) -> Folding:
        return Folding.of(self._schedule)

    @cached_property
    def _occupancies(self) -> list[Occupancy]:
        return occupancies(self._schedule, self._folding, self._states)

    def _best(self, memory_limit: float | None) -> Partition:
        found = Best(self._in_seconds(memory_limit))
        if found.cost == np.inf:
            raise UsageError(
                f"No partition keeps every rank within {memory_limit:,.0f} bytes: the least limit "
                f"that works is {self._least_limit()} bytes, for {self._schedule.name} with "
                f"{self._optimizer}."
            )
        atoms = len(self._schedule.kind)
        most = max(1, ATOMS // atoms)
        equal = list(islice(found.partitions(), most + 1))
        if len(equal) <= most:
            return min(map(self.evaluated, equal), key=lambda each: (each.makespan, each.sizes))
        return self._descend(equal[0], found.cost, memory_limit, most)

    def _descend(
        self, sizes: list[int], slowest: float, memory_limit: float | None, most: int
    ) -> Partition:
        """From cut to cut among equal partitions, as long as the makespan becomes shorter."""
        best = self.evaluated(sizes)
        tried, better = 1, True
        while better and tried < most:
            better = False
            for moved in _neighbours(best.sizes):
                other = self.evaluated(moved)
                tried += 1
                good = other.slowest <= slowest * (1 + SAME) and _fits(other, memory_limit)
                if good and other.makespan < best.makespan * (1 - SAME):
                    best, better = other, True
                    break
                if tried >= most:
                    break
        return best

    def _in_seconds(self, memory_limit: float | None) -> Problem:
        """The problem whose cost is ``Partition.slowest``."""
        chain, folding = self._chain, self._folding

        def cost(group: int, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
            seconds: np.ndarray = folding.share * chain.seconds(start, stop).sum(axis=1)
            if memory_limit is not None:
                held = self._held(group, start, stop)
                seconds[held > memory_limit * (1 + SAME)] = np.inf
            return seconds

        border = np.zeros(chain.layers + 1)
        border[1:] = [self._link.seconds(size) for size in chain.output_bytes.tolist()]
        least: np.ndarray = folding.share * chain.seconds_of_layer
        return self._problem(least, np.ones(len(folding.groups)), border, cost)

    def _problem(
        self,
        least: np.ndarray,
        rates: np.ndarray,
        border: np.ndarray,
        cost: Callable[[int, np.ndarray, np.ndarray], np.ndarray],
    ) -> Problem:
        folding = self._folding
        return Problem(
            groups=len(folding.groups),
            blocks=folding.blocks,
            least=least,
            rates=rates,
            border=border,
            cost=cost,
            folded=folding.folded,
            turns_cross=folding.turns_cross,
        )

    def _held(self, group: int, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        """Bytes of the ranks of a group, for many ways to cut."""
        held: np.ndarray = self._occupancies[group].total(self._chain, start, stop)
        return held

    def _least_limit(self) -> int:
        """The bytes of the fullest rank, as few as they can be."""
        chain, held = self._chain, self._occupancies
        rates = np.array([each.moments[:, ::3].max(axis=0).min() for each in held])
        rates /= self._folding.blocks  # of the sum over a rank's stages, the largest is a part
        copies = min(float(each.copies.min()) for each in held)
        least = chain.activations_of_layer + copies / rates.max() * chain.parameters_of_layer
        border = np.zeros(chain.layers + 1)
        return int(np.ceil(Best(self._problem(least, rates, border, self._held)).cost * (1 - SAME)))

    def _require(self, chosen: Partition, memory_limit: float | None) -> None:
        if not _fits(chosen, memory_limit):
            most = max(each["total"] for each in chosen.bytes)
            raise UsageError(
                f"The sizes {chosen.sizes} need {most} bytes on one rank, more than the limit of "
                f"{memory_limit:,.0f}: leave them out for sizes that keep it, if there are any."
            )

    def whole(self, sizes: Sequence[int]) -> list[int]:
        """Sizes that fit the model and the schedule, as whole numbers. Raises UsageError."""
        counts = list(sizes)
        stages, layers = self._schedule.stages, self._chain.layers
        whole = all(isinstance(n, Integral) and not isinstance(n, bool) and n > 0 for n in counts)
        if not whole or len(counts) != stages or sum(counts) != layers:
            raise UsageError(
                f"The sizes {counts} do not fit: they are {stages} numbers of layers, 1 or more, "
                f"that add up to {layers}, such as {self.even()}."
            )
        return [int(count) for count in counts]


def _require_limit(memory_limit: float | None) -> None:
    if memory_limit is not None and not (isinstance(memory_limit, Real) and memory_limit > 0):
        raise UsageError(f"memory_limit is {memory_limit!r}; it is a number of bytes above 0.")


def _fits(chosen: Partition, memory_limit: float | None) -> bool:
    if memory_limit is None:
        return True
    return max(each["total"] for each in chosen.bytes) <= memory_limit * (1 + SAME)


def _neighbours(sizes: list[int]) -> list[list[int]]:
    """The partitions in which one cut lies a layer further."""
    found = []
    for stage in range(len(sizes) - 1):
        for step in (-1, 1):
            moved = list(sizes)
            moved[stage] += step
            moved[stage + 1] -= step
            if min(moved) > 0:
                found.append(moved)
    return found
