"""Which version of its stage's weights each action uses.

    rank 0 of 2, PipeDream   0F0  0F1  0B0  0STEP0  0F2  0B1  0STEP1  …
    version                   0    0    0     1      1    0     2

Versions count the optimizer steps of a stage within one training step: 0 is what it begins with,
and an optimizer step stands with the version it makes. A backward uses the version of its forward.
"""

import numpy as np

from ..errors import UsageError
from .action import Action
from .kinds import Kind, sending
from .schedule import Schedule


def versions(schedule: Schedule) -> np.ndarray:
    """The version that each atom uses; all 0 without optimizer steps in the schedule.

    "one" and "stashed": a forward uses the newest. "double" (2BW): the version before the one that
    its own batch begins with, so micro-batch k of batches of b uses max(⌊k/b⌋ − 1, 0). Source:
    PipeDream-2BW, arXiv 2006.09503, section 2.1.
    """
    if Kind.STEP not in schedule.kinds:
        return np.zeros(len(schedule.kind), int)
    kind, part, work = schedule.kind, schedule.part, schedule.of_microbatch
    order = np.argsort(part, kind="stable")  # a stage's atoms are on one rank: keeps their order
    steps = np.cumsum(kind[order] == Kind.STEP)
    first = np.concatenate([[True], np.diff(part[order]) != 0])
    before_stage = np.where(first, steps - (kind[order] == Kind.STEP), 0)
    taken = np.empty(len(kind), int)  # optimizer steps of the stage up to each atom
    taken[order] = steps - np.maximum.accumulate(before_stage)
    seen = np.zeros((schedule.replicas * schedule.stages, schedule.microbatches), int)
    source = np.isin(kind, sending("up" if schedule.weights == "double" else "down"))
    seen[part[source], schedule.microbatch[source]] = taken[source]
    if schedule.weights == "double":
        seen = np.maximum(seen - 1, 0)
    result = taken.copy()
    result[work] = seen[part[work], schedule.microbatch[work]]
    return result


def require_versions(schedule: Schedule) -> None:
    """Check that a stage still has the version of its weights that each action uses.

    Raises UsageError where a schedule steps the optimizer too early.
    """
    version = versions(schedule)
    newest: dict[tuple[int, int], int] = {}
    for atom in range(len(schedule.kind)):
        kind, key = schedule.kind[atom], (int(schedule.replica[atom]), int(schedule.stage[atom]))
        now, action = newest.get(key, 0), schedule.atom(atom)
        if kind == Kind.STEP:
            newest[key] = now + 1
        elif (
            schedule.weights == "double" and kind == Kind.F and not now - 1 <= version[atom] <= now
        ):
            raise UsageError(
                f"{action} needs version {version[atom]} of its weights, but at that place stage "
                f"{key[1]} keeps {max(now - 1, 0)} and {now}: two versions are enough only if a "
                "batch has as many micro-batches as are in flight, or more."
            )
        elif schedule.weights == "one" and kind != Kind.F and version[atom] != now:
            raise UsageError(
                f"Stage {key[1]} steps its optimizer between {Action(Kind.F, *action[1:])} and "
                f"{action}, which must use the same weights: the schedule needs weights='stashed' "
                "(Schedule.from_rows(..., weights='stashed')), or its steps after the backwards "
                "of what is in flight."
            )
