"""From the trace in shared memory to Timelines and measured costs."""

import numpy as np

from ..schedule import Kind, Schedule
from ..schedule.longest_path import producers
from ..simulator import Costs
from ..timeline import Timeline
from .board import TRACE


def columns(trace: np.ndarray) -> dict[str, np.ndarray]:
    """A trace of shape (atoms, columns) by name."""
    return {name: trace[:, i] for i, name in enumerate(TRACE)}


def timeline(schedule: Schedule, trace: np.ndarray) -> Timeline:
    """One step's trace, shape (atoms, columns), as a Timeline in seconds from the step's first action."""
    c = columns(trace)
    origin = c["started"].min()
    started, arrived, ended = c["started"] - origin, c["arrived"] - origin, c["ended"] - origin
    asked, sent = c["asked"] - origin, c["sent"] - origin
    first = schedule.offsets[:-1]
    asked[first] = started[first]  # what was before a rank's first action is its warm-up
    sent = np.clip(sent, asked, arrived)
    return Timeline(
        schedule=schedule,
        asked=asked,
        sent=sent,
        arrived=arrived,
        started=started,
        ended=ended,
        compute=ended - started,
        worked=c["worked"],
        bytes_held=c["bytes_held"],
        bytes_after=c["bytes_after"],
        bytes_sent=c["bytes_sent"],
        source="measured",
        unit="s",
        memory_unit="bytes",
    )


def measured_costs(schedule: Schedule, timelines: list[Timeline]) -> Costs:
    """Median seconds of each kind on each stage, and the median time of a transfer that somebody waited for.

    The first step is left out when there are others: it pays for what happens only once.
    """
    steps = timelines[1:] or timelines
    worked = np.concatenate([t.worked for t in steps])
    kind, stage = np.tile(schedule.kind, len(steps)), np.tile(schedule.stage, len(steps))

    def medians(which: Kind) -> list[float]:
        return [float(np.median(worked[(kind == which) & (stage == s)])) for s in range(schedule.stages)]

    producer = producers(schedule)
    remote = (producer >= 0) & (schedule.rank[producer] != schedule.rank)
    waited = np.concatenate([t.transfer[remote & (t.sent > t.asked)] for t in steps])
    latency = float(np.median(waited)) if len(waited) else 0.0
    return Costs(forward=medians(Kind.F), backward=medians(Kind.B), latency=latency)
