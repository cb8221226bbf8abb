"""Schedule + costs -> Timeline."""

import numpy as np

from ..errors import UsageError
from ..schedule import Mesh, Schedule, require_legal, spread
from ..schedule.check import check_each_rank
from ..schedule.longest_path import LongestPath, Meetings, longest_path
from ..schedule.versions import versions
from ..timeline import Timeline
from ..timeline.metrics import ROUNDING
from .costs import Costs
from .memory import Levels, Memory, activations, memory_over_time
from .mesh import Passes, Together, passes, together, with_collectives
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
            ``Schedule.with_data_parallel`` puts them. A collective begins when the last worker of
            its group has come to it; inside F and B, or I, that is ``Timeline.collective``.

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
    mesh = Mesh() if mesh is None else mesh
    schedule = with_collectives(schedule, mesh)
    require_legal(schedule, check_each_rank)
    schedule = _repeated(schedule, optimizer, steps)
    passing = passes(costs)
    if recompute is not None:
        passing = Passes(*(with_recompute(schedule, each, recompute)[1] for each in passing))
        schedule, costs = with_recompute(schedule, costs, recompute)
    schedule = spread(schedule, mesh)
    doing = together(schedule, costs, passing, mesh, barriers=optimizer == "barrier")
    path = _path(schedule, costs, doing)
    started, ended = path.started[path.cell_of], path.ended[path.cell_of]
    asked, sent = _waits(schedule, path, doing.meetings)
    # An action in which others are waited for lasts as long as they make it.
    inside = np.where(doing.shares, ended - started - doing.alone, 0.0)
    inside[inside < ROUNDING * ended.max()] = 0.0
    compute = doing.alone + inside
    parts, (held, after) = _levels(schedule, memory, recomputed=recompute == "in-backward")
    return Timeline(
        schedule=schedule,
        asked=asked,
        sent=sent,
        arrived=started,
        started=started,
        ended=ended,
        compute=compute,
        worked=compute,
        bytes_held=held,
        bytes_after=after,
        bytes_sent=np.zeros(len(compute)),
        transit=None if path.arrival is None else path.arrival - ended[path.producer],
        memory=parts,
        memory_unit="bytes" if memory else "activations",
        version=versions(schedule),
        collective=inside if mesh.tensor > 1 else None,
        collective_bytes=doing.sent if mesh.tensor > 1 else None,
        mesh=mesh,
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


def _path(schedule: Schedule, costs: Costs, doing: Together) -> LongestPath:
    """The times of every cell. Raises ScheduleError for a deadlock, which it describes."""
    latency, occupancy = costs.transfers(schedule)
    with np.errstate(over="ignore"):
        path = longest_path(
            schedule, doing.duration, latency, occupancy=occupancy, meetings=doing.meetings
        )
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
    schedule: Schedule, path: LongestPath, meetings: Meetings | None
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
    if meetings is not None:  # what is waited for at a meeting is the last one to come
        begins = (meetings.number >= 0) & (meetings.before == 0)
        handed = np.where(begins[path.cell_of], started, handed)
    return asked, np.clip(handed, asked, started)
