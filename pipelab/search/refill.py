"""The weight gradients of a known order placed anew; its F and I keep their order.

A rank runs a W while it waits for its next F or I, if the wait is long enough for it. In a shorter
wait it runs one only where waiting would leave this rank idle for longer than every other: the
longest span counts, so the idle time of the others costs nothing. Source: the automatic schedules
of the zero-bubble authors, arXiv 2401.10241, sections 3.1 and 6.
"""

import math
from collections import deque
from heapq import heappop, heappush
from itertools import product

from ..schedule import Kind
from .problem import EXACT, Problem, Row

F, I, W = Kind.F, Kind.I, Kind.W  # noqa: E741 - the field's letters
ROUNDS = 6


def refill(problem: Problem, rows: list[Row]) -> list[Row] | None:
    """The shortest of several ways to place them; None where none fits into the memory."""
    best: Refill | None = None
    for before_f, before_i in product((True, False), repeat=2):
        allowed = None
        for _ in range(ROUNDS):
            run = Refill(problem, rows, before_f=before_f, before_i=before_i, allowed=allowed)
            if not run.run():
                break
            worst = max(run.idle)
            if best is None or run.length < best.length:
                best = run
            if allowed and worst >= max(allowed) * (1 - EXACT):
                break
            allowed = run.idle
    return best.rows if best else None


class Refill:
    """One way to place them.

    before_f, before_i: whether a W may delay an F, and an I of the first arm. allowed: the idle
    time of each rank in an earlier attempt; a rank may wait for as long as it was less idle there
    than the worst.
    """

    def __init__(
        self,
        problem: Problem,
        rows: list[Row],
        *,
        before_f: bool,
        before_i: bool,
        allowed: list[float] | None,
    ):
        self.problem, self.before_f, self.before_i = problem, before_f, before_i
        p = problem.ranks
        self.left = [deque(action for action in row if action[0] != W) for row in rows]
        self.put_off: list[deque[tuple[int, int]]] = [deque() for _ in range(p)]
        self.free, self.held, self.idle = [0.0] * p, [0.0] * p, [0.0] * p
        self.rows: list[Row] = [[] for _ in range(p)]
        self.arrives = {(F, 0, i): 0.0 for i in range(problem.microbatches)}
        self.spare = [max(allowed) - idle for idle in allowed] if allowed else [0.0] * p
        self.soon = EXACT * max(map(max, problem.times))
        self.length = math.inf

    def run(self) -> bool:
        """Place them; whether all could be."""
        events = [(0.0, rank) for rank in range(self.problem.ranks)]
        while events:
            now, rank = heappop(events)
            if self.free[rank] > now + self.soon:
                continue  # busy: it looks again when it is done
            action = self.choose(rank, now)
            if action is None:
                continue  # it looks again when something arrives
            if self.rows[rank]:
                self.idle[rank] += max(0.0, now - self.free[rank])
            arrival = self.do(rank, action, now)
            heappush(events, (self.free[rank], rank))
            if arrival:
                heappush(events, arrival)
        if any(self.left) or any(self.put_off):
            return False
        self.length = self.problem.length(self.free)
        return True

    def choose(self, rank: int, now: float) -> tuple[Kind, int, int] | None:
        """What a free rank runs; None to wait."""
        put_off = self.put_off[rank]
        weight = (W, *put_off[0]) if put_off else None
        if not self.left[rank]:
            return weight
        action = self.left[rank][0]
        kind, stage, _ = action
        if kind == F and self.held[rank] + 1 > self.problem.room:
            return weight
        arrival = self.arrives.get(action, math.inf)
        if arrival <= now + self.soon or weight is None:
            return action if arrival <= now + self.soon else None
        if now + self.problem.times[2][weight[1]] <= arrival + self.soon:
            return weight
        may_delay = self.before_f if kind == F else self.before_i or stage >= self.problem.ranks
        most = max(*self.idle, self.spare[rank])
        return weight if may_delay and self.idle[rank] + arrival - now > most else None

    def do(self, rank: int, action: tuple[Kind, int, int], now: float) -> tuple[float, int] | None:
        """Run an action; when and on which rank its result arrives, or None."""
        problem, (kind, stage, i) = self.problem, action
        self.rows[rank].append(action)
        at = self.free[rank] = now + problem.times[(F, I, W).index(kind)][stage]
        if kind == W:
            self.put_off[rank].popleft()
            self.held[rank] -= problem.weight_grad_memory
            return None
        self.left[rank].popleft()
        if kind == F:
            self.held[rank] += 1
            last = stage == problem.stages - 1
            to = (I, stage, i) if last else (F, stage + 1, i)
            at += 0.0 if last else problem.hops[stage]
        else:
            self.held[rank] -= 1 - problem.weight_grad_memory
            self.put_off[rank].append((stage, i))
            if not stage:
                return None
            to, at = (I, stage - 1, i), at + problem.hops[stage - 1]
        self.arrives[to] = at
        return at, problem.home(to[1])
