"""What goes to a rank at the start of a run, and what comes home from it."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ..travel.checkpoint import Resumed, named_parameters
from ..travel.settings import Settings
from .batches import Batch
from .exchange import Exchange, Layer
from .program import Instruction, program
from .recipe import Recipe
from .reductions import Reduction, reductions
from .setup import Setup
from .torch_handover import TorchJob
from .values import MAX_PARTS
from .where import Where


@dataclass(frozen=True)
class RankJob:
    """All that a rank needs for a run.

    sizes: of the board. stages: (replica, index) -> (layers, loss or None). weights: which
    versions of them the schedule keeps. reductions: what each REDUCE_GRAD does, by atom. tied: name
    of a parameter -> the first that the model has for it, where that is another. batch: the rank's
    part of a batch that every step uses, or None. durations: seconds of each atom in paced
    mode, or None. resumed: what it goes on from, or None. torch: where torch's own runtime is to
    execute the schedule, else None.
    """

    rank: int
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


def rank_job(setup: Setup, rank: int, torch: TorchJob | None = None) -> RankJob:
    """What a rank runs."""
    schedule, last = setup.schedule, setup.schedule.stages - 1
    stages: dict[tuple[int, int], tuple[list[Layer], Callable | None]] = {}
    for replica, stage in sorted(schedule.placement):
        if schedule.placement[replica, stage] == rank:
            loss = setup.loss if stage == last else None
            stages[replica, stage] = setup.stages[stage], loss
    fixed = setup.data.fixed
    return RankJob(
        rank=rank,
        sizes=board_sizes(setup),
        program=program(schedule, rank, recompute=setup.recipe.recompute == "in-backward"),
        stages=stages,
        weights=schedule.weights,
        recipe=setup.recipe,
        where=setup.where,
        exchange=setup.exchange,
        reductions=reductions(schedule, setup.exchange, rank),
        tied=_tied(setup.layers),
        batch=None if fixed is None else part_of_rank(fixed, setup, rank),
        durations=setup.durations(rank),
        resumed=setup.resumed,
        settings=setup.settings,
        torch=torch,
    )


def _tied(layers: list[Layer]) -> dict[str, str]:
    """Name of a parameter -> the name under which the unsplit model has it, where they differ."""
    first = {parameter: name for name, parameter in named_parameters(layers)}
    tied = {}
    for _, layer, module in layers:
        for name, parameter in module.named_parameters():
            if first[parameter] != f"{layer}.{name}":
                tied[f"{layer}.{name}"] = first[parameter]
    return tied


def part_of_rank(batch: Batch, setup: Setup, rank: int) -> Batch:
    """What a rank needs of a batch: inputs for the first stage, targets for the last."""
    homes = setup.schedule.placement_table
    return Batch(
        batch.inputs if rank in homes[:, 0] else None,
        batch.targets if rank in homes[:, -1] else None,
        batch.shares,
    )


def board_sizes(setup: Setup) -> dict[str, int]:
    """The sizes of a run's board."""
    return {
        "ranks": setup.schedule.ranks,
        "steps": setup.recipe.steps,
        "atoms": len(setup.schedule.kind),
        "microbatches": setup.schedule.microbatches,
        "messages": MAX_PARTS * setup.exchange.total,
    }


@dataclass
class RankResult:
    """What a rank brings home, its tensors packed.

    gradients: of the last step. before: the weights and buffers they belong
    to. state: after the last step; extra_state: what of it is not a tensor.
    optimizer: its state, as bytes. outputs: of each step of evaluation, by micro-batch. If the
    model has two copies, the first one's are returned. peak_memory, peak_reserved: of torch's
    allocator on a GPU, in bytes. waited_for_host: of a GPU, the share of its time.
    """

    gradients: dict[str, tuple] = field(default_factory=dict)
    before: dict[str, tuple] = field(default_factory=dict)
    state: dict[str, tuple] = field(default_factory=dict)
    extra_state: bytes = b""
    optimizer: np.ndarray | None = None
    outputs: list[dict[int, dict]] = field(default_factory=list)
    peak_memory: int | None = None
    peak_reserved: int | None = None
    waited_for_host: float | None = None
