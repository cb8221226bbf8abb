"""Timeline: when each action of a schedule ran, and what each rank's memory held."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from ..schedule import Mesh, Schedule
from ..schedule.mesh import Place, one_of
from . import export, metrics
from .critical_path import critical_path
from .idle import Idle, idle_by_cause, idle_intervals

_PER_ATOM = (
    "asked", "sent", "arrived", "started", "ended", "compute", "worked", "bytes_held",
    "bytes_after", "bytes_sent", "version", "transit", "collective", "collective_bytes",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Timeline:
    """What happened when.

    Every array has one entry per atom, in the order of ``schedule``'s columns. Times count from the
    start of the step, in ``unit`` ("s" for a real or paced run, "" for abstract units):

        asked ──waiting── sent ──transfer── arrived = started ──compute── ended

    ``asked``: the rank became free and asked for the input. ``sent``: the other rank handed it
    over. ``arrived``: it was here. ``waiting`` = max(0, sent − asked), ``transfer`` = arrived −
    max(asked, sent), ``compute`` = ended − started. A rank's first action asks when it starts: the
    time before is its warm-up. Of an overlapped pair, the first atom carries waiting, transfer and
    compute. ``worked``: seconds of real computing inside ``compute`` (less in paced mode).
    ``bytes_held`` while the action runs and ``bytes_after`` it count the rank's saved activations
    in ``memory_unit`` ("bytes", or "activations" of one stage for one micro-batch); ``bytes_sent``
    is what it sent on. ``version``: of its stage's weights, counting the optimizer steps inside the
    schedule (0 without any); a STEP has the one that it makes. ``memory``: where more than
    activations is counted, its parts by name, each (held, after); bytes_held is their sum.
    ``transit``: where it is known, how long the input of each atom was under way, whether the atom
    waited for it or not. ``queued``: where it is known, per rank, how long it could have run but no
    processor was free. ``mesh``: of a run with several pipelines, whose ranks are its workers.
    ``collective``, ``collective_bytes``: where they are known, what of an action's compute passed
    between tensor-parallel workers, waiting for the slowest of them included, and the bytes that it
    sent them.
    """

    schedule: Schedule
    asked: np.ndarray
    sent: np.ndarray
    arrived: np.ndarray
    started: np.ndarray
    ended: np.ndarray
    compute: np.ndarray
    worked: np.ndarray
    bytes_held: np.ndarray
    bytes_after: np.ndarray
    bytes_sent: np.ndarray
    version: np.ndarray
    source: str = "predicted"
    unit: str = ""
    memory_unit: str = "activations"
    memory: Mapping[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    transit: np.ndarray | None = None
    queued: np.ndarray | None = None
    mesh: Mesh = Mesh()
    collective: np.ndarray | None = None
    collective_bytes: np.ndarray | None = None

    @cached_property
    def data(self) -> np.ndarray:
        """The copy of the pipeline that ran each atom."""
        copy: np.ndarray = self.rank // (self._ranks_of_pipeline * self.mesh.tensor)
        return copy

    @property
    def tensor(self) -> np.ndarray:
        """The place among those who share a rank's layers, for each atom."""
        part: np.ndarray = self.rank % self.mesh.tensor
        return part

    @property
    def _ranks_of_pipeline(self) -> int:
        return self.schedule.ranks // self.mesh.planes

    @property
    def rank(self) -> np.ndarray:
        """The rank of every atom."""
        return self.schedule.rank

    @property
    def kind(self) -> np.ndarray:
        """The kind of every atom, by its number."""
        return self.schedule.kind

    @property
    def stage(self) -> np.ndarray:
        """The stage of every atom."""
        return self.schedule.stage

    @property
    def microbatch(self) -> np.ndarray:
        """The micro-batch of every atom; of a STEP its number."""
        return self.schedule.microbatch

    @property
    def replica(self) -> np.ndarray:
        """The model copy of every atom."""
        return self.schedule.replica

    @property
    def cell(self) -> np.ndarray:
        """The step of every atom within its rank."""
        return self.schedule.cell

    @cached_property
    def waiting(self) -> np.ndarray:
        """Time spent before the other rank sent, per atom."""
        waited: np.ndarray = np.maximum(0, self.sent - self.asked)
        return waited

    @cached_property
    def transfer(self) -> np.ndarray:
        """Time spent while data was under way, per atom."""
        moved: np.ndarray = self.arrived - np.maximum(self.asked, self.sent)
        return moved

    @cached_property
    def makespan(self) -> float:
        """First start to last end over all ranks; the clock starts at the step's start."""
        return float(self.ended.max() - self.started.min())

    @cached_property
    def compute_per_rank(self) -> np.ndarray:
        """Time that each rank computes."""
        return self._per_rank(self.compute)

    @cached_property
    def transfer_per_rank(self) -> np.ndarray:
        """Time that each rank waits while data is under way."""
        return self._per_rank(self.transfer)

    @cached_property
    def wait_per_rank(self) -> np.ndarray:
        """Idle time that is not transfer: the rest of the makespan.

        That includes the time before the first and after the last action.
        """
        rest: np.ndarray = self.makespan - self.compute_per_rank
        rest -= self.transfer_per_rank
        return metrics.without_rounding(rest, self.makespan)

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """Makespan, the three bubble numbers and the peaks.

        The keys are those of ``pipelab simulate --json``.
        """
        return metrics.metrics(self)

    @cached_property
    def peak_bytes(self) -> dict[str, Any]:
        """``peak_bytes`` of each rank, and ``peak_bytes_by_part``: what they are made of.

        The parts are those of the first moment at which a rank holds most.
        """
        return metrics.peak_bytes(self)

    @cached_property
    def idle(self) -> list[Idle]:
        """Every idle interval of every rank, with its cause and the action that ended it."""
        return idle_intervals(self)

    @cached_property
    def idle_by_cause(self) -> dict[str, list[float]]:
        """Idle time of each rank by cause: ``pipelab simulate --explain``.

        Over the causes it sums to the rank's idle.
        """
        return idle_by_cause(self)

    @cached_property
    def critical_path(self) -> list[int]:
        """Indices of the actions that decided the makespan, first to last."""
        return critical_path(self)

    def memory_steps(self, rank: int) -> tuple[np.ndarray, np.ndarray]:
        """When the memory of a rank changed, and to what.

        Two arrays, times and values, each of shape (2 × actions,).
        """
        low, high = self.schedule.slices[rank]
        times = np.stack([self.started[low:high], self.ended[low:high]], axis=1).ravel()
        values = np.stack([self.bytes_held[low:high], self.bytes_after[low:high]], axis=1).ravel()
        return times, values

    def pipeline(self, data: int = 0, tensor: int = 0) -> "Timeline":
        """One pipeline of a mesh, as the timeline of the schedule that all of them repeat.

        Every picture draws it as that of a run without a mesh. Its clock is the mesh's.

        Args:
            data: Which copy of the pipeline.
            tensor: Which of the workers that share every rank's layers.

        Raises:
            UsageError: The mesh has no such pipeline.
        """
        schedule, atoms = one_of(self.schedule, self.mesh, data=data, tensor=tensor)
        mine: dict[str, Any] = {
            name: None if getattr(self, name) is None else getattr(self, name)[atoms]
            for name in _PER_ATOM
        }
        memory = {part: (held[atoms], after[atoms]) for part, (held, after) in self.memory.items()}
        ranks = self._ranks_of_pipeline
        workers = [self.mesh.worker(ranks, Place(data, rank, tensor)) for rank in range(ranks)]
        queued = None if self.queued is None else np.asarray(self.queued)[workers]
        return replace(self, schedule=schedule, memory=memory, queued=queued, mesh=Mesh(), **mine)

    def to_chrome(self) -> dict[str, Any]:
        """Trace events for chrome://tracing and Perfetto: ``json.dump`` it.

        One row per rank, times in microseconds.
        """
        return export.to_chrome(self)

    def to_json(self) -> dict[str, Any]:
        """All of it as lists and numbers: ``json.dump`` it."""
        return export.to_json(self)

    def _per_rank(self, values: np.ndarray) -> np.ndarray:
        sums: np.ndarray = np.add.reduceat(values, self.schedule.offsets[:-1])
        return sums

    def __repr__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        return f"<Timeline {self.source}: {self.schedule.name}, makespan {self.makespan:.6g}{unit}>"
