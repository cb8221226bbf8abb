"""REDUCE_GRAD: when a rank sends the gradients of shared parameters, and when it sums them.

    rank 0   … 0B3 │ 0REDUCE_GRAD  send ─╮ ╭─ receive ▸ sum
    rank 1   … 1B3 │ 1REDUCE_GRAD  send ─┼─╯
                                         ╰──▸ receive ▸ sum

A rank sends at its first REDUCE_GRAD behind the last gradient of the parameters, and sums at the
last one of the stages that use them. Sends never wait. So where all REDUCE_GRAD stand at the end
of their rank, as they do unless somebody puts them elsewhere, no two ranks can wait for each other.
"""

from dataclasses import dataclass, replace

import numpy as np

from ...errors import UsageError
from ...schedule import Kind, Schedule
from .exchange import Exchange, Layer, plan_exchange

_MAKES_GRADIENTS = (Kind.B, Kind.W)
Part = tuple[int, int]
"""(replica, stage)"""


@dataclass
class Reduction:
    """What one REDUCE_GRAD does: numbers of ``Exchange.shared``."""

    sends: list[int]
    sums: list[int]


def with_reductions(schedule: Schedule, stages: list[list[Layer]]) -> Schedule:
    """The schedule in which every stage that shares parameters sums their gradients.

    Where a REDUCE_GRAD is missing, it is put at the end of the rank.
    """
    exchange = plan_exchange(stages, schedule, meet=False)
    is_reduce = schedule.kind == Kind.REDUCE_GRAD
    given = set(zip(schedule.replica[is_reduce], schedule.stage[is_reduce], strict=True))
    missing: list[list[Part]] = []
    for rank in range(schedule.ranks):
        sharing: set[Part] = set()
        for shared in exchange.shared:
            sharing |= shared.parts_on(rank)
        missing.append(sorted(sharing - given))
    if not any(missing):
        return schedule
    at = np.repeat(schedule.offsets[1:], [len(parts) for parts in missing])
    replicas = [replica for parts in missing for replica, _ in parts]
    numbers = [stage for parts in missing for _, stage in parts]
    cells: list[int] = []
    for (_, high), parts in zip(schedule.slices, missing, strict=True):
        cells += range(
            int(schedule.cell[high - 1]) + 1, int(schedule.cell[high - 1]) + 1 + len(parts)
        )
    added = np.array([len(parts) for parts in missing])
    return replace(
        schedule,
        kind=np.insert(schedule.kind, at, np.int8(Kind.REDUCE_GRAD)),
        stage=np.insert(schedule.stage, at, numbers),
        microbatch=np.insert(schedule.microbatch, at, 0),
        replica=np.insert(schedule.replica, at, replicas),
        cell=np.insert(schedule.cell, at, cells),
        offsets=schedule.offsets + np.concatenate([[0], np.cumsum(added)]),
    )


def reductions(
    schedule: Schedule, exchange: Exchange, rank: int, *, once: bool = True
) -> dict[int, Reduction]:
    """What each REDUCE_GRAD of a rank does with what stages share, by atom.

    Raises UsageError for a stage that sums its gradients twice in a step, if it may do so once.
    """
    low, high = schedule.slices[rank]
    found: dict[int, Reduction] = {}
    part_of: dict[int, Part] = {}
    last_gradient: dict[Part, int] = {}
    for atom in range(low, high):
        part = int(schedule.replica[atom]), int(schedule.stage[atom])
        if schedule.kind[atom] in _MAKES_GRADIENTS:
            last_gradient[part] = atom
        elif schedule.kind[atom] == Kind.REDUCE_GRAD:
            if once and part in part_of.values():
                raise UsageError(
                    f"{schedule.atom(atom)} stands twice on rank {rank}. A run sums the gradients "
                    "of a stage once a step: leave one of the two out."
                )
            part_of[atom], found[atom] = part, Reduction([], [])
    for number, shared in enumerate(exchange.shared):
        parts = shared.parts_on(rank)
        if not parts:
            continue
        complete = max(last_gradient[part] for part in parts)
        found[min(atom for atom in found if atom > complete)].sends.append(number)
        found[max(atom for atom in found if part_of[atom] in parts)].sums.append(number)
    return found


def check_reductions(schedule: Schedule, exchange: Exchange, *, once: bool = True) -> None:
    """Raise UsageError where ranks would wait for each other's REDUCE_GRAD for ever."""
    sent_at: dict[int, list[int]] = {}
    sums: dict[int, list[int]] = {}
    for rank in range(schedule.ranks):
        for atom, reduction in reductions(schedule, exchange, rank, once=once).items():
            sums[atom] = reduction.sums
            for number in reduction.sends:
                sent_at.setdefault(number, []).append(atom)
    position = [low for low, _ in schedule.slices]
    producer, rank_of = schedule.producer.tolist(), schedule.rank.tolist()

    def blocked(atom: int) -> bool:
        """An input is not there yet, or a rank has not come to where it sends."""
        if producer[atom] >= 0 and position[rank_of[producer[atom]]] <= producer[atom]:
            return True
        needed = [source for number in sums.get(atom, ()) for source in sent_at[number]]
        return any(position[rank_of[source]] < source for source in needed)

    moved = True
    while moved:
        moved = False
        for rank, (_, high) in enumerate(schedule.slices):
            while position[rank] < high and not blocked(position[rank]):
                position[rank] += 1
                moved = True
    stuck = [rank for rank, (_, high) in enumerate(schedule.slices) if position[rank] < high]
    if stuck:
        waits = ", ".join(f"rank {rank} at {schedule.atom(position[rank])}" for rank in stuck)
        raise UsageError(
            f"With these REDUCE_GRAD ranks wait for one another for ever: {waits}. A rank sums "
            "gradients only when the others have sent theirs: move REDUCE_GRAD to the end of the "
            "ranks, or leave them out, and the run puts them there."
        )
