"""Which schedule of the catalogue is this, or which is nearest, and where do they differ?"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ..schedule import Schedule
from ..simulator import Costs
from .registry import entry, names


class Difference(NamedTuple):
    """The first place of a rank where two orders differ: what stands there, and what the known schedule has (as text).

    None where the order has already ended.
    """

    rank: int
    step: int
    stands: str | None
    known: str | None


@dataclass(frozen=True)
class Recognition:
    """What a schedule was recognised as.

    name: of the catalogue's schedule, None if it has none with these sizes and this placement. exact: whether every rank
    runs the same actions in the same order. distance: see ``distance``; None without a name. differences: the first of
    each rank that differs. also: other names for the same order (with one micro-batch, many are the same). text: all of
    it in a line.
    """

    name: str | None
    exact: bool
    distance: int | None
    differences: tuple[Difference, ...]
    also: tuple[str, ...]
    text: str


def recognise(schedule: Schedule, *, costs: Costs | None = None) -> Recognition:
    """Finds a schedule in the catalogue by its actions; its name and its weight versions, which no CSV holds, do not count.

    Compared are those with the same ranks, micro-batches, stages per rank and placement; the nearest is the one at the
    smallest ``distance``, of equals one meant for so many stages per rank, then the simplest. costs: what zb-1p and zb-2p
    are built for. Takes under a second for 8 ranks and 64 micro-batches, seconds for 16 × 128: it builds them all.

    >>> from pipelab.catalogue import build
    >>> swapped = build("1f1b", ranks=4, microbatches=8).to_csv().replace("2B1,2F3", "2F3,2B1")
    >>> recognise(Schedule.from_csv(swapped)).text
    'nearest: 1f1b, 1 action stands elsewhere; first at rank 2, step 4: 2F3 where 1f1b has 2B1'
    """
    rows = _texts(schedule)
    found = [(distance(rows, known), name, known) for name, known in _candidates(schedule, costs)]
    if not found:
        text = (
            f"the catalogue has no schedule of {schedule.ranks} ranks and {schedule.microbatches} micro-batches "
            f"that places {schedule.stages} stages like this"
        )
        return Recognition(None, False, None, (), (), text)
    per_rank = schedule.stages_per_rank
    least, name, known = min(found, key=lambda candidate: (candidate[0], entry(candidate[1]).stages_per_rank != per_rank))
    if not least:
        also = tuple(other for steps, other, _ in found if not steps and other != name)
        same = f" (for these sizes the same as {', '.join(also)})" if also else ""
        return Recognition(name, True, 0, (), also, f"this is {name}{same}")
    differences = tuple(d for rank, pair in enumerate(zip(rows, known, strict=True)) if (d := _first(rank, *pair)))
    rank, step, stands, has = differences[0]
    text = (
        f"nearest: {name}, {least} action{'s stand' if least > 1 else ' stands'} elsewhere; "
        f"first at rank {rank}, step {step}: {stands or 'nothing'} where {name} has {has or 'nothing more'}"
    )
    return Recognition(name, False, least, differences, (), text)


def distance(rows: list[list[str]], known: list[list[str]]) -> int:
    """How many actions stand elsewhere: summed over ranks, those outside the longest order that both rows share.

    The longest common subsequence is taken from the length of the longer row, so that an action which only one of the two
    has counts as well. Moving one action to another place of its rank makes 1; 0 means that the orders are equal.
    """
    return sum(max(len(row), len(other)) - _in_common(row, other) for row, other in zip(rows, known, strict=True))


def _in_common(row: list[str], known: list[str]) -> int:
    """Length of the longest common subsequence. No action stands twice, so it is the longest rising run of places."""
    place = {action: i for i, action in enumerate(known)}
    ends: list[int] = []  # the smallest place in which a run of each length can end
    for at in (place[action] for action in row if action in place):
        k = bisect_left(ends, at)
        ends[k : k + 1] = [at]
    return len(ends)


def _candidates(schedule: Schedule, costs: Costs | None) -> Iterator[tuple[str, list[list[str]]]]:
    """(name, rows) of the schedules of the catalogue with the same sizes and placement."""
    ranks, microbatches, per_rank = schedule.ranks, schedule.microbatches, schedule.stages_per_rank
    few = min(microbatches, 2 * ranks)  # enough to see where the stages are, sooner than with all micro-batches
    if per_rank is None:
        return
    for known in map(entry, names()):
        if known.searched:
            continue  # whatever it finds for these costs has no order of its own to be known by
        if known.problem(ranks, microbatches, per_rank, costs) or known.problem(ranks, few, per_rank, costs):
            continue
        if dict(known.build(ranks, few, per_rank, costs).placement) == dict(schedule.placement):
            yield known.name, _texts(known.build(ranks, microbatches, per_rank, costs))


def _texts(schedule: Schedule) -> list[list[str]]:
    return [list(map(str, row)) for row in schedule.actions]


def _first(rank: int, row: list[str], known: list[str]) -> Difference | None:
    """The first step at which two rows differ."""
    for step in range(max(len(row), len(known))):
        stands, has = (order[step] if step < len(order) else None for order in (row, known))
        if stands != has:
            return Difference(rank, step, stands, has)
    return None
