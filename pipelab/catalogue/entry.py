"""What the registry knows about a schedule."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..schedule import Kind, Schedule

Order = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Kinds, stages and micro-batches of one rank's actions, in order."""


@dataclass(frozen=True)
class Entry:
    """A schedule of the catalogue.

    order: (rank, ranks, microbatches) -> the rank's actions as integer columns. One stage per rank, stage = rank.
    """

    name: str
    title: str
    summary: str
    source: str
    order: Callable[[int, int, int], Order]

    def problem(self, ranks: int, microbatches: int, stages_per_rank: int | None = None) -> str | None:
        """Why these counts are impossible, with what is possible; None when they are fine."""
        for what, count in (("ranks", ranks), ("micro-batches", microbatches), ("stages per rank", stages_per_rank)):
            if count is not None and (isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < 1):
                return f"{count!r} {what} are impossible; the number of {what} is a whole number, 1 or more."
        if stages_per_rank not in (None, 1):
            return f"{self.name} has one stage per rank, not {stages_per_rank}."
        return None

    def build(self, ranks: int, microbatches: int) -> Schedule:
        rows = [self.order(rank, ranks, microbatches) for rank in range(ranks)]
        placement = {(0, stage): stage for stage in range(ranks)}
        return Schedule.from_columns(self.name, rows, placement=placement, microbatches=microbatches)


def actions(kinds: np.ndarray | list, rank: int, microbatches: np.ndarray) -> Order:
    """Columns of one rank whose actions all belong to stage ``rank``."""
    return np.asarray(kinds), np.full(len(kinds), rank), np.asarray(microbatches)


def alternate(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """first[0], second[0], first[1], second[1], …"""
    return np.stack([first, second], axis=1).ravel()


__all__ = ["Entry", "Kind", "Order", "actions", "alternate"]
