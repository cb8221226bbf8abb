"""Where the copies of a pipeline exchange weights and gradients: UNSHARD, RESHARD, REDUCE_GRAD.

    ZeRO 0   0F0 0F1 … 0B0 0B1 0REDUCE_GRAD                        gradients once
    ZeRO 1   0UNSHARD 0F0 0F1 … 0B0 0B1 0REDUCE_GRAD               and weights once
    ZeRO 2   0UNSHARD 0F0 0F1 … 0B0 0REDUCE_GRAD 0B1 0REDUCE_GRAD  gradients m times
    ZeRO 3   0UNSHARD 0F0 0RESHARD … 0UNSHARD 0B0 0RESHARD …       weights 2m times

Source: Rajbhandari et al. 2020, "ZeRO", §5 and §7; what it costs a pipeline, that each micro-batch
needs weights and gradients anew, is counted by these actions.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from ..errors import UsageError
from .action import Action, Overlap
from .collectives import USES_WEIGHTS
from .kinds import COLLECTIVES, Kind
from .mesh import ZERO
from .schedule import Schedule

Part = tuple[int, int]
"""(replica, stage)"""
MAKES_GRADIENTS = (Kind.B, Kind.W)


def with_data_parallel(
    schedule: Schedule, *, zero: int = 0, overlap: bool = True, reshard: bool = True
) -> Schedule:
    """The schedule with what the copies of its pipeline do together.

    Args:
        schedule: Of one pipeline, without collectives.
        zero: The stage of ZeRO, 0 to 3.
        overlap: Sum the gradients of a stage as soon as they are complete; else at the end.
        reshard: With ZeRO 3, give the weights back after every action; else keep them from a
            stage's first forward to its last backward.

    Returns:
        A schedule with more actions; its forwards and backwards stand in the same order.

    Raises:
        UsageError: it has collectives already, or steps the optimizer itself under ZeRO.
    """
    if zero not in ZERO:
        raise UsageError(f"zero is {zero!r}; it is a stage of ZeRO: 0, 1, 2 or 3.")
    if schedule.kinds & COLLECTIVES:
        names = ", ".join(sorted(kind.name for kind in schedule.kinds & COLLECTIVES))
        raise UsageError(
            f"The schedule {schedule.name} says already when copies of the model exchange what "
            f"they share ({names}): use it as it is, or leave these actions out."
        )
    if zero and Kind.STEP in schedule.kinds:
        raise UsageError(
            f"The schedule {schedule.name} steps the optimizer between micro-batches, and every "
            "version of the weights would be divided among the copies: use zero=0."
        )
    rows = []
    for rank in range(schedule.ranks):
        row = list(schedule.actions[rank])
        if zero:
            row = list(_with_weights(row, every_time=zero == 3 and reshard, back=zero == 3))
        rows.append(list(_with_gradients(row, every_time=zero >= 2, overlap=overlap)))
    made = Schedule.from_rows(rows, name=schedule.name, weights=schedule.weights)
    return replace(made, placement=schedule.placement)


def _atoms(cell: Action | Overlap) -> tuple[Action, ...]:
    return tuple(cell) if isinstance(cell, Overlap) else (cell,)


def _collective(kind: Kind, part: Part) -> Action:
    replica, stage = part
    return Action(kind, stage, 0, replica)


def _with_weights(
    row: list[Action | Overlap], *, every_time: bool, back: bool
) -> Iterator[Action | Overlap]:
    """Gather weights before they are used, once or every time, and give them back or not."""
    whole: set[Part] = set()
    uses = [
        list(dict.fromkeys((a.replica, a.stage) for a in _atoms(cell) if a.kind in USES_WEIGHTS))
        for cell in row
    ]
    last = {part: i for i, parts in enumerate(uses) for part in parts}
    for i, cell in enumerate(row):
        for part in uses[i]:
            if part not in whole:
                yield _collective(Kind.UNSHARD, part)
                whole.add(part)
        yield cell
        for part in uses[i]:
            recomputed = any(a.kind == Kind.R for a in _atoms(cell))
            again = recomputed and i + 1 < len(row) and part in uses[i + 1]
            if back and (last[part] == i or (every_time and not again)):
                yield _collective(Kind.RESHARD, part)
                whole.discard(part)


def _with_gradients(
    row: Iterable[Action | Overlap], *, every_time: bool, overlap: bool
) -> Iterator[Action | Overlap]:
    """Sum gradients when they are complete, after every micro-batch, or at the end."""
    row = list(row)
    steps = any(atom.kind == Kind.STEP for cell in row for atom in _atoms(cell))
    last: dict[Part, int] = {}
    for i, cell in enumerate(row):
        for atom in _atoms(cell):
            if atom.kind in MAKES_GRADIENTS:
                last[atom.replica, atom.stage] = i
    waiting: dict[Part, None] = {}
    for i, cell in enumerate(row):
        for atom in _atoms(cell):
            part = atom.replica, atom.stage
            if atom.kind == Kind.STEP and part in waiting:
                yield _collective(Kind.REDUCE_GRAD, part)
                del waiting[part]
        yield cell
        for atom in _atoms(cell):
            part = atom.replica, atom.stage
            if atom.kind in MAKES_GRADIENTS:
                waiting[part] = None
        at_hand = list(waiting) if every_time else [p for p in waiting if overlap and last[p] == i]
        followed = i + 1 < len(row) and any(
            a.kind == Kind.RESHARD and (a.replica, a.stage) in at_hand for a in _atoms(row[i + 1])
        )
        if followed or steps:
            continue
        for part in at_hand:
            yield _collective(Kind.REDUCE_GRAD, part)
            del waiting[part]
    for part in waiting:
        yield _collective(Kind.REDUCE_GRAD, part)
