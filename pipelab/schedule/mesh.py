"""A mesh of workers: copies of a pipeline that share the data, and parts that share a layer.

    worker = (data · ranks + rank) · tensor + part          tensor innermost

    data 0   rank 0: workers 0 1   rank 1: workers 2 3       tensor = 2: two workers a rank
    data 1   rank 0: workers 4 5   rank 1: workers 6 7       data = 2: two copies of the pipeline

In: a Schedule and a Mesh. Out: who is who; ``spread``: the schedule of all workers; ``one_of``: one
pipeline of it, which is the schedule again.

Source of the order: Megatron-LM (Narayanan et al. 2021, §3), which keeps tensor-parallel workers on
one node because they speak most.
"""

from dataclasses import dataclass, replace
from numbers import Integral
from typing import NamedTuple

import numpy as np

from ..errors import UsageError
from .schedule import Schedule

ZERO = (0, 1, 2, 3)
Rows = np.ndarray
"""Numbers of atoms, rows of a schedule's columns."""


class Place(NamedTuple):
    """Where a worker stands: which copy of the pipeline, which rank, which part of its layers."""

    data: int
    rank: int
    tensor: int


@dataclass(frozen=True)
class Mesh:
    """How a pipeline is repeated and its layers are cut.

    Attributes:
        data: Copies of the pipeline, each with its share of the batch.
        tensor: Workers that share every layer of a rank.
        zero: What the copies share instead of each holding it: 0 nothing, 1 the optimizer's state,
            2 gradients too, 3 weights too.
        sequence_parallel: Whether what lies between tensor-parallel layers is cut along the
            sequence.

    Raises:
        UsageError: sizes that are not whole numbers from 1, and what needs another size.

    >>> Mesh(data=2, tensor=2).worker(ranks=2, place=Place(data=1, rank=0, tensor=1))
    5
    """

    data: int = 1
    tensor: int = 1
    zero: int = 0
    sequence_parallel: bool = False

    def __post_init__(self) -> None:
        """Check the sizes."""
        for name in ("data", "tensor"):
            size = getattr(self, name)
            if not isinstance(size, Integral) or isinstance(size, bool) or size < 1:
                raise UsageError(f"{name} is {size!r}; it is a whole number of workers, 1 or more.")
        if self.zero not in ZERO:
            raise UsageError(f"zero is {self.zero!r}; it is a stage of ZeRO: 0, 1, 2 or 3.")
        if self.zero and self.data == 1:
            raise UsageError(
                f"zero={self.zero} divides what copies of the model hold alike among them, and "
                "there is one copy: use data=2 or more."
            )
        if self.sequence_parallel and self.tensor == 1:
            raise UsageError(
                "sequence_parallel cuts the sequence among tensor-parallel workers, and there is "
                "one: use tensor=2 or more."
            )

    @property
    def planes(self) -> int:
        """Workers that run the same rank's program."""
        return self.data * self.tensor

    def workers(self, ranks: int) -> int:
        """How many workers a pipeline of ``ranks`` ranks takes."""
        return ranks * self.planes

    def worker(self, ranks: int, place: Place) -> int:
        """The number of a worker."""
        return (place.data * ranks + place.rank) * self.tensor + place.tensor

    def place(self, ranks: int, worker: int) -> Place:
        """Where a worker stands."""
        rest, tensor = divmod(worker, self.tensor)
        data, rank = divmod(rest, ranks)
        return Place(data, rank, tensor)

    def data_group(self, ranks: int, place: Place) -> list[int]:
        """The workers that hold the same weights: one of each copy, in order."""
        return [self.worker(ranks, place._replace(data=d)) for d in range(self.data)]

    def tensor_group(self, ranks: int, place: Place) -> list[int]:
        """The workers that share a rank's layers, in order."""
        return [self.worker(ranks, place._replace(tensor=t)) for t in range(self.tensor)]

    def pipeline_group(self, ranks: int, place: Place) -> list[int]:
        """The workers of one pipeline, rank by rank."""
        return [self.worker(ranks, place._replace(rank=p)) for p in range(ranks)]


def spread(schedule: Schedule, mesh: Mesh) -> Schedule:
    """The schedule of all workers: each runs the actions of its rank.

    Its ranks are the workers. What the pipelines do is told apart by ``replica``: those of copy d
    and part t begin at (d · tensor + t) · replicas. With one worker a rank it is the schedule.
    """
    if mesh.planes == 1:
        return schedule
    ranks, copies = schedule.ranks, schedule.replicas
    places = [mesh.place(ranks, worker) for worker in range(mesh.workers(ranks))]
    planes = [place.data * mesh.tensor + place.tensor for place in places]
    lengths = [high - low for low, high in (schedule.slices[place.rank] for place in places)]
    atoms = np.concatenate([np.arange(*schedule.slices[place.rank]) for place in places])
    plane_of = np.repeat(np.array(planes), lengths)
    placement: dict[tuple[int, int], int] = {}
    for worker, (place, plane) in enumerate(zip(places, planes, strict=True)):
        for (replica, stage), rank in schedule.placement.items():
            if rank == place.rank:
                placement[plane * copies + replica, stage] = worker
    whole = replace(
        schedule,
        kind=schedule.kind[atoms],
        stage=schedule.stage[atoms],
        microbatch=schedule.microbatch[atoms],
        replica=(plane_of * copies + schedule.replica[atoms]).astype(np.int16),
        cell=schedule.cell[atoms],
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        replicas=mesh.planes * copies,
        placement=placement,
    )
    # each pipeline is as legal as the one that it repeats
    whole.verdicts.update(schedule.verdicts)
    return whole


def one_of(whole: Schedule, mesh: Mesh, *, data: int = 0, tensor: int = 0) -> tuple[Schedule, Rows]:
    """One pipeline of a schedule that was spread, and where its atoms stand in it.

    Raises UsageError where the mesh has no such pipeline.
    """
    for name, value in (("data", data), ("tensor", tensor)):
        size = getattr(mesh, name)
        if not isinstance(value, Integral) or isinstance(value, bool) or value not in range(size):
            raise UsageError(
                f"{name} is {value!r}, and this mesh has {size} along {name}: use one of "
                f"{', '.join(map(str, range(size)))}."
            )
    if mesh.planes == 1:
        return whole, np.arange(len(whole.kind))
    ranks, copies = whole.ranks // mesh.planes, whole.replicas // mesh.planes
    workers = mesh.pipeline_group(ranks, Place(data, 0, tensor))
    first = (data * mesh.tensor + tensor) * copies
    parts = [np.arange(*whole.slices[worker]) for worker in workers]
    atoms = np.concatenate(parts)
    rank_of = {worker: rank for rank, worker in enumerate(workers)}
    one = replace(
        whole,
        kind=whole.kind[atoms],
        stage=whole.stage[atoms],
        microbatch=whole.microbatch[atoms],
        replica=(whole.replica[atoms] - first).astype(np.int8),
        cell=whole.cell[atoms],
        offsets=np.concatenate([[0], np.cumsum([len(part) for part in parts])]),
        replicas=copies,
        placement={
            (replica - first, stage): rank_of[worker]
            for (replica, stage), worker in whole.placement.items()
            if worker in rank_of
        },
    )
    one.verdicts.update(whole.verdicts)
    return one, atoms
