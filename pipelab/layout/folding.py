"""Which stages share a rank.

    loop  ranks 0 1 2 0 1 2    group r has stages r, r + p, r + 2p, …
    V     ranks 0 1 2 2 1 0    group r has stages r, 2p − 1 − r, 2p + r, …

A group is the ranks that hold the same stages: one rank, or the two of a schedule with two copies
of the model, which halve the micro-batches between them.
"""

from dataclasses import dataclass

import numpy as np

from ..errors import UsageError
from ..schedule import Kind, Schedule


@dataclass(frozen=True)
class Folding:
    """How the stages of a schedule lie on its ranks.

    groups: the stages of each group, in order. ranks: of each group. folded: whether every second
    block of stages goes back (V). turns_cross: whether data passes between ranks from one block to
    the next. share: of the micro-batches that a rank does of each of its stages.
    """

    groups: tuple[tuple[int, ...], ...]
    ranks: tuple[tuple[int, ...], ...]
    folded: bool
    turns_cross: bool
    share: float

    @property
    def blocks(self) -> int:
        """Stages of a group."""
        return len(self.groups[0])

    @classmethod
    def of(cls, schedule: Schedule) -> "Folding":
        """How a schedule's stages lie. Raises UsageError where it is neither a loop nor a V."""
        stages_of: dict[int, set[int]] = {}
        for (_, stage), rank in schedule.placement.items():
            stages_of.setdefault(rank, set()).add(stage)
        ranks_of: dict[tuple[int, ...], list[int]] = {}
        for rank in sorted(stages_of):
            ranks_of.setdefault(tuple(sorted(stages_of[rank])), []).append(rank)
        groups = tuple(sorted(ranks_of))
        count, blocks = len(groups), len(groups[0])
        for folded in (False, True):
            expected = tuple(
                tuple(_stage(count, block, r, folded=folded) for block in range(blocks))
                for r in range(count)
            )
            if groups == expected:
                break
        else:
            raise UsageError(
                f"The stages of {schedule.name} lie on its ranks neither in a loop (0 1 2 0 1 2) "
                "nor in a V (0 1 2 2 1 0), and only these can be cut at best: give the layers of "
                "each stage yourself."
            )
        crosses = crossing(schedule)
        turns = [block * count for block in range(1, blocks)]
        share = np.sum((schedule.kind == Kind.F) & (schedule.stage == 0) & (schedule.replica == 0))
        return cls(
            groups=groups,
            ranks=tuple(tuple(ranks_of[group]) for group in groups),
            folded=folded,
            turns_cross=any(crosses[turn - 1] for turn in turns),
            share=float(share) / schedule.microbatches,
        )


def _stage(groups: int, block: int, group: int, *, folded: bool) -> int:
    """The stage of a group in a block."""
    back = folded and block % 2
    return block * groups + (groups - 1 - group if back else group)


def crossing(schedule: Schedule) -> list[bool]:
    """For each stage but the last: whether its output goes to another rank."""
    place = schedule.placement
    return [
        any(place[c, stage] != place[c, stage + 1] for c in range(schedule.replicas))
        for stage in range(schedule.stages - 1)
    ]
