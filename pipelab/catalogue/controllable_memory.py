"""V-Half and V-Min: two stages per rank in a V, placed by a repeating pattern that fixes the
memory.

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
    k = 3 if p % 2 == 0 else 0
    return 2 * s, 3 * p - s - 2, 3 * p + k + 2 * s - 1, 6 * p + k - s - 2


def min_slots(s: int, p: int) -> Slots:
    k = 2 if p % 3 == 0 else 0
    return s, 2 * p - s - 1, 2 * p + k + s, 4 * p + k - s - 1


def pattern(s: int, p: int, m: int, slots: Callable[[int, int], Slots]) -> dict[Op, int]:
    """The slot of every op of a rank: W1 in the first residue that is free after I1, W0 in the
    other after I0.
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
    return {(kind, arm, i): t + PERIOD * i for (kind, arm), t in first.items() for i in range(m)}


class Squeeze:
    """Places ops in unit time as early as their inputs, the rank and its memory allow."""

    def __init__(self, size: Size, cap: int):
        self.p, self.m, self.cap = size.ranks, size.microbatches, cap
        self.placed: list[dict[Op, int]] = [{} for _ in range(self.p)]
        self.used: list[set[int]] = [set() for _ in range(self.p)]
        self.last_chain = [-1] * self.p
        self.taken: list[list[int]] = [
            [] for _ in range(self.p)
        ]  # units at which F's take memory, rising
        self.given: list[list[int]] = [
            [] for _ in range(self.p)
        ]  # units from which W's have given it back, rising

    def ready(self, s: int, op: Op) -> int | None:
        """The first unit at which the inputs of an op are there; None while one of them is not
        placed.
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
        ends = [self.placed[rank].get(need) for rank, need in needs]
        return None if None in ends else max((end + 1 for end in ends), default=0)

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
        self.placed[s][op] = t
        self.used[s].add(t)
        if op[0] != Kind.W:
            self.last_chain[s] = max(self.last_chain[s], t)
        if op[0] == Kind.F:
            insort(self.taken[s], t)
        elif op[0] == Kind.W:
            insort(self.given[s], t + 1)

    def place_early(self, s: int, op: Op, in_order: bool) -> None:
        """The earliest free unit; with ``in_order`` an F or I not before the last one of its
        rank.
        """
        t = self.ready(s, op)
        if in_order and op[0] != Kind.W:
            t = max(t, self.last_chain[s] + 1)
        while t in self.used[s] or (op[0] == Kind.F and not self.fits(s, t)):
            t += 1
        self.place(s, op, t)

    def finish(self, waiting: list[dict[Op, int]]) -> None:
        """Unit by unit: the ready F or I of the lowest slot; if there is none, or it breaks the
        cap, a ready W.
        """
        t = min((max(used, default=-1) + 1 for used in self.used), default=0)
        t = min(
            [
                t,
                *(
                    u
                    for s in range(self.p)
                    for u in range(t)
                    if u not in self.used[s] and waiting[s]
                ),
            ]
        )
        while any(waiting):
            for s in range(self.p):
                if t in self.used[s]:
                    continue
                ready = [
                    op for op in waiting[s] if (at := self.ready(s, op)) is not None and at <= t
                ]
                chain = min(
                    (op for op in ready if op[0] != Kind.W),
                    key=lambda op: waiting[s][op],
                    default=None,
                )
                if (
                    chain
                    and t > self.last_chain[s]
                    and not (chain[0] == Kind.F and not self.fits(s, t))
                ):
                    choice = chain
                else:
                    choice = min(
                        (op for op in ready if op[0] == Kind.W),
                        key=lambda op: (-op[1], op[2]),
                        default=None,
                    )
                if choice:
                    self.place(s, choice, t)
                    del waiting[s][choice]
            t += 1


def squeezed(
    name: str, slots: Callable, cap: Callable[[int], int], last: int
) -> Callable[[Size], Schedule]:
    def make(size: Size) -> Schedule:
        p, m = size.ranks, size.microbatches
        squeeze = Squeeze(size, 2 * cap(p))
        patterns = [pattern(s, p, m, slots) for s in range(p)]
        until_free, until_greedy = patterns[0][Kind.I, 0, 0], PERIOD * m - last
        waiting: list[dict[Op, int]] = [{} for _ in range(p)]
        for t, s, op in sorted(
            (t, rank, op) for rank in range(p) for op, t in patterns[rank].items()
        ):
            if t < until_greedy or t < until_free:
                squeeze.place_early(s, op, in_order=t >= until_free)
            else:
                waiting[s][op] = t
        squeeze.finish(waiting)
        rows = []
        for s, placed in enumerate(squeeze.placed):
            ordered = sorted(placed, key=placed.get)
            rows.append([(kind, 2 * p - 1 - s if arm else s, i) for kind, arm, i in ordered])
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
