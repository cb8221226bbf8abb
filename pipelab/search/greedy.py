"""One schedule, event by event: a rank that is free takes what its policy prefers.

It chooses among the actions that are ready. A policy orders F and I by slots of a repeating
pattern: micro-batch i of a kind and stage has slot offset + i · period.

    rank 0  F0 F1 F2 F3    I0    I1      period 3: every third slot is free, and a W goes there
    rank 1     F0 F1 F2 I0 F3 I1 …       offsets: 0, 1, 2, … on the way in, then back up

The slots say only who goes first; when an action starts follows from the costs. Source: the
repeating building blocks of pipeline parallelism with controllable memory, Qi et al. 2024, arXiv
2405.15362, section 3, here with weight gradients and times left open.
"""

import math
from heapq import heappop, heappush
from itertools import product
from typing import NamedTuple

from ..schedule import Kind
from .problem import EXACT, Problem, Row

F, I, W = 0, 1, 2  # noqa: E741 - the field's letters
KINDS = (Kind.F, Kind.I, Kind.W)


class Policy(NamedTuple):
    """What a rank prefers.

    slots: offsets of F and of I, one per stage each. period: slots from one micro-batch to the
    next; 0 for a fixed order of preference. strict: wait for the F or I of the lowest slot, rather
    than take a later one that is ready. in_turn: F and I in turn where both are ready. delay: how
    many weight gradients each rank puts off before it runs one after every I (late: only while it
    has forwards to run); None: they run only where nothing else is ready. whole: only in gaps that
    hold them whole. punctual: no F that would delay the first I of a rank.
    """

    slots: tuple[tuple[float, ...], tuple[float, ...]]
    period: float
    strict: bool = False
    in_turn: bool = False
    delay: tuple[int, ...] | None = None
    late: bool = False
    whole: bool = True
    punctual: bool = False


class Greedy:
    """Builds the rows of one schedule.

    ``makespan`` and ``length``, the objective, are inf when the policy came to a standstill.

    A forward starts only if it fits into the memory; one on the way in of a V only if the way back
    still fits as well, so that no rank fills up with micro-batches that cannot return.
    """

    def __init__(self, problem: Problem, policy: Policy, first_backward: list[float]):
        p, m, stages = problem.ranks, problem.microbatches, problem.stages
        self.problem, self.policy, self.first_backward = problem, policy, first_backward
        self.soon = EXACT * max(map(max, problem.times))
        self.arrives = [[[math.inf] * m for _ in range(stages)] for _ in (F, I)]
        self.arrives[F][0] = [0.0] * m
        self.free, self.held = [0.0] * p, [0.0] * p
        self.rows: list[Row] = [[] for _ in range(p)]
        self.put_off: list[list[tuple[int, int]]] = [[] for _ in range(p)]
        self.last = [W] * p
        self.was_backward, self.none_back = [True] * p, [True] * p
        # Of each rank, what it runs next of each kind and stage: (slot, kind, stage, micro-batch),
        # lowest slot first.
        self.next: list[list[tuple[float, int, int, int]]] = []
        for rank in range(p):
            first = product((F, I), problem.stages_of(rank))
            slots = [(policy.slots[kind][stage], kind, stage, 0) for kind, stage in first]
            self.next.append(sorted(slots))
        self.left = 3 * stages * m
        self.makespan = self.length = math.inf

    def run(self) -> "Greedy":
        """Build the rows, as far as it goes."""
        events = [(0.0, rank) for rank in range(self.problem.ranks)]
        while events:
            now, rank = heappop(events)
            if self.free[rank] > now + self.soon:
                continue  # busy: it looks again when it is done
            choice = self.choose(rank, now)
            if choice is None:
                continue  # it looks again when something arrives
            self.left -= 1
            finish = self.free[rank] = now + self.problem.times[choice[0]][choice[1]]
            heappush(events, (finish, rank))
            arrival = self.do(rank, *choice)
            if arrival:
                heappush(events, arrival)
        if not self.left:
            self.makespan, self.length = max(self.free), self.problem.length(self.free)
        return self

    def choose(self, rank: int, now: float) -> tuple[int, int, int] | None:
        """The next (kind, stage, micro-batch) of a free rank, or None to wait."""
        policy, put_off, soon = self.policy, self.put_off[rank], now + self.soon
        if self.runs_weight_first(rank):
            return W, *put_off[0]
        turn = F if self.was_backward[rank] else I
        following, found, blocked = math.inf, None, False
        for _, kind, stage, i in self.next[rank]:
            at = self.arrives[kind][stage][i]
            if kind == F and not self.fits(rank, stage):
                blocked = blocked or at <= soon
                at = math.inf
            elif kind == F and self.comes_too_late(rank, stage, max(at, now)):
                at = math.inf
            if at <= soon:
                if not policy.in_turn or kind == turn:
                    return kind, stage, i
                found = found or (kind, stage, i)
            else:
                following = min(following, at)
            if policy.strict:
                break
        if found or not put_off:
            return found
        end = now + self.problem.times[W][put_off[0][0]]
        if blocked or not policy.whole or end <= following + self.soon:
            return W, *put_off[0]
        return None

    def runs_weight_first(self, rank: int) -> bool:
        """Whether a weight gradient follows the I that the rank has just run."""
        policy = self.policy
        if not policy.delay or self.last[rank] != I:
            return False
        if len(self.put_off[rank]) <= policy.delay[rank]:
            return False
        return not policy.late or any(kind == F for _, kind, _, _ in self.next[rank])

    def fits(self, rank: int, stage: int) -> bool:
        """Whether a rank has memory for a forward of a stage, and for its way back."""
        problem = self.problem
        last_arm = stage >= problem.stages - problem.ranks
        need = 1 if self.policy.strict or last_arm else 2
        return self.held[rank] + need <= problem.room

    def comes_too_late(self, rank: int, stage: int, start: float) -> bool:
        """Whether a forward would delay the first I of a punctual rank."""
        if not (self.policy.punctual and self.none_back[rank]) or stage >= self.problem.stages - 1:
            return False
        end = start + self.problem.times[F][stage]
        return end > self.first_backward[rank] + self.soon

    def do(self, rank: int, kind: int, stage: int, i: int) -> tuple[float, int] | None:
        """Run an action that ends when the rank is free again.

        Args:
            rank: Which is free.
            kind: F, I or W.
            stage: Of the rank.
            i: The micro-batch.

        Returns:
            When and on which rank its result arrives, or None.
        """
        problem = self.problem
        self.rows[rank].append((KINDS[kind], stage, i))
        self.last[rank] = kind
        if kind == W:
            self.put_off[rank].pop(0)
            self.held[rank] -= problem.weight_grad_memory
            return None
        self.was_backward[rank] = kind == I
        following = self.next[rank]
        place = next(k for k, (_, *action) in enumerate(following) if action == [kind, stage, i])
        slot = following.pop(place)[0]
        if i + 1 < problem.microbatches:
            following.append((slot + self.policy.period, kind, stage, i + 1))
            following.sort()
        at = self.free[rank]
        if kind == I:
            self.none_back[rank] = False
            self.held[rank] -= 1 - problem.weight_grad_memory
            self.put_off[rank].append((stage, i))
            if stage == 0:
                return None
            to, at = stage - 1, at + problem.hops[stage - 1]
        else:
            self.held[rank] += 1
            if stage == problem.stages - 1:
                kind, to = I, stage
            else:
                to, at = stage + 1, at + problem.hops[stage]
        self.arrives[kind][to][i] = at
        return at, problem.home(to)


def first_backwards(problem: Problem) -> list[float]:
    """When each rank can start its first input gradient, if nothing is in the way."""
    forward, backward, _ = problem.times
    there = sum(forward) + sum(problem.hops)
    last = [problem.stages_of(rank)[-1] for rank in range(problem.ranks)]
    return [there + sum(backward[stage + 1 :]) + sum(problem.hops[stage:]) for stage in last]
