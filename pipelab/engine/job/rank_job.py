"""What goes to a rank at the start of a run, and what comes home from it."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ...schedule import Mesh, Place
from ..mesh.cuts import TensorPlan
from ..travel.checkpoint import Resumed
from ..travel.settings import Settings
from .batches import Batch
from .exchange import Exchange, Layer
from .program import Instruction
from .recipe import Recipe
from .reductions import Reduction
from .torch_handover import TorchJob
from .where import Where


@dataclass(frozen=True)
class RankJob:
    """All that a rank needs for a run.

    mesh, place, plan: who works with it, and how layers are divided. first_atom: where the rows of
    the trace of its pipeline begin. sizes: of the board. stages: (replica, index) -> (layers, loss
    or None). weights: which versions of them the schedule keeps. reductions: what each REDUCE_GRAD
    does, by atom. tied: name of a parameter -> the first that the model has for it, where that is
    another. batch: the rank's part of a batch that every step uses, or None. durations: seconds of
    each atom in paced mode, or None. resumed: what it goes on from, or None. torch: where torch's
    own runtime is to execute the schedule, else None.
    """

    rank: int
    mesh: Mesh
    place: Place
    plan: TensorPlan
    first_atom: int
    sizes: dict[str, int]
    program: list[Instruction]
    stages: dict[tuple[int, int], tuple[list[Layer], Callable | None]]
    weights: str
    recipe: Recipe
    where: Where
    exchange: Exchange
    reductions: dict[int, Reduction]
    tied: dict[str, str]
    batch: Batch | None
    durations: dict[int, float] | None
    resumed: Resumed | None
    settings: Settings
    torch: TorchJob | None

    @property
    def worker(self) -> int:
        """Its number among all workers."""
        return self.mesh.worker(self.exchange.ranks, self.place)

    @property
    def pipeline(self) -> list[int]:
        """The workers of its pipeline, rank by rank."""
        return self.mesh.pipeline_group(self.exchange.ranks, self.place)

    @property
    def plane(self) -> int:
        """The number of its pipeline."""
        return self.place.data * self.mesh.tensor + self.place.tensor

    @property
    def first_message(self) -> int:
        """Where the messages of its pipeline begin."""
        return self.plane * self.exchange.total


@dataclass
class RankResult:
    """What a rank brings home, its tensors packed.

    gradients: of the last step. before: the weights and buffers they belong
    to. state: after the last step; extra_state: what of it is not a tensor.
    optimizer: its state, as bytes. outputs: of each step of evaluation, by micro-batch. If the
    model has two copies, the first one's are returned. Of a mesh each worker brings its parts.
    bytes: what the rank held, by part. peak_memory, peak_reserved: of torch's
    allocator on a GPU, in bytes. waited_for_host: of a GPU, the share of its time.
    """

    gradients: dict[str, tuple] = field(default_factory=dict)
    before: dict[str, tuple] = field(default_factory=dict)
    state: dict[str, tuple] = field(default_factory=dict)
    extra_state: bytes = b""
    optimizer: np.ndarray | None = None
    outputs: list[dict[int, dict]] = field(default_factory=list)
    bytes: dict[str, int] = field(default_factory=dict)
    peak_memory: int | None = None
    peak_reserved: int | None = None
    waited_for_host: float | None = None
