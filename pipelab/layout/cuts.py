"""The best cuts of a chain of layers: exact, for one stage or several per rank.

Group by group of ranks, all partial cuts that could still be best are kept:

    one stage       |0 0 0|1 1|. . . .            where the next group begins
    several (loop)  |0 0|1|. . .|0|1 1|. . .      … in every block, and where the blocks end
    several (V)     |0 0|1|. . . . . .|1|0 0|     every second block from its end

Two partial cuts that leave the same layers to the same groups differ only in their worst rank so
far: the better one stays. A worst rank above a ``bound`` is dropped, and so is what leaves more to
the other groups than they can take below it. The bound starts where no cut can be better and grows
until there is one; what is found is then the optimum. With one stage per rank this is the usual
dynamic program over chains; with several, the number of blocks is in the exponent.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

SAME = 1e-9
"""Costs that differ by less than this share are equal: sums of floats are."""
_STEPS = (0.0, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12)
"""How far above the least conceivable cost the bound lies, as a share of it, attempt by attempt."""

Cost = Callable[[int, np.ndarray, np.ndarray], np.ndarray]
"""(group, starts, stops) -> the cost of that group, for many ways to cut; of shapes (ways, blocks)
and (ways,). Infinite where that must not be. At least the group's rate times the sum of ``least``
over its layers, both of the problem."""


@dataclass(frozen=True)
class Problem:
    """What is to be cut.

    least, rates: a layer adds at least its ``least`` times a group's rate to the cost of the group;
    shapes (layers,) and (groups,). border: of each place to cut, what a transfer there costs by
    itself, shape (layers + 1,). cost: of a group. folded: every second block runs back.
    turns_cross: blocks are cut between ranks, too.
    """

    groups: int
    blocks: int
    least: np.ndarray
    rates: np.ndarray
    border: np.ndarray
    cost: Cost
    folded: bool = False
    turns_cross: bool = False

    @property
    def layers(self) -> int:
        """How many there are; at least one for every stage."""
        return len(self.least)


@dataclass(frozen=True)
class _Front:
    """Partial cuts after some of the groups.

    at: of shape (cuts, blocks), where the next group begins in each block. ends: a row of
    ``_Search.ends``. worst: of the groups so far. parent, child, value: every way from the front
    before to this one, and what its own group costs; in order of child.
    """

    at: np.ndarray
    ends: np.ndarray
    worst: np.ndarray
    parent: np.ndarray
    child: np.ndarray
    value: np.ndarray


class Best:
    """The optimum of a problem.

    cost: of its worst group or border; infinite where every cut is impossible.
    """

    def __init__(self, problem: Problem):
        self._problem, self.cost = problem, np.inf
        self._fronts: list[_Front] = []
        rates = problem.rates
        floor = max(problem.least.sum() / (1 / rates).sum(), problem.least.max() * rates.min())
        self._ends = _ends(problem)
        self._prefix = np.concatenate([[0.0], np.cumsum(problem.least)])
        for bound in (*(floor * (1 + step) for step in _STEPS), np.inf):
            self._fronts = self._search(bound)
            if self._fronts:
                self.cost = float(self._fronts[-1].worst.min())
            if self.cost <= bound * (1 + SAME) and self.cost < np.inf:
                break

    def partitions(self) -> Iterator[list[int]]:
        """Every partition of that cost: layers per stage."""
        if self.cost == np.inf:
            return
        last = len(self._fronts) - 1
        waiting: list[tuple[int, int, list[np.ndarray]]]
        waiting = [(last, int(i), []) for i in np.flatnonzero(self._good(self._fronts[-1].worst))]
        while waiting:
            number, label, after = waiting.pop()
            front = self._fronts[number]
            path = [front.at[label], *after]
            if number == 0:
                yield self._sizes(path)
                continue
            low, high = np.searchsorted(front.child, [label, label + 1])
            ways = low + np.flatnonzero(self._good(front.value[low:high]))
            before = self._fronts[number - 1].worst
            for parent in front.parent[ways][self._good(before[front.parent[ways]])].tolist():
                waiting.append((number - 1, parent, path))

    def _good(self, costs: np.ndarray) -> np.ndarray:
        good: np.ndarray = costs <= self.cost * (1 + SAME)
        return good

    def _sizes(self, path: list[np.ndarray]) -> list[int]:
        """From where the groups begin to the layers of each stage."""
        taken = np.abs(np.diff(np.stack(path), axis=0))  # (groups, blocks)
        sizes: list[int] = []
        for block in range(self._problem.blocks):
            of_block = taken[:, block].tolist()
            sizes += of_block[::-1] if self._back(block) else of_block
        return sizes

    def _back(self, block: int) -> bool:
        return self._problem.folded and block % 2 == 1

    def _search(self, bound: float) -> list[_Front]:
        """The fronts before the first group and after each; none where the bound is too low."""
        problem = self._problem
        fronts = [self._first()]
        for group in range(problem.groups):
            front = self._next(fronts[-1], group, bound * (1 + SAME))
            if not len(front.worst):
                return []
            fronts.append(front)
        return fronts

    def _first(self) -> _Front:
        problem, ends = self._problem, self._ends
        first = [ends[:, b + 1] if self._back(b) else ends[:, b] for b in range(problem.blocks)]
        worst = np.zeros(len(ends))
        if problem.turns_cross and problem.blocks > 1:
            worst = problem.border[ends[:, 1:-1]].max(axis=1)
        none = np.empty(0, int)
        return _Front(np.stack(first, 1), np.arange(len(ends)), worst, none, none, np.empty(0))

    def _next(self, front: _Front, group: int, bound: float) -> _Front:
        """All that the next group can take, the better of what leaves the same."""
        problem, left = self._problem, self._problem.groups - 1 - group
        rows, stops = self._take(front, group, bound)
        begins = front.at[rows]
        value = problem.cost(group, np.minimum(begins, stops), np.maximum(begins, stops))
        if left:
            value = np.maximum(value, problem.border[stops].max(axis=1))
        worst = np.maximum(value, front.worst[rows])
        kept = np.flatnonzero((worst <= bound) & (worst < np.inf))
        rows, stops, value, worst = rows[kept], stops[kept], value[kept], worst[kept]
        order = np.lexsort((worst, *stops.T, front.ends[rows]))
        rows, stops, value, worst = rows[order], stops[order], value[order], worst[order]
        state = np.column_stack([front.ends[rows], stops])
        new = np.append(True, (state[1:] != state[:-1]).any(axis=1))[: len(rows)]
        child = np.cumsum(new) - 1
        return _Front(stops[new], front.ends[rows[new]], worst[new], rows, child, value)

    def _take(self, front: _Front, group: int, bound: float) -> tuple[np.ndarray, np.ndarray]:
        """Every number of layers from each block that the bound allows.

        Returns rows of the front, and where the group stops in each block.
        """
        problem, prefix = self._problem, self._prefix
        room_in, *later = bound / problem.rates[group:]
        left = len(later)
        ends = self._ends[front.ends]
        far = np.stack(
            [ends[:, b] if self._back(b) else ends[:, b + 1] for b in range(problem.blocks)], 1
        )
        rest = np.abs(prefix[far] - prefix[front.at]).sum(axis=1)
        rows, stops = np.arange(len(front.at)), np.empty((len(front.at), 0), int)
        load = np.zeros(len(rows))
        for block in range(problem.blocks):
            here, edge = front.at[rows, block], far[rows, block]
            sign = -1 if self._back(block) else 1
            room = np.abs(edge - here) - left
            least = np.ones(len(rows), int) if left else room
            most = np.minimum(room, sign * (_reach(prefix, here, sign, room_in - load) - here))
            if block == problem.blocks - 1 and left and bound < np.inf:
                needed = rest[rows] - sum(later) - load
                least = np.maximum(least, _needed(prefix, here, sign, needed))
            count = np.maximum(0, most - least + 1)
            again = np.repeat(np.arange(len(rows)), count)
            offset = np.arange(len(again)) - np.repeat(np.cumsum(count) - count, count)
            stop = here[again] + sign * (least[again] + offset)
            load = load[again] + np.abs(prefix[stop] - prefix[here[again]])
            rows, stops = rows[again], np.column_stack([stops[again], stop])
        return rows, stops


def _ends(problem: Problem) -> np.ndarray:
    """Every way to share the layers out over blocks: of shape (ways, blocks + 1)."""
    layers, groups, blocks = problem.layers, problem.groups, problem.blocks
    # Blocks have groups layers or more: what is beyond that is free.
    free = layers - groups * blocks
    ways = list(combinations(range(free + blocks - 1), blocks - 1))
    inner = np.array(ways, int).reshape(len(ways), blocks - 1) - np.arange(blocks - 1)
    inner = inner + groups * np.arange(1, blocks)
    edge = np.zeros((len(inner), 1), int)
    return np.hstack([edge, inner, edge + layers])


def _reach(prefix: np.ndarray, here: np.ndarray, sign: int, budget: np.ndarray) -> np.ndarray:
    """The farthest place from ``here`` on, in a direction, with at most a budget in between."""
    slack = SAME * prefix[-1]
    if sign < 0:
        farthest = np.searchsorted(prefix, prefix[here] - budget - slack, side="left")
    else:
        farthest = np.searchsorted(prefix, prefix[here] + budget + slack, side="right") - 1
    return np.asarray(farthest)


def _needed(prefix: np.ndarray, here: np.ndarray, sign: int, needed: np.ndarray) -> np.ndarray:
    """The least number of layers from ``here`` on, in a direction, that have what is needed."""
    slack = SAME * prefix[-1]
    if sign < 0:
        nearest = np.searchsorted(prefix, prefix[here] - needed + slack, side="right") - 1
    else:
        nearest = np.searchsorted(prefix, prefix[here] + needed - slack, side="left")
    count: np.ndarray = sign * (nearest - here)
    return count
