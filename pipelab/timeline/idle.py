"""Why a rank stood idle, and which chain of actions decided the makespan."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..schedule import Kind
from ..schedule.longest_path import producers

if TYPE_CHECKING:
    from .timeline import Timeline


class Idle(NamedTuple):
    """An idle interval of a rank.

    cause: "warm-up" before the rank's first action, "upstream-forward" or "downstream-backward" while it waited for
    another rank, "transfer" while data was under way, "gap" between two actions that waited for nothing, "cool-down"
    after its last action. ended_by: index of the action whose start ended it; None for cool-down.
    """

    rank: int
    start: float
    end: float
    cause: str
    ended_by: int | None


def idle_intervals(timeline: "Timeline") -> list[Idle]:
    """Idle intervals in order of rank and time. Together they are exactly the idle time of each rank."""
    schedule, out = timeline.schedule, []
    begin, finish = float(timeline.started.min()), float(timeline.ended.max())
    asked, sent, arrived, ended = (a.tolist() for a in (timeline.asked, timeline.sent, timeline.arrived, timeline.ended))
    kind = schedule.kind.tolist()

    def add(rank, start, end, cause, ended_by):
        if end > start:
            out.append(Idle(rank, start, end, cause, ended_by))

    for rank in range(schedule.ranks):
        low, high = int(schedule.offsets[rank]), int(schedule.offsets[rank + 1])
        add(rank, begin, arrived[low], "warm-up", low)
        for i in range(low + 1, high):
            handed = max(asked[i], sent[i])
            add(rank, ended[i - 1], asked[i], "gap", i)
            add(rank, asked[i], handed, "upstream-forward" if kind[i] == Kind.F else "downstream-backward", i)
            add(rank, handed, arrived[i], "transfer", i)
        add(rank, ended[high - 1], finish, "cool-down", None)
    return out


def critical_path(timeline: "Timeline") -> list[int]:
    """The chain of actions that decided the makespan.

    From the action that ended last, back to whatever let each one start: the neighbouring stage it had to wait for, else
    the action before it on its rank.
    """
    schedule = timeline.schedule
    producer = producers(schedule).tolist()
    ends = timeline.ended.tolist()
    first = set(schedule.offsets[:-1].tolist())
    joined = set((np.flatnonzero((np.diff(schedule.cell) == 0) & (np.diff(schedule.rank) == 0)) + 1).tolist())
    atom = int(timeline.ended.argmax())
    path = [atom]
    while True:
        head = atom - 1 if atom in joined else atom  # an overlapped pair waits as one
        sources = [producer[i] for i in (head, head + 1) if (i == head or i in joined) and producer[i] >= 0]
        if sources and (head in first or timeline.arrived[head] > timeline.asked[head]):
            atom = max(sources, key=ends.__getitem__)
        elif head in first:
            return path[::-1]
        else:
            atom = head - 1
        path.append(atom)
