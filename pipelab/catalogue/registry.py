"""The registry: every schedule by name."""

from ..errors import UnknownName, UsageError
from ..schedule import Schedule
from ..simulator import Costs
from .asynchronous import PIPEDREAM, PIPEDREAM_2BW
from .auto import AUTO
from .chimera import CHIMERA
from .controllable_memory import V_HALF, V_MIN
from .dual_pipe import DUALPIPE, DUALPIPE_V
from .entry import Entry
from .gpipe import GPIPE
from .hanayo import HANAYO
from .interleaved import INTERLEAVED_1F1B, INTERLEAVED_ZB, LOOPED_BFS
from .naive import NAIVE
from .one_f_one_b import EAGER_1F1B, ONE_F_ONE_B
from .zb_automatic import ZB_1P, ZB_2P
from .zb_v import ZB_V
from .zero_bubble import ZB_H1, ZB_H2

_ENTRIES = {
    entry.name: entry
    for entry in (
        NAIVE,
        GPIPE,
        ONE_F_ONE_B,
        EAGER_1F1B,
        INTERLEAVED_1F1B,
        LOOPED_BFS,
        INTERLEAVED_ZB,
        ZB_H1,
        ZB_H2,
        ZB_1P,
        ZB_2P,
        ZB_V,
        V_HALF,
        V_MIN,
        DUALPIPE,
        DUALPIPE_V,
        CHIMERA,
        HANAYO,
        PIPEDREAM,
        PIPEDREAM_2BW,
        AUTO,
    )
}


def names() -> list[str]:
    """The names of all schedules, simplest first."""
    return list(_ENTRIES)


def entry(name: str) -> Entry:
    """The catalogue's entry for a name.

    Raises UnknownName, which lists the names and the nearest.
    """
    if name not in _ENTRIES:
        raise UnknownName("schedule", name, _ENTRIES)
    return _ENTRIES[name]


def build(
    name: str,
    *,
    ranks: int,
    microbatches: int,
    stages_per_rank: int | None = None,
    costs: Costs | None = None,
    memory_limit: float | None = None,
    placement: str | None = None,
) -> Schedule:
    """Build a schedule by name.

    Args:
        name: One of ``names()``.
        ranks: How many there are.
        microbatches: How many there are.
        stages_per_rank: How many each rank has; by default what the schedule usually has.
        costs: What auto, zb-1p and zb-2p are built for; the others do not depend on them.
        memory_limit: For auto only: the activations of one micro-batch through all of a rank's
            layers that it may hold. Default: ``ranks``, as 1F1B.
        placement: For auto only: "loop" (one stage per rank) or "v" (two); see
            ``pipelab.search.best``.

    Returns:
        The schedule.

    Raises:
        UnknownName: the name is unknown; it lists the names.
        UsageError: the counts are impossible; it says what is possible.

    >>> print(build("1f1b", ranks=2, microbatches=2).grid())
    rank 0  0F0 0F1 .   0B0 .   0B1
    rank 1  .   1F0 1B0 1F1 1B1 .
    """
    found = entry(name)
    size = (ranks, microbatches, stages_per_rank, costs, memory_limit, placement)
    problem = found.problem(*size)
    if problem:
        raise UsageError(problem)
    return found.build(*size)
