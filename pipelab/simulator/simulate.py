"""Schedule + costs -> Timeline."""

import numpy as np

from ..schedule import Schedule, require_legal
from ..schedule.check import check_each_rank
from ..schedule.longest_path import longest_path
from ..schedule.versions import versions
from ..timeline import Timeline
from .costs import Costs
from .memory import held_activations
from .recompute import with_recompute


def simulate(schedule: Schedule, costs: Costs | None = None, *, recompute: str | None = None) -> Timeline:
    """Predicts when each action runs: as soon as its rank is free and its inputs have arrived.

    costs: durations by kind and stage, and the latency between ranks. recompute: None, "in-backward" or "early", with
    ``costs.recompute`` as the duration. Returns a Timeline in the units of the costs.
    Raises ScheduleError, with the reason, for a schedule that cannot run; UsageError for costs that do not fit it.

    >>> from pipelab.catalogue import build
    >>> simulate(build("gpipe", ranks=4, microbatches=8)).makespan
    33.0
    """
    costs = Costs() if costs is None else costs
    require_legal(schedule, check_each_rank)
    if recompute is not None:
        schedule, costs = with_recompute(schedule, costs, recompute)
    duration = costs.per_atom(schedule)
    path = longest_path(schedule, duration, costs.latency)
    if not path.complete:
        require_legal(schedule)  # a deadlock: says which
    started, ended = path.started[path.cell_of], path.ended[path.cell_of]
    heads = np.concatenate([[True], np.diff(path.cell_of) > 0])
    previous = np.concatenate([[0.0], path.ended[:-1]])
    previous[[low for low, _ in path.cell_slices]] = np.inf
    # The first action of a rank asks when it starts, and so does the second atom of an overlapped pair.
    asked = np.where(heads, np.minimum(previous[path.cell_of], started), started)
    producer = path.producer
    remote = (producer >= 0) & (schedule.rank[producer] != schedule.rank)
    handed = np.where(remote, ended[producer], -np.inf)
    if schedule.overlaps:  # the pair starts when the later of its two inputs has arrived
        latest = np.maximum.reduceat(handed, np.flatnonzero(heads))
        handed = np.where(heads, latest[path.cell_of], -np.inf)
    sent = np.clip(handed, asked, started)
    held, after = held_activations(schedule)
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
        version=versions(schedule),
    )


