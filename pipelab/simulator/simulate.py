"""Schedule + costs -> Timeline."""

import numpy as np

from ..errors import UsageError
from ..schedule import Kind, Mesh, Schedule, require_legal, spread
from ..schedule.check import check_each_rank
from ..schedule.longest_path import LongestPath, longest_path
from ..schedule.versions import versions
from ..timeline import Timeline
from .costs import Costs
from .memory import Levels, Memory, activations, memory_over_time
from .mesh import with_mesh
from .optimizer import with_optimizer
from .recompute import with_recompute


def simulate(
    schedule: Schedule,
    costs: Costs | None = None,
    *,
    recompute: str | None = None,
    optimizer: str | None = None,
    steps: int = 1,
    memory: Memory | None = None,
    mesh: Mesh | None = None,
) -> Timeline:
    """Predict when each action runs: as soon as its rank is free and its inputs have arrived.

    Args:
        schedule: What each rank does, in what order.
        costs: Durations by kind and stage, and what data between ranks takes.
        recompute: None, "in-backward" or "early", with ``costs.recompute`` as the duration.
        optimizer: None, or a STEP of every stage at the end, with ``costs.step`` as the duration:
            "local" when the rank is done, "barrier" when all ranks are.
        steps: How often all of it runs in a row, with an optimizer.
        memory: Bytes per stage. Without it the timeline counts activations, of one stage for one
            micro-batch.
        mesh: Copies of the pipeline and workers that share its layers: the ranks of the timeline
            are all of its workers. Of a schedule without collectives they stand where
            ``Schedule.with_data_parallel`` puts them.

    Returns:
        A Timeline in the units of the costs.

    Raises:
        ScheduleError: the schedule cannot run; with the reason.
        UsageError: the costs do not fit it.

    >>> from pipelab.catalogue import build
    >>> simulate(build("gpipe", ranks=4, microbatches=8)).makespan
    33.0
    """
    costs = Costs() if costs is None else costs
    if mesh is not None:
        schedule, costs = with_mesh(schedule, costs, mesh)
    require_legal(schedule, check_each_rank)
    schedule = _repeated(schedule, optimizer, steps)
    barriers, in_backward = optimizer == "barrier", recompute == "in-backward"
    if recompute is not None:
        schedule, costs = with_recompute(schedule, costs, recompute)
    if mesh is not None:
        schedule = spread(schedule, mesh)
    duration = costs.per_atom(schedule)
    path = _path(schedule, costs, duration, barriers=barriers)
    started, ended = path.started[path.cell_of], path.ended[path.cell_of]
    asked, sent = _waits(schedule, path, barriers=barriers)
    parts, (held, after) = _levels(schedule, memory, recomputed=in_backward)
    return Timeline(
        schedule=schedule,
        asked=asked,
        sent=sent,
        arrived=started,
        started=started,
        ended=ended,
        compute=duration,
        worked=duration,
        bytes_held=held,
        bytes_after=after,
        bytes_sent=np.zeros(len(duration)),
        transit=None if path.arrival is None else path.arrival - ended[path.producer],
        memory=parts,
        memory_unit="bytes" if memory else "activations",
        version=versions(schedule),
        mesh=mesh or Mesh(),
    )


def _repeated(schedule: Schedule, optimizer: str | None, steps: int) -> Schedule:
    """The schedule as often as it is to run, with optimizer steps between."""
    if optimizer is not None:
        return with_optimizer(schedule, optimizer, steps)
    if steps != 1:
        raise UsageError(
            "steps in a row are divided by optimizer steps: say how, optimizer='local' or "
            "'barrier'."
        )
    return schedule


def _path(schedule: Schedule, costs: Costs, duration: np.ndarray, *, barriers: bool) -> LongestPath:
    """The times of every cell. Raises ScheduleError for a deadlock, which it describes."""
    latency, occupancy = costs.transfers(schedule)
    with np.errstate(over="ignore"):
        path = longest_path(schedule, duration, latency, occupancy=occupancy, barriers=barriers)
    if not path.complete:
        require_legal(schedule)
    if not np.max(path.ended) * schedule.ranks < np.inf:
        raise UsageError(
            "These times add up to more than a number can hold (1.8e308): give them in a larger "
            "unit."
        )
    return path


def _levels(
    schedule: Schedule, memory: Memory | None, *, recomputed: bool
) -> tuple[dict[str, Levels], Levels]:
    """What each rank holds: the parts by name, if bytes are counted, and all of it."""
    if memory is None:
        return {}, activations(schedule, Memory(), recomputed=recomputed)
    parts = memory_over_time(schedule, memory, recomputed=recomputed)
    held, after = (np.sum(levels, axis=0) for levels in zip(*parts.values(), strict=True))
    return parts, (held, after)


def _waits(
    schedule: Schedule, path: LongestPath, *, barriers: bool
) -> tuple[np.ndarray, np.ndarray]:
    """When each atom asked for its input, and when the other rank sent it.

    The first action of a rank asks when it starts, and so does the second atom of an overlapped
    pair.
    """
    started, ended = path.started[path.cell_of], path.ended[path.cell_of]
    previous = np.concatenate([[0.0], path.ended[:-1]])
    previous[[low for low, _ in path.cell_slices]] = np.inf
    asked = np.where(schedule.heads, np.minimum(previous[path.cell_of], started), started)
    handed = np.where(schedule.crosses, ended[path.producer], -np.inf)
    if schedule.overlaps:  # the pair starts when the later of its two inputs has arrived
        latest = np.maximum.reduceat(handed, np.flatnonzero(schedule.heads))
        handed = np.where(schedule.heads, latest[path.cell_of], -np.inf)
    if barriers:  # what a step waits for is the last rank to come to it
        handed = np.where(schedule.kind == Kind.STEP, started, handed)
    return asked, np.clip(handed, asked, started)
