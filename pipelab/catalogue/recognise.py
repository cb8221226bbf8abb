"""Which schedule of the catalogue is this, or which is nearest, and where do they differ?"""

import math
from bisect import bisect_left
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import NamedTuple

import numpy as np

from ..schedule import Schedule
from ..schedule.kinds import KINDS
from ..simulator import Costs
from .registry import entry, names

MANY = 5_000
"""Actions from which on not every schedule is compared."""
MOST = 30_000
"""Actions from which on none of those that take long to build is compared."""


class Difference(NamedTuple):
    """The first place of a rank where two orders differ.

    stands: what is there, as text. known: what the known schedule has there. None where the order
    has already ended.
    """

    rank: int
    step: int
    stands: str | None
    known: str | None


@dataclass(frozen=True)
class Recognition:
    """What a schedule was recognised as.

    name: of the catalogue's schedule, None if it has none with these sizes and this placement.
    exact: whether every rank runs the same actions in the same order. distance: see ``distance``;
    None without a name. differences: the first of each rank that differs. also: other names for the
    same order (with one micro-batch, many are the same). text: all of it in a line.
    """

    name: str | None
    exact: bool
    distance: int | None
    differences: tuple[Difference, ...]
    also: tuple[str, ...]
    text: str


def recognise(schedule: Schedule, *, costs: Costs | None = None) -> Recognition:
    """Find a schedule in the catalogue by its actions.

    Its name and its weight versions, which no CSV holds, do not count. Compared are those with the
    same ranks, micro-batches, stages per rank and placement; the nearest is the one at the smallest
    ``distance``, of equals one meant for so many stages per rank, then the simplest. costs: what
    zb-1p and zb-2p are built for. Takes a second or two: above ``MANY`` actions only schedules of
    the same kinds of actions are compared, until one is equal, and those whose order is found step
    by step (zb-2p, v-half, v-min, hanayo) up to ``MOST``.

    >>> from pipelab.catalogue import build
    >>> swapped = build("1f1b", ranks=4, microbatches=8).to_csv().replace("2B1,2F3", "2F3,2B1")
    >>> recognise(Schedule.from_csv(swapped)).text
    'nearest: 1f1b, 1 action stands elsewhere; first at rank 2, step 4: 2F3 where 1f1b has 2B1'
    """
    rows, found = _codes(schedule), []
    for known in _candidates(schedule, costs):
        found.append((distance(rows, _codes(known)), known.name, known))
        if not found[-1][0] and len(schedule.kind) > MANY:
            break
    if not found:
        text = (
            f"the catalogue has no schedule of {schedule.ranks} ranks and {schedule.microbatches} "
            f"micro-batches that places {schedule.stages} stages like this"
        )
        return Recognition(None, exact=False, distance=None, differences=(), also=(), text=text)
    per_rank = schedule.stages_per_rank
    least, name, known = min(
        found, key=lambda candidate: (candidate[0], entry(candidate[1]).stages_per_rank != per_rank)
    )
    if not least:
        also = tuple(other for steps, other, _ in found if not steps and other != name)
        same = f" (for these sizes the same as {', '.join(also)})" if also else ""
        text = f"this is {name}{same}"
        return Recognition(name, exact=True, distance=0, differences=(), also=also, text=text)
    pairs = zip(schedule.actions, known.actions, strict=True)
    differences = tuple(d for rank, pair in enumerate(pairs) if (d := _first(rank, *pair)))
    rank, step, stands, has = differences[0]
    moved = "1 action stands" if least == 1 else f"{least} actions stand"
    text = (
        f"nearest: {name}, {moved} elsewhere; first at rank {rank}, step {step}: "
        f"{stands or 'nothing'} where {name} has {has or 'nothing more'}"
    )
    return Recognition(
        name, exact=False, distance=least, differences=differences, also=(), text=text
    )


def distance(rows: Sequence[Sequence[Hashable]], known: Sequence[Sequence[Hashable]]) -> int:
    """How many actions stand elsewhere.

    Summed over ranks, these are the actions outside the longest order that both rows share. The
    longest common subsequence is taken from the length of the longer row, so that an action which
    only one of the two has counts as well. Moving one action to another place of its rank makes 1;
    0 means that the orders are equal.
    """
    return sum(
        max(len(row), len(other)) - _in_common(row, other)
        for row, other in zip(rows, known, strict=True)
    )


def _in_common(row: Sequence[Hashable], known: Sequence[Hashable]) -> int:
    """Length of the longest common subsequence.

    No action stands twice, so it is the longest rising run of places.
    """
    place = {action: i for i, action in enumerate(known)}
    ends: list[int] = []  # the smallest place in which a run of each length can end
    for at in (place[action] for action in row if action in place):
        k = bisect_left(ends, at)
        ends[k : k + 1] = [at]
    return len(ends)


def _candidates(schedule: Schedule, costs: Costs | None) -> Iterator[Schedule]:
    """The schedules of the catalogue with the same sizes and placement."""
    ranks, microbatches, per_rank = schedule.ranks, schedule.microbatches, schedule.stages_per_rank
    # Enough to see where the stages are, sooner than with all micro-batches.
    few = min(microbatches, 2 * ranks)
    if per_rank is None:
        return
    possible = []
    for known in map(entry, names()):
        if known.searched or (known.stepwise and len(schedule.kind) > MOST):
            continue  # what auto finds for these costs has no order of its own to be known by
        if known.problem(ranks, microbatches, per_rank, costs) or known.problem(
            ranks, few, per_rank, costs
        ):
            continue
        sample = known.build(ranks, few, per_rank, costs)
        if dict(sample.placement) == dict(schedule.placement):
            possible.append((known, sample.kinds == schedule.kinds))
    alike = [known for known, same_kinds in possible if same_kinds]
    chosen = alike if alike and len(schedule.kind) > MANY else [known for known, _ in possible]
    for known in sorted(chosen, key=lambda known: known.stages_per_rank != per_rank):
        yield known.build(ranks, microbatches, per_rank, costs)


def _codes(schedule: Schedule) -> list[list[int]]:
    """One number for each cell of each rank: the same for the same action or pair of actions."""
    sizes = len(KINDS), schedule.replicas, schedule.stages, int(schedule.microbatch.max()) + 1
    atom = np.ravel_multi_index(
        (schedule.kind, schedule.replica, schedule.stage, schedule.microbatch), sizes
    )
    heads, second = np.flatnonzero(schedule.heads), schedule.seconds
    code = atom[heads]
    code[np.searchsorted(heads, second) - 1] += math.prod(sizes) * (1 + atom[second])
    bounds = np.searchsorted(heads, schedule.offsets).tolist()
    return [code[low:high].tolist() for low, high in zip(bounds[:-1], bounds[1:], strict=True)]


def _first(rank: int, row: Sequence[object], known: Sequence[object]) -> Difference | None:
    """The first step at which two rows differ."""
    for step, (stands, has) in enumerate(zip_longest(map(str, row), map(str, known))):
        if stands != has:
            return Difference(rank, step, stands, has)
    return None
