"""Schedule + costs -> Timeline."""

import numpy as np

from ..errors import UsageError
from ..schedule import Kind, Schedule, require_legal
from ..schedule.check import check_each_rank
from ..schedule.longest_path import longest_path
from ..schedule.versions import versions
from ..timeline import Timeline
from .costs import Costs
from .memory import Memory, activations, memory_over_time
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
) -> Timeline:
    """Predicts when each action runs: as soon as its rank is free and its inputs have arrived.

    costs: durations by kind and stage, and what data between ranks takes. recompute: None,
    "in-backward" or "early", with ``costs.recompute`` as the duration. optimizer: None, or a STEP
    of every stage at the end, with ``costs.step`` as the duration: "local" when the rank is done,
    "barrier" when all ranks are; then ``steps`` is how often all of it runs in a row. memory: bytes
    per stage; without it the timeline counts activations, of one stage for one micro-batch. Returns
    a Timeline in the units of the costs. Raises ScheduleError, with the reason, for a schedule that
    cannot run; UsageError for costs that do not fit it.

    >>> from pipelab.catalogue import build
    >>> simulate(build("gpipe", ranks=4, microbatches=8)).makespan
    33.0
    """
    costs = Costs() if costs is None else costs
    require_legal(schedule, check_each_rank)
    if optimizer is not None:
        schedule = with_optimizer(schedule, optimizer, steps)
    elif steps != 1:
        raise UsageError(
            "steps in a row are divided by optimizer steps: say how, optimizer='local' or "
            "'barrier'."
        )
    if recompute is not None:
        schedule, costs = with_recompute(schedule, costs, recompute)
    duration = costs.per_atom(schedule)
    latency, occupancy = costs.transfers(schedule)
    path = longest_path(
        schedule, duration, latency, occupancy=occupancy, barriers=optimizer == "barrier"
    )
    if not path.complete:
        require_legal(schedule)  # a deadlock: says which
    started, ended = path.started[path.cell_of], path.ended[path.cell_of]
    heads = schedule.heads
    previous = np.concatenate([[0.0], path.ended[:-1]])
    previous[[low for low, _ in path.cell_slices]] = np.inf
    # The first action of a rank asks when it starts, and so does the second atom of an overlapped
    # pair.
    asked = np.where(heads, np.minimum(previous[path.cell_of], started), started)
    producer = path.producer
    handed = np.where(schedule.crosses, ended[producer], -np.inf)
    if schedule.overlaps:  # the pair starts when the later of its two inputs has arrived
        latest = np.maximum.reduceat(handed, np.flatnonzero(heads))
        handed = np.where(heads, latest[path.cell_of], -np.inf)
    if optimizer == "barrier":  # what a step waits for is the last rank to come to it
        handed = np.where(schedule.kind == Kind.STEP, started, handed)
    sent = np.clip(handed, asked, started)
    parts = memory_over_time(schedule, memory, recompute == "in-backward") if memory else {}
    levels = parts or {"activations": activations(schedule, Memory(), recompute == "in-backward")}
    held, after = (sum(level[i] for level in levels.values()) for i in (0, 1))
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
        transit=None if path.arrival is None else path.arrival - ended[producer],
        memory=parts,
        memory_unit="bytes" if memory else "activations",
        version=versions(schedule),
    )
