"""ZB-1p and ZB-2p: the zero-bubble authors' automatic schedules.

They are found for given costs within a limit of memory.

A rank that is free takes what is ready, input gradients and forwards in turn; a forward only if it
fits in memory and does not delay the rank's first input gradient. If neither is ready, it may run a
weight gradient that was put off: always, or only if that fits before the next action, or if waiting
would make this rank the one that idles most. The better of the two is taken. ZB-1p may hold p
micro-batches, as 1F1B's first rank; ZB-2p twice as many.

The authors' search tries more variants: with costs of table 5's 1.5B model at m = 24 it finds a
span 0.013 % shorter.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from ..schedule import Kind, Schedule
from ..schedule.kinds import KINDS
from ..simulator import Costs, simulate
from .entry import Entry, Size, from_lists, loop
from .zero_bubble import handcrafted

WEIGHT_SHARE = 0.4324
"""How much of a micro-batch's activations waits for W: M_W / M_B of the authors' models (arXiv
2401.10241, table 1).
"""


@dataclass
class RankState:
    """What a rank has done, and when what it needs arrives (inf: not known yet)."""

    index: int
    forward_at: list[float]
    backward_at: list[float]
    first_backward: float
    free: float = 0.0
    look_again: float = 0.0
    idle: float = 0.0
    held: float = 0.0
    done: dict[Kind, int] = field(default_factory=lambda: {Kind.F: 0, Kind.I: 0, Kind.W: 0})
    row: list[tuple[Kind, int, int]] = field(default_factory=list)


class Search:
    """Builds one schedule, event by event.

    costs: one per kind, and one latency. cap: micro-batches in memory. eager: weight gradients
    whenever there is time.
    """

    def __init__(self, size: Size, costs: Costs, cap: float, *, eager: bool):
        p, m = size.ranks, size.microbatches
        self.time: dict[Kind, float] = {}
        for kind in (Kind.F, Kind.I, Kind.W):
            duration = costs.durations[KINDS[kind].cost]
            if not isinstance(duration, tuple):
                self.time[kind] = duration
        self.latency = costs.latency if isinstance(costs.latency, int | float) else 0.0
        self.cap, self.eager, self.m = cap, eager, m
        self.tolerance = 1e-9 * sum(self.time.values())
        f, i = self.time[Kind.F], self.time[Kind.I]
        self.ranks = []
        for s in range(p):
            never = [math.inf] * m
            first = p * f + (p - 1 - s) * i + self.latency * (2 * (p - 1) - s)
            self.ranks.append(RankState(s, [*never], [*never], first_backward=first))
        self.ranks[0].forward_at = [0.0] * m

    def run(self) -> list[list[tuple[Kind, int, int]]]:
        """The rows of the schedule."""
        unfinished = list(self.ranks)
        while unfinished:
            rank = min(unfinished, key=lambda r: max(r.free, r.look_again))
            now = max(rank.free, rank.look_again)
            kind = self.choose(rank, now)
            if kind is None:
                rank.look_again = self.next_look(rank, now)
            else:
                self.do(rank, kind, now)
                unfinished = [r for r in unfinished if r.done[Kind.W] < self.m]
        return [rank.row for rank in self.ranks]

    def arrivals(self, rank: RankState, now: float) -> tuple[float, float]:
        """When the rank's next forward and its next input gradient could start.

        inf if that is not known, or not allowed.
        """
        forwards, backwards = rank.done[Kind.F], rank.done[Kind.I]
        forward = rank.forward_at[forwards] if forwards < self.m else math.inf
        backward = rank.backward_at[backwards] if backwards < forwards else math.inf
        delays = (
            backwards == 0
            and max(now, forward) + self.time[Kind.F] > rank.first_backward + self.tolerance
        )
        if rank.held + 1 > self.cap + 1e-9 or (delays and rank.index < len(self.ranks) - 1):
            forward = math.inf
        return forward, backward

    def choose(self, rank: RankState, now: float) -> Kind | None:
        """What a free rank runs next, or None to wait."""
        forward, backward = self.arrivals(rank, now)
        soon = now + self.tolerance
        if backward <= soon and (forward > soon or not self.was_backward(rank)):
            return Kind.I
        if forward <= soon:
            return Kind.F
        if rank.done[Kind.I] == rank.done[Kind.W]:
            return None
        following = min(forward, backward)
        fits = now + self.time[Kind.W] <= following + self.tolerance
        idles_most = (
            rank.idle + following - rank.free > max(r.idle for r in self.ranks) + self.tolerance
        )
        return Kind.W if self.eager or fits or idles_most else None

    def was_backward(self, rank: RankState) -> bool:
        """Whether of F and I the rank ran I last."""
        return next((kind == Kind.I for kind, _, _ in reversed(rank.row) if kind != Kind.W), True)

    def next_look(self, rank: RankState, now: float) -> float:
        """When something may have changed for a rank that waits."""
        following = min(self.arrivals(rank, now))
        if following < math.inf:
            return following
        looks = [max(other.free, other.look_again) for other in self.ranks if other is not rank]
        later = [look for look in looks if look > now + self.tolerance]
        return min(later, default=now + min(filter(None, self.time.values())))

    def do(self, rank: RankState, kind: Kind, now: float) -> None:
        """Run the next action of a kind on a rank."""
        count, s = rank.done[kind], rank.index
        rank.idle += now - rank.free if rank.row else 0.0
        rank.row.append((kind, s, count))
        rank.done[kind] += 1
        rank.held += {Kind.F: 1, Kind.I: WEIGHT_SHARE - 1, Kind.W: -WEIGHT_SHARE}[kind]
        rank.free = now + self.time[kind]
        if kind == Kind.F and s < len(self.ranks) - 1:
            self.ranks[s + 1].forward_at[count] = rank.free + self.latency
        elif kind == Kind.F:
            rank.backward_at[count] = rank.free
        elif kind == Kind.I and s:
            self.ranks[s - 1].backward_at[count] = rank.free + self.latency


def automatic(name: str, times_p: int) -> Callable[[Size], Schedule]:
    """A maker of schedules that may hold ``times_p`` · p micro-batches."""

    def make(size: Size) -> Schedule:
        if times_p == 1 and size.microbatches > size.ranks:
            # What the search finds within p micro-batches is ZB-H1's order.
            return handcrafted(name, 1)(size)
        costs, found = size.costs or Costs(), []
        for eager in (True, False):
            rows = Search(size, costs, times_p * size.ranks, eager=eager).run()
            found.append(from_lists(name, rows, size, loop(size)))
        return min(found, key=lambda schedule: max(simulate(schedule, costs).metrics["spans"]))

    return make


def _one_cost(size: Size) -> str | None:
    if size.costs and any(isinstance(value, tuple) for value in size.costs.durations.values()):
        return (
            "zb-1p and zb-2p are built for equal stages: give one cost per kind, not one per stage."
        )
    if size.costs and (isinstance(size.costs.latency, tuple) or size.costs.bandwidth is not None):
        return (
            "zb-1p and zb-2p are built for one latency between all ranks and no limit of bandwidth."
        )
    return None


ZB_1P = Entry(
    name="zb-1p",
    title="ZB-1p",
    summary="Automatic, within 1F1B's memory: weight gradients where they cost least.",
    source="Zero bubble, Qi et al. 2024, arXiv 2401.10241, section 3.1 and appendix H",
    make=automatic("zb-1p", 1),
    from_costs=True,
    constraint=_one_cost,
)
ZB_2P = Entry(
    name="zb-2p",
    title="ZB-2p",
    summary="Automatic, within twice 1F1B's memory: next to no bubble for measured costs.",
    source="Zero bubble, Qi et al. 2024, arXiv 2401.10241, section 3.1",
    make=automatic("zb-2p", 2),
    stepwise=True,
    from_costs=True,
    constraint=_one_cost,
)
