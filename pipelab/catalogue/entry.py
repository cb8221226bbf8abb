"""What the registry knows about a schedule, and the tools that its builders share."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..schedule import Kind, Schedule
from ..simulator import Costs

Order = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Kinds, stages and micro-batches of one rank's actions, in order."""

LARGEST = 100_000_000
"""Actions of a schedule, at the most."""


class Size(NamedTuple):
    """What a schedule is built for.

    costs: for the schedules that depend on them; None for the defaults. memory_limit and placement
    ("loop" or "v"): for a searched schedule.
    """

    ranks: int
    microbatches: int
    stages_per_rank: int
    costs: Costs | None = None
    memory_limit: float | None = None
    placement: str | None = None


def _possible(_: Size) -> None:
    """No constraint."""


@dataclass(frozen=True)
class Entry:
    """A schedule of the catalogue.

    make: Size -> Schedule. stages_per_rank: the number it is built with when none is given. fixed:
    whether it is the only one, and why, as a sentence. constraint: Size -> why it is impossible,
    with what is possible, or None. searched: whether a search makes it, for any costs and within a
    limit of memory. stepwise: whether its order is found action by action, which takes long for
    many. from_costs: whether its order depends on the costs.
    """

    name: str
    title: str
    summary: str
    source: str
    make: Callable[[Size], Schedule]
    stages_per_rank: int = 1
    fixed: str | None = "has one stage per rank"
    constraint: Callable[[Size], str | None] = _possible
    searched: bool = False
    stepwise: bool = False
    from_costs: bool = False

    def problem(
        self,
        ranks: int,
        microbatches: int,
        stages_per_rank: int | None = None,
        costs: Costs | None = None,
        memory_limit: float | None = None,
        placement: str | None = None,
    ) -> str | None:
        """Why these counts are impossible, with what is possible; None when they are fine.

        The arguments are those of ``catalogue.build``.
        """
        counts = {"ranks": ranks, "micro-batches": microbatches, "stages per rank": stages_per_rank}
        for what, count in counts.items():
            if count is not None and not _is_count(count):
                return (
                    f"{count!r} {what} are impossible; the number of {what} is a whole number, 1 "
                    "or more."
                )
        if self.fixed and stages_per_rank not in (None, self.stages_per_rank):
            return f"{self.name} {self.fixed}, not {stages_per_rank}."
        for what, value in (("memory_limit", memory_limit), ("placement", placement)):
            if value is not None and not self.searched:
                return (
                    f"{self.name} takes no {what}: its order fixes that. Only auto searches for "
                    "an order."
                )
        size = self.size(ranks, microbatches, stages_per_rank, costs, memory_limit, placement)
        actions = 2 * size.ranks * size.stages_per_rank * size.microbatches
        if actions > LARGEST:
            return (
                f"{actions:,} actions or more are too many to hold in memory; at most {LARGEST:,} "
                "are possible."
            )
        return self.constraint(size)

    def build(
        self,
        ranks: int,
        microbatches: int,
        stages_per_rank: int | None = None,
        costs: Costs | None = None,
        memory_limit: float | None = None,
        placement: str | None = None,
    ) -> Schedule:
        """The schedule, for counts without a ``problem``.

        The arguments are those of ``catalogue.build``.
        """
        size = self.size(ranks, microbatches, stages_per_rank, costs, memory_limit, placement)
        return self.make(size)

    def size(
        self,
        ranks: int,
        microbatches: int,
        stages_per_rank: int | None = None,
        costs: Costs | None = None,
        memory_limit: float | None = None,
        placement: str | None = None,
    ) -> Size:
        """What to build for.

        Without a number of stages per rank, it is the placement's or the usual one. The arguments
        are those of ``catalogue.build``.
        """
        stages = stages_per_rank or (2 if placement == "v" else self.stages_per_rank)
        return Size(int(ranks), int(microbatches), int(stages), costs, memory_limit, placement)


def _is_count(value: object) -> bool:
    """Whether a value is a whole number from 1."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        return False
    return bool(value >= 1)


def loop(size: Size) -> dict[tuple[int, int], int]:
    """Looped placement: stage s on rank s mod p.

    This is Megatron-LM's interleaving; one stage per rank is its simplest case.
    """
    return {(0, stage): stage % size.ranks for stage in range(size.ranks * size.stages_per_rank)}


def wave(size: Size) -> dict[tuple[int, int], int]:
    """Placement in waves: there and back again (a V for two stages per rank).

    Stages next to each other at a turn share a rank.
    """
    p = size.ranks
    there_and_back = [*range(p), *reversed(range(p))]
    return {
        (0, stage): there_and_back[stage % (2 * p)] for stage in range(p * size.stages_per_rank)
    }


def one_stage(
    name: str, order: Callable[[int, int, int], Order], weights: str = "one"
) -> Callable[[Size], Schedule]:
    """A maker of schedules with stage = rank.

    order: (rank, ranks, microbatches) -> the columns of one rank.
    """

    def make(size: Size) -> Schedule:
        rows = [order(rank, size.ranks, size.microbatches) for rank in range(size.ranks)]
        return Schedule.from_columns(
            name, rows, placement=loop(size), microbatches=size.microbatches, weights=weights
        )

    return make


def from_lists(
    name: str,
    rows: Sequence[Iterable[tuple[Kind, int, int]]],
    size: Size,
    placement: dict[tuple[int, int], int],
) -> Schedule:
    """A schedule from one list of actions per rank.

    Args:
        name: Of the schedule.
        rows: The (kind, stage, microbatch) of each rank, in order.
        size: What it is built for.
        placement: (replica, stage) -> rank.
    """
    columns = []
    for row in rows:
        kinds, stages, microbatches = np.array(row, dtype=np.int64).reshape(-1, 3).T
        columns.append((kinds, stages, microbatches))
    return Schedule.from_columns(name, columns, placement=placement, microbatches=size.microbatches)


def actions(kinds: np.ndarray | list[Kind], rank: int, microbatches: np.ndarray) -> Order:
    """Columns of one rank whose actions all belong to stage ``rank``."""
    return np.asarray(kinds), np.full(len(kinds), rank), np.asarray(microbatches)


def alternate(*columns: np.ndarray) -> np.ndarray:
    """The columns in turn: a[0], b[0], …, a[1], b[1], …."""
    return np.stack(columns, axis=1).ravel()
