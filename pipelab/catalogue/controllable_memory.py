"""V-Half and V-Min: two stages per rank in a V, placed by a pattern that fixes the memory.

Every micro-batch starts its F0, F1, I1, I0 (arm of the V behind the letter) six units after the one
before. The smaller the distance from F to I on every rank, the less is in flight: half of 1F1B's
memory for V-Half, a third for V-Min. The two W's go into the free slots, and a greedy pass then
squeezes out the gaps.
"""

from bisect import bisect_right, insort
from collections.abc import Callable
from itertools import count

from ..schedule import Kind, Schedule
from .entry import Entry, Size, from_lists, wave

PERIOD = 6
Op = tuple[Kind, int, int]
"""Kind, arm of the V, micro-batch."""
Slots = tuple[int, int, int, int]
"""When micro-batch 0 runs F0, F1, I1, I0 on a rank."""


def half_slots(s: int, p: int) -> Slots:
    """The slots of V-Half on rank s of p."""
    k = 3 if p % 2 == 0 else 0
    return 2 * s, 3 * p - s - 2, 3 * p + k + 2 * s - 1, 6 * p + k - s - 2


def min_slots(s: int, p: int) -> Slots:
    """The slots of V-Min on rank s of p."""
    k = 2 if p % 3 == 0 else 0
    return s, 2 * p - s - 1, 2 * p + k + s, 4 * p + k - s - 1


def pattern(s: int, p: int, m: int, slots: Callable[[int, int], Slots]) -> dict[Op, int]:
    """The slot of every op of rank s of p, with m micro-batches; slots: those of micro-batch 0.

    W1 goes into the first residue that is free after I1, and W0 into the other after I0.
    """
    f0, f1, i1, i0 = slots(s, p)
    free = set(range(PERIOD)) - {t % PERIOD for t in (f0, f1, i1, i0)}
    w1 = next(t for t in count(i1 + 1) if t % PERIOD in free)
    (left,) = free - {w1 % PERIOD}
    w0 = next(t for t in count(i0 + 1) if t % PERIOD == left)
    first = {
        (Kind.F, 0): f0,
        (Kind.F, 1): f1,
        (Kind.I, 1): i1,
        (Kind.I, 0): i0,
        (Kind.W, 1): w1,
        (Kind.W, 0): w0,
    }
    slotted: dict[Op, int] = {}
    for (kind, arm), t in first.items():
        slotted |= {(kind, arm, i): t + PERIOD * i for i in range(m)}
    return slotted


class Squeeze:
    """Places ops in unit time as early as their inputs, the rank and its memory allow."""

    def __init__(self, size: Size, cap: int):
        self.p, self.m, self.cap = size.ranks, size.microbatches, cap
        self.placed: list[dict[Op, int]] = [{} for _ in range(self.p)]
        self.used: list[set[int]] = [set() for _ in range(self.p)]
        self.last_chain = [-1] * self.p
        # The units at which F's take memory, and from which W's have given it back, both rising.
        self.taken: list[list[int]] = [[] for _ in range(self.p)]
        self.given: list[list[int]] = [[] for _ in range(self.p)]

    def ready(self, s: int, op: Op) -> int | None:
        """The first unit at which the inputs of an op are there.

        None while one of them is not placed.
        """
        kind, arm, i = op
        needs: list[tuple[int, Op]] = []
        if kind == Kind.W:
            needs.append((s, (Kind.I, arm, i)))
        else:
            stage = 2 * self.p - 1 - s if arm else s
            before = stage - 1 if kind == Kind.F else stage + 1
            if 0 <= before < 2 * self.p:
                rank, its_arm = (before, 0) if before < self.p else (2 * self.p - 1 - before, 1)
                needs.append((rank, (kind, its_arm, i)))
            if kind == Kind.I:
                needs.append((s, (Kind.F, arm, i)))
        first = 0
        for rank, need in needs:
            end = self.placed[rank].get(need)
            if end is None:
                return None
            first = max(first, end + 1)
        return first

    def fits(self, s: int, t: int) -> bool:
        """Whether one more micro-batch in flight from unit t on stays within the cap."""
        taken, given = self.taken[s], self.given[s]
        k, n = bisect_right(taken, t), bisect_right(given, t)
        level = 1 + k - n
        if level > self.cap:
            return False
        changes: dict[int, int] = {}
        for at, change in [*((at, 1) for at in taken[k:]), *((at, -1) for at in given[n:])]:
            changes[at] = changes.get(at, 0) + change
        for at in sorted(changes):
            level += changes[at]
            if level > self.cap:
                return False
        return True

    def place(self, s: int, op: Op, t: int) -> None:
        """Put an op into unit t of rank s."""
        self.placed[s][op] = t
        self.used[s].add(t)
        if op[0] != Kind.W:
            self.last_chain[s] = max(self.last_chain[s], t)
        if op[0] == Kind.F:
            insort(self.taken[s], t)
        elif op[0] == Kind.W:
            insort(self.given[s], t + 1)

    def place_early(self, s: int, op: Op, *, in_order: bool) -> None:
        """Put an op into the earliest free unit; its inputs are placed.

        in_order: an F or I does not come before the last one of its rank.
        """
        t = self.ready(s, op) or 0
        if in_order and op[0] != Kind.W:
            t = max(t, self.last_chain[s] + 1)
        while t in self.used[s] or (op[0] == Kind.F and not self.fits(s, t)):
            t += 1
        self.place(s, op, t)

    def finish(self, waiting: list[dict[Op, int]]) -> None:
        """Place the rest, unit by unit."""
        t = self.first_gap(waiting)
        while any(waiting):
            for s in range(self.p):
                if t in self.used[s]:
                    continue
                choice = self.choice(s, t, waiting[s])
                if choice:
                    self.place(s, choice, t)
                    del waiting[s][choice]
            t += 1

    def first_gap(self, waiting: list[dict[Op, int]]) -> int:
        """The first unit that some rank with ops left does not use."""
        t = min((max(used, default=-1) + 1 for used in self.used), default=0)
        for s in range(self.p):
            if waiting[s]:
                t = min([t, *(unit for unit in range(t) if unit not in self.used[s])])
        return t

    def choice(self, s: int, t: int, waiting: dict[Op, int]) -> Op | None:
        """The ready F or I of the lowest slot; without one that keeps to the cap, a ready W."""
        ready = [op for op in waiting if (at := self.ready(s, op)) is not None and at <= t]
        chain = [op for op in ready if op[0] != Kind.W]
        if chain and t > self.last_chain[s]:
            lowest = min(chain, key=lambda op: waiting[op])
            if lowest[0] != Kind.F or self.fits(s, t):
                return lowest
        weights = [op for op in ready if op[0] == Kind.W]
        return min(weights, key=lambda op: (-op[1], op[2]), default=None)


def squeezed(
    name: str, slots: Callable[[int, int], Slots], cap: Callable[[int], int], last: int
) -> Callable[[Size], Schedule]:
    """A maker of schedules with these slots.

    Args:
        name: Of the schedule.
        slots: (rank, ranks) -> the slots of micro-batch 0.
        cap: ranks -> the micro-batches that a rank may hold.
        last: So many slots before the end of the pattern, the greedy pass begins.
    """

    def make(size: Size) -> Schedule:
        p, m = size.ranks, size.microbatches
        squeeze = Squeeze(size, 2 * cap(p))
        patterns = [pattern(s, p, m, slots) for s in range(p)]
        until_free, until_greedy = patterns[0][Kind.I, 0, 0], PERIOD * m - last
        waiting: list[dict[Op, int]] = [{} for _ in range(p)]
        slotted = []
        for rank in range(p):
            slotted += [(t, rank, op) for op, t in patterns[rank].items()]
        for t, s, op in sorted(slotted):
            if t < until_greedy or t < until_free:
                squeeze.place_early(s, op, in_order=t >= until_free)
            else:
                waiting[s][op] = t
        squeeze.finish(waiting)
        rows = []
        for s, placed in enumerate(squeeze.placed):
            ordered, stages = sorted(placed, key=placed.__getitem__), (s, 2 * p - 1 - s)
            rows.append([(kind, stages[arm], i) for kind, arm, i in ordered])
        return from_lists(name, rows, size, wave(size))

    return make


V_HALF = Entry(
    name="v-half",
    title="V-Half",
    summary="Half of 1F1B's memory on every rank, about half of its bubble.",
    source="Pipeline parallelism with controllable memory, Qi et al. 2024, arXiv 2405.15362, "
    "section 3",
    make=squeezed("v-half", half_slots, lambda p: (p + 2) // 2, 7),
    stepwise=True,
    stages_per_rank=2,
    fixed="has two stages per rank, one on each arm of the V",
)
V_MIN = Entry(
    name="v-min",
    title="V-Min",
    summary="A third of 1F1B's memory on every rank, about two thirds of its bubble.",
    source="Pipeline parallelism with controllable memory, Qi et al. 2024, arXiv 2405.15362, "
    "section 3",
    make=squeezed("v-min", min_slots, lambda p: (p + 4) // 3, 6),
    stepwise=True,
    stages_per_rank=2,
    fixed="has two stages per rank, one on each arm of the V",
)
