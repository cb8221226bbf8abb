"""Which chain of actions decided the makespan."""

from typing import TYPE_CHECKING

from ..schedule.kinds import COLLECTIVES
from ..schedule.mesh import Place

if TYPE_CHECKING:
    from .timeline import Timeline


def critical_path(timeline: "Timeline") -> list[int]:
    """The chain of actions that decided the makespan.

    From the action that ended last, back to whatever let each one start: the neighbouring stage it
    had to wait for, else the action before it on its rank. Where workers of a mesh do one together,
    its action is that of the one who came last.
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
        last = _last_to_come(timeline, head)
        if last != head:
            path[-1] = head = last
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


def _last_to_come(timeline: "Timeline", atom: int) -> int:
    """The same action of the worker whom the others waited for; the given one if for none."""
    mesh, schedule = timeline.mesh, timeline.schedule
    ranks, worker = schedule.ranks // mesh.planes, int(schedule.rank[atom])
    place: Place = mesh.place(ranks, worker)
    if schedule.kind[atom] in COLLECTIVES:
        group, waited = mesh.data_group(ranks, place), timeline.waiting
    elif timeline.collective is not None:
        group, waited = mesh.tensor_group(ranks, place), timeline.collective
    else:
        return atom
    first = schedule.offsets[:-1]
    same = [int(atom - first[worker] + first[each]) for each in group]
    return min(same, key=lambda each: (waited[each], each != atom))
