"""Which parameters each REDUCE_GRAD sums over the copies of a pipeline."""

from torch import nn

from ...schedule import Kind
from ..job.rank_job import RankJob
from ..mesh.copies import Part
from .shared_gradients import SharedGradients


def reduced_by(
    job: RankJob,
    trained: dict[Part, list[nn.Parameter]],
    shared_gradients: SharedGradients,
    *,
    every_time: bool,
) -> dict[int, list[nn.Parameter]]:
    """The parameters of each REDUCE_GRAD of a rank, by its atom.

    What stages of the pipeline share, they sum first, and the same action sums it over the copies.

    Args:
        job: of the rank.
        trained: the parameters of each (replica, stage).
        shared_gradients: what the stages of the pipeline share.
        every_time: each REDUCE_GRAD of a stage sums its parameters, not the last one alone.
    """
    reduced: dict[int, list[nn.Parameter]] = {}
    shared: set[nn.Parameter] = set()
    for atom, reduction in job.reductions.items():
        reduced[atom] = []
        for number in reduction.sums:
            for mine in shared_gradients.held(job.exchange.shared[number]).values():
                reduced[atom] += mine
                shared.update(mine)
    reduces = [each for each in job.program if each.kind == Kind.REDUCE_GRAD]
    last: dict[nn.Parameter, int] = {}
    for each in reduces:
        last |= dict.fromkeys(trained[each.replica, each.stage], each.atom)
    for each in reduces:
        for parameter in trained[each.replica, each.stage]:
            if parameter not in shared and (every_time or last[parameter] == each.atom):
                reduced[each.atom].append(parameter)
    return reduced
