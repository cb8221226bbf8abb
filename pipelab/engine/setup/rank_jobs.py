"""What goes to each rank of a setup, and how large the run's board is."""

from collections.abc import Callable

from ..job.batches import Batch
from ..job.exchange import Layer
from ..job.program import program
from ..job.rank_job import RankJob
from ..job.reductions import reductions
from ..job.torch_handover import TorchJob
from ..job.values import MAX_PARTS
from ..travel.checkpoint import named_parameters
from .setup import Setup


def rank_job(setup: Setup, worker: int, torch: TorchJob | None = None) -> RankJob:
    """What a worker runs: a rank, in its place of the mesh."""
    schedule, last = setup.schedule, setup.schedule.stages - 1
    place = setup.mesh.place(schedule.ranks, worker)
    rank = place.rank
    stages: dict[tuple[int, int], tuple[list[Layer], Callable | None]] = {}
    for replica, stage in sorted(schedule.placement):
        if schedule.placement[replica, stage] == rank:
            loss = setup.loss if stage == last else None
            stages[replica, stage] = setup.stages[stage], loss
    fixed = setup.data.fixed
    return RankJob(
        rank=rank,
        mesh=setup.mesh,
        place=place,
        plan=setup.plan,
        first_atom=int(setup.world.offsets[worker] - schedule.offsets[rank]),
        sizes=board_sizes(setup),
        program=program(schedule, rank, recompute=setup.recipe.recompute == "in-backward"),
        stages=stages,
        weights=schedule.weights,
        recipe=setup.recipe,
        where=setup.where,
        exchange=setup.exchange,
        reductions=reductions(schedule, setup.exchange, rank, once=setup.mesh.data == 1),
        tied=_tied(setup.layers),
        batch=None if fixed is None else part_of_worker(fixed, setup, worker),
        durations=setup.durations(worker),
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


def part_of_worker(batch: Batch, setup: Setup, worker: int) -> Batch:
    """What a worker needs of a batch.

    The micro-batches of its copy: inputs for the first stage, targets for the last.
    """
    homes, count = setup.schedule.placement_table, setup.schedule.microbatches
    place = setup.mesh.place(setup.schedule.ranks, worker)
    mine = slice(place.data * count, (place.data + 1) * count)
    return Batch(
        batch.inputs[mine] if batch.inputs and place.rank in homes[:, 0] else None,
        batch.targets[mine] if batch.targets and place.rank in homes[:, -1] else None,
        batch.shares[mine],
    )


def board_sizes(setup: Setup) -> dict[str, int]:
    """The sizes of a run's board."""
    return {
        "ranks": setup.world.ranks,
        "steps": setup.recipe.steps,
        "atoms": len(setup.world.kind),
        "microbatches": setup.mesh.planes * setup.schedule.microbatches,
        "messages": MAX_PARTS * setup.mesh.planes * setup.exchange.total,
    }
