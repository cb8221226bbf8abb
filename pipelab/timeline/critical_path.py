"""Which chain of actions decided the makespan."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .timeline import Timeline


def critical_path(timeline: "Timeline") -> list[int]:
    """The chain of actions that decided the makespan.

    From the action that ended last, back to whatever let each one start: the neighbouring stage it
    had to wait for, else the action before it on its rank.
    """
    schedule = timeline.schedule
    producer = schedule.producer.tolist()
    ends = timeline.ended.tolist()
    first = set(schedule.offsets[:-1].tolist())
    joined = set(schedule.seconds.tolist())
    atom = int(timeline.ended.argmax())
    path = [atom]
    while True:
        head = atom - 1 if atom in joined else atom  # an overlapped pair waits as one
        sources = [
            producer[i] for i in (head, head + 1) if (i == head or i in joined) and producer[i] >= 0
        ]
        if sources and (head in first or timeline.arrived[head] > timeline.asked[head]):
            atom = max(sources, key=ends.__getitem__)
        elif head in first:
            return path[::-1]
        else:
            atom = head - 1
        path.append(atom)
