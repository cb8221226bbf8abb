"""A fixed number of workers in one shape: how long a batch takes, what each holds and sends.

    time per batch = 100 / workers  +  all-reduces in a layer  +  copies' exchange  +  idle

In: a Shape. Out: its simulated timeline, bytes by dimension and by part, and what decides.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ..catalogue import build, entry
from ..errors import UsageError
from ..layout.planner import DEVICES, MODELS, Layout, Machine, Transformer
from ..layout.planner.footprint import holdings, rank_parts, verdict
from ..layout.planner.layout import problem
from ..schedule import Kind, Mesh, Place, Schedule
from ..schedule.mesh import ZERO
from ..simulator import Costs, Link, Nodes, simulate
from ..simulator.mesh import with_collectives
from ..timeline import Timeline
from .rank_memory import SCHEDULES
from .settings import WHOLE

MOST = 16
"""Workers that a picture has room for, and a run on one machine."""
ALPHA = {"inside": 10e-6, "between": 20e-6}
"""Seconds of a message of no size, as calculon has them for NVLink and for a network."""
COUNTS = (1, 2, 4, 8, 16, 32, 64)
SPEEDS = {"fast": (32.0, 150.0, 300.0, 450.0, 900.0), "slow": (3.0, 12.5, 25.0, 50.0, 100.0)}
"""GB/s of the two links."""
DIMENSIONS = ("data", "pipeline", "tensor")


def factorizations(workers: int) -> list[tuple[int, int, int]]:
    """All shapes data × ranks × tensor of so many workers; most data first, then most ranks.

    >>> factorizations(4)
    [(4, 1, 1), (2, 2, 1), (2, 1, 2), (1, 4, 1), (1, 2, 2), (1, 1, 4)]
    """
    sizes = [n for n in range(workers, 0, -1) if workers % n == 0]
    return [(d, p, workers // (d * p)) for d in sizes for p in sizes if workers // d % p == 0]


def inside_layers(timeline: Timeline) -> np.ndarray:
    """What of each action is all-reduces in its layers: 0 where no layer is shared."""
    return np.zeros(len(timeline.kind)) if timeline.collective is None else timeline.collective


@dataclass(frozen=True)
class Shape:
    """One shape of a mesh, with one model and one batch.

    Attributes:
        data: copies of the pipeline.
        ranks: of a pipeline.
        tensor: workers that share a layer.
        zero: what copies divide among them; of one copy without effect.
        schedule: one of the four of ``pipelab.memory``; interleaved has two stages per rank.
        microbatches: of each copy.
        node: workers of a node.
        fast, slow: GB/s of the link inside a node, and between nodes.
        model, device: names of the planner's.
        batch: samples of a step, over all copies.
    """

    data: int = 8
    ranks: int = 1
    tensor: int = 1
    zero: int = 0
    schedule: str = "1f1b"
    microbatches: int = 8
    node: int = 8
    fast: float = 300.0
    slow: float = 25.0
    model: str = "llama-7b"
    device: str = "a100-80"
    batch: int = 64

    @property
    def workers(self) -> int:
        """Of the mesh."""
        return self.data * self.ranks * self.tensor

    @property
    def mesh(self) -> Mesh:
        """Copies and parts; one copy has nothing to divide."""
        return Mesh(self.data, self.tensor, self.zero if self.data > 1 else 0)

    @property
    def stages(self) -> int:
        """Of a pipeline."""
        return self.ranks * self._per_rank

    @property
    def transformer(self) -> Transformer:
        """The model's sizes."""
        return MODELS[self.model]

    @property
    def machine(self) -> Machine:
        """The device's peak and memory."""
        return DEVICES[self.device]

    def options(self) -> dict[str, list[Any]]:
        """The values of each switch, in order."""
        n = self.workers
        mine = self.batch // self.data
        return {
            "shape": ["x".join(map(str, sizes)) for sizes in factorizations(n)],
            "zero": list(ZERO),
            "schedule": list(SCHEDULES),
            "microbatches": [m for m in COUNTS if mine % m == 0],
            "node": [k for k in range(1, n + 1) if n % k == 0],
            "fast": sorted({*SPEEDS["fast"], self.fast}),
            "slow": sorted({*SPEEDS["slow"], self.slow}),
        }

    def problem(self) -> str:
        """Why there is no such shape, with what there is; "" where there is one."""
        for name in ("data", "ranks", "tensor", "microbatches", "node", "batch"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                return f"{name} is {value!r}; it is a whole number, 1 or more."
        for name in ("fast", "slow"):
            if not 0 < getattr(self, name) < float("inf"):
                return f"{name} is {getattr(self, name)!r}; it is a speed in GB/s above 0."
        if self.batch % self.data or self.batch // self.data % self.microbatches:
            return (
                f"A batch of {self.batch} samples does not divide into {self.data} copies × "
                f"{self.microbatches} micro-batches."
            )
        found = problem(self.layout, self.transformer, self.machine)
        if found:
            return found[1].split(";")[0].rstrip(".") + "."
        return entry(self.schedule).problem(self.ranks, self.microbatches, self._stages) or ""

    @property
    def layout(self) -> Layout:
        """The same as the planner counts it."""
        return Layout(
            tensor=self.tensor,
            pipeline=self.ranks,
            data=self.data,
            stages_per_rank=self._per_rank,
            microbatch=self.batch // (self.data * self.microbatches),
            batch=self.batch,
            schedule=self.schedule,
            zero=self.mesh.zero,
            flash=True,
            gradients="same",
        )

    @cached_property
    def one_schedule(self) -> Schedule:
        """Of one pipeline, with what its copies do together. Raises UsageError if there is none."""
        wrong = self.problem()
        if wrong:
            raise UsageError(wrong)
        made = build(
            self.schedule,
            ranks=self.ranks,
            microbatches=self.microbatches,
            stages_per_rank=self._stages,
        )
        return with_collectives(made, self.mesh)

    @property
    def alone(self) -> float:
        """Seconds of a batch on one device: 6 × parameters × tokens, at what its products reach."""
        shape = self.transformer
        tokens = self.batch * shape.sequence
        return 6 * shape.parameters * tokens / (self.machine.tflops * 1e12 * self.machine.gemm)

    @property
    def message(self) -> float:
        """Bytes that a stage hands on for one micro-batch, 2 of each number."""
        shape = self.transformer
        return 2.0 * self.layout.microbatch * shape.sequence * shape.hidden

    @property
    def calls(self) -> float:
        """All-reduces of a forward of one stage: two of each layer."""
        return 2.0 * self.transformer.layers / self.stages

    @cached_property
    def weights(self) -> tuple[float, ...]:
        """Bytes of each stage's weights on one worker, and so of its gradients."""
        shape = self.transformer
        layers = shape.layers / self.stages * shape.layer_parameters
        counts = [layers] * self.stages
        counts[0] += shape.embedding_parameters
        counts[-1] += shape.head_parameters if shape.gated or self.stages > 1 else 0
        return tuple(2 * count / self.tensor for count in counts)

    @cached_property
    def costs(self) -> Costs:
        """What actions, collectives and messages take, as 100 is what one device takes alone."""
        work = WHOLE / 3 / (self.workers * self._per_rank * self.microbatches)
        return Costs(
            forward=work,
            input_grad=work,
            weight_grad=work,
            nodes=self.nodes,
            message=self.message,
            weights=self.weights,
            tensor_bytes=self.calls * self.message,
            tensor_calls=self.calls,
        )

    @property
    def nodes(self) -> Nodes:
        """The two links, in units of time of which 100 are one device's batch."""
        unit = self.alone / WHOLE
        inside, between = (
            Link(latency=ALPHA[where] / unit, bandwidth=speed * 1e9 * unit)
            for where, speed in (("inside", self.fast), ("between", self.slow))
        )
        return Nodes(self.node, inside, between)

    def groups(self, worker: int) -> dict[str, list[int]]:
        """The three groups of a worker, by dimension."""
        place = self.mesh.place(self.ranks, worker)
        return {
            "data": self.mesh.data_group(self.ranks, place),
            "pipeline": self.mesh.pipeline_group(self.ranks, place),
            "tensor": self.mesh.tensor_group(self.ranks, place),
        }

    @cached_property
    def crosses(self) -> dict[str, bool]:
        """Whether any group of a dimension leaves its node."""
        groups = [self.groups(worker) for worker in range(self.workers)]
        return {name: any(self.nodes.leave(one[name]) for one in groups) for name in DIMENSIONS}

    @cached_property
    def timeline(self) -> Timeline:
        """Of all workers."""
        return simulate(self.one_schedule, self.costs, mesh=self.mesh)

    def pipeline(self, worker: int) -> Timeline:
        """Of the pipeline that a worker is in, rank by rank."""
        place = self.place(worker)
        return self.timeline.pipeline(place.data, place.tensor)

    @cached_property
    def time(self) -> dict[str, float]:
        """The time per batch, and of the mean worker its parts: work, tensor, data, and idle."""
        line = self.timeline
        together = np.isin(line.kind, (Kind.UNSHARD, Kind.REDUCE_GRAD))
        data = float(line.compute[together].sum()) / self.workers
        work = WHOLE / self.workers
        tensor = float(inside_layers(line).sum()) / self.workers
        idle = line.makespan - work - tensor - data
        return {
            "total": line.makespan,
            "work": work,
            "tensor": tensor,
            "data": data,
            "idle": max(0.0, idle),
        }

    @cached_property
    def without_messages(self) -> float:
        """The time per batch if what stages hand on had no bytes."""
        costs = replace(self.costs, message=0)
        return simulate(self.one_schedule, costs, mesh=self.mesh).makespan

    @cached_property
    def bubble(self) -> float:
        """The share of the workers' time in which they wait."""
        return float(self.timeline.metrics["bubble_fraction"])

    @cached_property
    def sent(self) -> dict[str, float]:
        """Bytes that the busiest worker sends in a batch, by dimension."""
        one, d, t = self.one_schedule, self.data, self.tensor
        sizes, kinds = np.array(self.weights)[one.stage], one.kind
        rounds = 1 if self.mesh.zero else 2  # a reduce-scatter, or with a gather behind it
        shared = np.where(kinds == Kind.UNSHARD, sizes, 0.0)
        shared += np.where(kinds == Kind.REDUCE_GRAD, rounds * sizes, 0.0)
        senders = one.rank[one.producer[np.flatnonzero(one.crosses)]]
        passed = np.bincount(senders, minlength=self.ranks) * self.message
        passes = 2 * self.microbatches * self._per_rank  # F, and B or I
        layers = passes * self.calls * self.message
        return {
            "data": (d - 1) / d * float(np.add.reduceat(shared, one.offsets[:-1]).max()),
            "pipeline": float(passed.max()),
            "tensor": 2 * (t - 1) / t * layers,
        }

    @cached_property
    def bytes(self) -> list[dict[str, float]]:
        """What a worker of each rank holds, by part, and ``total``: the planner's count."""
        layout = self.layout
        held = holdings(self.transformer, layout, self.one_schedule)
        return [rank_parts(self.transformer, layout, one) for one in held]

    @property
    def fullest(self) -> int:
        """The rank whose workers hold most."""
        return max(range(self.ranks), key=lambda rank: self.bytes[rank]["total"])

    @property
    def held(self) -> dict[str, float]:
        """What such a worker holds, by part."""
        return self.bytes[self.fullest]

    @property
    def fits(self) -> str:
        """Whether it fits the device: "yes", "tight" or "no"."""
        return verdict(self.held["total"], self.machine.memory)

    def stages_of_zero(self) -> Iterator["Shape"]:
        """The same shape at each stage of ZeRO; at one where there is one copy."""
        for zero in ZERO if self.data > 1 else (self.zero,):
            yield replace(self, zero=zero)

    def place(self, worker: int) -> Place:
        """Where a worker stands."""
        return self.mesh.place(self.ranks, worker)

    @property
    def _per_rank(self) -> int:
        return 2 if self.schedule == "interleaved-1f1b" else 1

    @property
    def _stages(self) -> int | None:
        return None if entry(self.schedule).fixed else self._per_rank
