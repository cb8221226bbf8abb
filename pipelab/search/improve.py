"""Makes a schedule shorter by small changes to its order: hill climbing on the critical path.

Only an action on the critical path can shorten the objective by moving. So a rank swaps two
neighbours of the path, or puts off a weight gradient that stands on it; what is not longer is kept,
which lets the search walk along equal orders.
"""

import random
from dataclasses import dataclass

from ..schedule import Kind
from .problem import EXACT, Problem, Row

F, I, W = 0, 1, 2  # noqa: E741 - the field's letters
CODE = {Kind.F: F, Kind.I: I, Kind.W: W}
KINDS = (Kind.F, Kind.I, Kind.W)


@dataclass
class Times:
    """Start and end of every action by its number, the makespan and the objective."""

    started: list[float]
    ended: list[float]
    makespan: float
    length: float


class Orders:
    """Orders of one problem as lists of numbers.

    Action (kind, stage, i) is (kind · stages + stage) · m + i.
    """

    def __init__(self, problem: Problem):
        self.problem = problem
        m, stages = problem.microbatches, problem.stages
        self.duration: list[float] = []
        self.needs: list[int] = []
        self.delay: list[float] = []
        self.change: list[float] = []  # of the memory
        self.rank: list[int] = []
        share = problem.weight_grad_memory
        for kind in (F, I, W):
            for stage in range(stages):
                first = (kind * stages + stage) * m
                need, delay = -1, 0.0
                if kind == F and stage:
                    need, delay = first - m, problem.hops[stage - 1]
                elif kind == I and stage < stages - 1:
                    need, delay = first + m, problem.hops[stage]
                self.duration += [problem.times[kind][stage]] * m
                self.needs += range(need, need + m) if need >= 0 else [-1] * m
                self.delay += [delay] * m
                self.change += [(1.0, share - 1, -share)[kind]] * m
                self.rank += [problem.home(stage)] * m

    def number(self, kind: Kind, stage: int, i: int) -> int:
        """The number of an action."""
        return (CODE[kind] * self.problem.stages + stage) * self.problem.microbatches + i

    def action(self, number: int) -> tuple[Kind, int, int]:
        """The action of a number."""
        rest, i = divmod(number, self.problem.microbatches)
        kind, stage = divmod(rest, self.problem.stages)
        return KINDS[kind], stage, i

    def times(self, rows: list[list[int]]) -> Times | None:
        """The longest path; None when ranks wait for one another for ever."""
        needs, delay, duration = self.needs, self.delay, self.duration
        started, ended = [0.0] * len(needs), [-1.0] * len(needs)
        waiting: dict[int, int] = {}
        position, free = [0] * len(rows), [0.0] * len(rows)
        ready, left = list(range(len(rows))), len(needs)
        while ready:
            rank = ready.pop()
            row, k, now = rows[rank], position[rank], free[rank]
            for action in row[k:]:
                need = needs[action]
                if need >= 0:
                    arrival = ended[need]
                    if arrival < 0:
                        waiting[need] = rank  # one rank at most: one result goes to one stage
                        break
                    arrival += delay[action]
                    if arrival > now:
                        now = arrival
                started[action] = now
                now += duration[action]
                ended[action] = now
                k += 1
                if action in waiting:
                    ready.append(waiting.pop(action))
            left -= k - position[rank]
            position[rank], free[rank] = k, now
        return None if left else Times(started, ended, max(free), self.problem.length(free))

    def fits(self, row: list[int]) -> bool:
        """Whether a rank's memory suffices."""
        held, room, change = 0.0, self.problem.room, self.change
        for action in row:
            held += change[action]
            if held > room:
                return False
        return True

    def critical_pairs(self, rows: list[list[int]], times: Times) -> list[tuple[int, int]]:
        """The actions on a critical path that follow another of their rank without a wait.

        Each is (rank, step).
        """
        soon = EXACT * times.makespan
        place: dict[int, int] = {}
        for row in rows:
            place |= {action: step for step, action in enumerate(row)}
        before = self.problem.uncounted
        lasts = (row[-1] for row in rows)
        last = max(lasts, key=lambda action: times.ended[action] - before[self.rank[action]])
        pairs = []
        while True:
            rank, step = self.rank[last], place[last]
            need = self.needs[last]
            if step and times.ended[rows[rank][step - 1]] >= times.started[last] - soon:
                pairs.append((rank, step))
                last = rows[rank][step - 1]
            elif need >= 0:
                last = need
            else:
                return pairs


def improve(problem: Problem, rows: list[Row], evaluations: int) -> list[Row]:
    """An order whose objective is not longer, after so many tries.

    It is the same for the same input, because its luck is seeded. An order in which ranks wait for
    one another for ever is returned as it is.
    """
    orders, luck = Orders(problem), random.Random(0)
    current = [[orders.number(*action) for action in row] for row in rows]
    times = orders.times(current)
    if times is None:
        return rows
    best, shortest = current, times.length
    pairs = orders.critical_pairs(current, times)
    for _ in range(evaluations):
        if not pairs:
            break
        rank, step = luck.choice(pairs)
        row = _moved(orders, current[rank], step, luck)
        if row is None:
            continue
        candidate = [*current]
        candidate[rank] = row
        new = orders.times(candidate)
        if new is None or new.length > times.length * (1 + EXACT):
            continue
        current, times = candidate, new
        pairs = orders.critical_pairs(current, times)
        if new.length < shortest * (1 - EXACT):
            best, shortest = current, new.length
    return [[orders.action(number) for number in row] for row in best]


def _moved(orders: Orders, row: list[int], step: int, luck: random.Random) -> list[int] | None:
    """The row with the action at ``step`` one place earlier, or the one before it later.

    None where that is not legal.
    """
    earlier, later = row[step - 1], row[step]
    size = orders.problem.stages * orders.problem.microbatches
    if earlier >= 2 * size and luck.random() < 0.5:  # a W: put off to any later place
        to = min(len(row) - 1, step + luck.randrange(12))
        new = row[: step - 1] + row[step : to + 1] + [earlier] + row[to + 1 :]
    else:
        if orders.needs[later] == earlier or later == earlier + size:  # it needs the other's result
            return None
        new = row[:]
        new[step - 1], new[step] = later, earlier
    return new if orders.fits(new) else None
