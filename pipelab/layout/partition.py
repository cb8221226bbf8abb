"""``partition``: the layers of each stage, so that the slowest rank is as fast as it can be."""

from collections.abc import Sequence

from ..catalogue import build
from ..catalogue.entry import Size, from_lists, wave
from ..errors import UsageError
from ..schedule import Kind, Schedule
from ..simulator import Link
from .cutter import Cutter, Partition
from .folding import Folding
from .profile import Profile


def partition(  # noqa: PLR0913 - the contract's
    profile: Profile,
    *,
    ranks: int,
    stages_per_rank: int | None = None,
    placement: str | None = None,
    link: Link | None = None,
    memory_limit: float | None = None,
    schedule: str | Schedule = "1f1b",
    microbatches: int | None = None,
    optimizer: str = "adam",
    sizes: Sequence[int] | None = None,
) -> Partition:
    """Cut a profiled model into stages: the best cuts there are, not a heuristic's.

    Best is what makes the slowest rank as fast as possible: the sum of F, I and W of its stages for
    one micro-batch, or the transfer of an output to another rank, if that is longer. Of equal ones,
    that with the shortest makespan; where there are more than can be simulated, a search from cut
    to cut among them. No rank holds more than ``memory_limit`` in any of its moments.

    Args:
        profile: of the layers.
        ranks: how many there are.
        stages_per_rank: how many each rank has; default: what the schedule usually has, so 1.
        placement: "loop" or "v" (the second stage of a rank is the last but so many as its first is
            from the first). Default: the schedule's, which is a loop for the default schedule.
        link: between any two ranks; without one, transfers take no time.
        memory_limit: bytes that a rank may hold: weights, gradients, the optimizer's state, and
            what it has saved of the micro-batches in flight.
        schedule: a name or a Schedule; for several stages per rank "1f1b" stands for
            "interleaved-1f1b" in a loop, and in a V for "zb-v" (two), "hanayo" (an even number) or
            all micro-batches stage by stage.
        microbatches: of a step; default: twice the ranks, or the Schedule's.
        optimizer: "sgd", "momentum" or "adam", which keep 0, 1 or 2 numbers for each parameter.
        sizes: layers of each stage: what these give, instead of the best.

    Returns:
        A Partition, with ``even`` and ``parameters`` beside it.

    Raises:
        UsageError: fewer layers than stages; a limit that no partition keeps, with the least that
            one does; sizes that do not fit.

    >>> from pipelab.layout import LayerProfile
    >>> loss = LayerProfile("loss", 0, 0, 0, 0, 0, 0, 0)
    >>> layers = [LayerProfile(str(i), t, t, t, 8, 0, 8, 4) for i, t in enumerate((1, 1, 1, 3))]
    >>> found = partition(Profile("cpu", "float32", 1, tuple(layers), loss), ranks=2)
    >>> found.sizes, found.slowest, found.even.slowest
    ([3, 1], 9.0, 12.0)
    """
    order = schedule_for(schedule, ranks, stages_per_rank, placement, microbatches)
    return Cutter(profile, order, link, optimizer).partition(memory_limit, sizes)


_PLACING = {
    "loop": "interleaved-1f1b, looped-bfs or interleaved-zb",
    "v": "zb-v, v-half, v-min, dualpipe-v or hanayo",
}


def schedule_for(
    schedule: str | Schedule,
    ranks: int,
    stages_per_rank: int | None,
    placement: str | None,
    microbatches: int | None,
) -> Schedule:
    """The schedule that a partition is for. Raises UsageError where the arguments contradict."""
    if placement not in (None, *_PLACING):
        raise UsageError(f"placement is {placement!r}; it is 'loop' or 'v'.")
    if isinstance(schedule, str):
        m = 2 * ranks if microbatches is None else microbatches
        name = schedule
        if name == "1f1b" and stages_per_rank not in (None, 1):
            name = "interleaved-1f1b"
            if placement == "v":
                name = "zb-v" if stages_per_rank == 2 else "hanayo"
            if name == "hanayo" and stages_per_rank is not None and stages_per_rank % 2:
                return _breadth_first(Size(ranks, m, stages_per_rank))
        schedule = build(name, ranks=ranks, microbatches=m, stages_per_rank=stages_per_rank)
    elif microbatches not in (None, schedule.microbatches) or ranks != schedule.ranks:
        raise UsageError(
            f"The schedule {schedule.name} is for {schedule.ranks} ranks and "
            f"{schedule.microbatches} micro-batches."
        )
    if placement is not None:
        folding = Folding.of(schedule)
        if min(folding.blocks, len(folding.groups)) > 1 and folding.folded != (placement == "v"):
            raise UsageError(
                f"{schedule.name} does not place its stages as placement={placement!r} says: use "
                f"{_PLACING[placement]}."
            )
    return schedule


def _breadth_first(size: Size) -> Schedule:
    """All micro-batches through one stage after the other, and back: in a V of any size."""
    place, rows = wave(size), []
    for rank in range(size.ranks):
        stages = sorted(stage for (_, stage), home in place.items() if home == rank)
        pairs = [(stage, i) for stage in stages for i in range(size.microbatches)]
        forwards = [(Kind.F, *pair) for pair in pairs]
        rows.append(forwards + [(Kind.B, *pair) for pair in reversed(pairs)])
    return from_lists("breadth-first", rows, size, place)
