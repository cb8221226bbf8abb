"""The best order of all, and a proof that it is, for small cases.

It is a constraint program for OR-tools' CP-SAT solver.

Every F, I and W is an interval. Intervals of one rank do not overlap; each starts after what it
needs, latency included; what a rank holds is a cumulative constraint in whole units of memory. The
makespan, or the longest span, is minimised from the best known order.

Times are whole numbers of ticks. Costs that are fractions with denominators up to 10,000 are exact;
others are rounded down to ticks of a hundred-thousandth of the work of the longest rank, so that
the bound stays a bound. Micro-batches are alike, so they pass every stage in order of their
numbers: no makespan and no span is lost by that.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, product
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..schedule import Kind
from ..simulator import Costs
from ..timeline import Timeline
from .problem import Problem, Row, per_stage

if TYPE_CHECKING:
    from ortools.sat.python import cp_model

F, I, W = 0, 1, 2  # noqa: E741 - the field's letters
LARGEST_DENOMINATOR = 10_000
TICKS = 100_000
Cell = tuple[int, int]
"""Stage and micro-batch."""
CODE = {Kind.F: F, Kind.B: I, Kind.I: I, Kind.W: W}
INSTALL = (
    "An exact optimum needs OR-tools, which is not installed: pip install 'pipelab[exact]'. "
    "Without it, the heuristic finds a schedule and says how far it may be from the optimum."
)


@dataclass(frozen=True)
class Solution:
    """What the solver found.

    rows: the best order, None if there was no time to find any. bound: no length is below it.
    """

    rows: list[Row] | None
    bound: float


def solve(problem: Problem, costs: Costs, timeline: Timeline, time_limit: float) -> Solution:
    """Search for the best order.

    Args:
        problem: What is searched for.
        costs: Also of full backwards.
        timeline: Of a known schedule, to start from.
        time_limit: For at most so many seconds.

    Raises:
        UsageError: OR-tools is not installed.
    """
    try:
        from ortools.sat.python import cp_model
    except ImportError:
        raise UsageError(INSTALL) from None
    full = per_stage(costs.durations["backward"], problem.stages)
    durations = [*chain(*problem.times, full), problem.latency]
    tick = _tick(durations, problem)
    program = _Program(cp_model.CpModel(), problem, full, tick)
    program.limit_memory()
    program.add_hint(timeline)
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = time_limit
    solver.parameters.random_seed = 0
    status = solver.solve(program.model)
    whole = all(math.isclose(program.ticks(time) * tick, time) for time in durations)
    # Where times are rounded down, a span may lose up to a tick more at its start than at its end.
    lost = 0.0 if whole or problem.objective == "makespan" else tick
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        bound = solver.best_objective_bound * tick - lost if status == cp_model.UNKNOWN else 0.0
        return Solution(None, max(0.0, bound))
    bound = solver.best_objective_bound * tick - lost
    return Solution(program.rows(solver), max(0.0, bound))


def _tick(durations: list[float], problem: Problem) -> float:
    """The largest time of which all durations are multiples, or a small one."""
    whole = [Fraction(d).limit_denominator(LARGEST_DENOMINATOR) for d in durations]
    busy = []
    for rank in range(problem.ranks):
        of_rank = product(problem.times, problem.stages_of(rank))
        busy.append(sum(times[stage] for times, stage in of_rank))
    work = problem.microbatches * max(busy)
    if all(math.isclose(float(w), d, rel_tol=1e-12) for w, d in zip(whole, durations, strict=True)):
        common = math.lcm(*(w.denominator for w in whole))
        divisor = math.gcd(*(int(w * common) for w in whole)) or 1
        if work * common / divisor < 1e9:
            return divisor / common
    return work / TICKS


class _Program:
    """The variables and constraints, by (stage, micro-batch)."""

    def __init__(
        self, model: "cp_model.CpModel", problem: Problem, full: tuple[float, ...], tick: float
    ):
        self.model, self.problem, self.tick = model, problem, tick
        self.times = [[self.ticks(t) for t in times] for times in problem.times]
        self.full_time = [self.ticks(t) for t in full]
        self.latency = [self.ticks(hop) for hop in problem.hops]
        # Long enough for one micro-batch after the other, which always fits.
        work = sum(map(sum, self.times)) + sum(self.full_time) + 2 * sum(self.latency)
        horizon = self.horizon = work * problem.microbatches
        cells = list(product(range(problem.stages), range(problem.microbatches)))
        self.starts = [{c: model.new_int_var(0, horizon, "") for c in cells} for _ in (F, I, W)]
        # Whether a backward is a full one: only where that is faster than I and W.
        parts = zip(self.full_time, *self.times[1:], strict=True)
        may_be_full = self.may_be_full = [b < i + w for b, i, w in parts]
        self.full: dict[Cell, cp_model.IntVar | int] = dict.fromkeys(cells, 0)
        for cell in cells:
            if may_be_full[cell[0]]:
                self.full[cell] = model.new_bool_var("")
        self.sizes: list[dict[Cell, Any]] = [{}, {}, {}]
        self.ends: list[dict[Cell, Any]] = [{}, {}, {}]
        for kind in (F, I, W):
            for cell in cells:
                self._last(kind, cell)
        self.length = model.new_int_var(0, horizon, "length")
        begin = self._begins()
        for cell in cells:
            self._needs(*cell)
            self.model.add(self.length >= self.ends[W][cell] - begin[problem.home(cell[0])])
        for rank in range(problem.ranks):
            mine = [cell for cell in cells if cell[0] in problem.stages_of(rank)]
            intervals = []
            for kind in (F, I, W):
                intervals += [self._interval(kind, cell) for cell in mine]
            model.add_no_overlap(intervals)
        for kind in (F, I) if any(may_be_full) else (F, I, W):
            for s, i in cells:
                if i:
                    model.add(self.starts[kind][s, i] >= self.ends[kind][s, i - 1])
        model.minimize(self.length)

    def _begins(self) -> Sequence["cp_model.IntVar | int"]:
        """From where the length counts on each rank: 0 for the makespan, for a span its start."""
        ranks = range(self.problem.ranks)
        if self.problem.objective == "makespan":
            return [0 for _ in ranks]
        self.model.add(self.starts[F][0, 0] == 0)
        return [self.starts[F][rank, 0] for rank in ranks]

    def _last(self, kind: int, cell: Cell) -> None:
        """Duration and end of an action; the end is a variable of its own where the duration is."""
        stage, full, start = cell[0], self.full[cell], self.starts[kind][cell]
        size: Any = self.times[kind][stage]
        if kind == I:
            size = size + (self.full_time[stage] - size) * full
        elif kind == W:
            size = size * (1 - full)
        end: Any = start + size
        if self.may_be_full[stage]:
            end = self.model.new_int_var(0, self.horizon, "")
            self.model.add(end == start + size)
        self.sizes[kind][cell], self.ends[kind][cell] = size, end

    def _interval(self, kind: int, cell: Cell) -> "cp_model.IntervalVar":
        """From the start to the end of an action."""
        start, end = self.starts[kind][cell], self.ends[kind][cell]
        return self.model.new_interval_var(start, self.sizes[kind][cell], end, "")

    def ticks(self, time: float) -> int:
        """A time in whole ticks, rounded down."""
        return math.floor(time / self.tick + 1e-6)

    def _needs(self, stage: int, i: int) -> None:
        """What each action waits for."""
        add, starts, ends, last = self.model.add, self.starts, self.ends, self.problem.stages - 1
        if stage:
            add(starts[F][stage, i] >= ends[F][stage - 1, i] + self.latency[stage - 1])
        if stage < last:
            add(starts[I][stage, i] >= ends[I][stage + 1, i] + self.latency[stage])
        add(starts[I][stage, i] >= ends[F][stage, i])
        add(starts[W][stage, i] >= ends[I][stage, i])

    def limit_memory(self) -> None:
        """Limit what each rank holds.

        From the start of F to the end of I a micro-batch holds one share, to the end of W the
        other.
        """
        problem = self.problem
        weight = Fraction(problem.weight_grad_memory).limit_denominator(LARGEST_DENOMINATOR)
        unit = weight.denominator
        shares = {I: unit - weight.numerator, W: weight.numerator}
        for rank in range(problem.ranks):
            held, demands = [], []
            cells = list(product(problem.stages_of(rank), range(problem.microbatches)))
            for kind, share in shares.items():
                for cell in cells if share else []:
                    start, end = self.starts[F][cell], self.ends[kind][cell]
                    length = self.model.new_int_var(0, self.horizon, "")
                    held.append(self.model.new_interval_var(start, length, end, ""))
                    demands.append(share)
            self.model.add_cumulative(held, demands, math.floor(problem.room * unit))

    def add_hint(self, timeline: Timeline) -> None:
        """Start from a known schedule: what it is, and that nothing longer is wanted."""
        schedule = timeline.schedule
        for atom, (started, ended) in enumerate(
            zip(timeline.started.tolist(), timeline.ended.tolist(), strict=True)
        ):
            kind, stage, i, _ = schedule.atom(atom)
            cell, start = (stage, i), self.ticks(started)
            if kind == Kind.B:
                self.model.add_hint(self.starts[W][cell], self.ticks(ended))
            full = self.full[cell]
            if not isinstance(full, int) and kind in (Kind.B, Kind.I):
                self.model.add_hint(full, kind == Kind.B)
            self.model.add_hint(self.starts[CODE[kind]][cell], start)
        lengths = timeline.metrics["spans"] if self.problem.objective == "span" else []
        self.model.add_hint(self.length, self.ticks(max(lengths, default=timeline.makespan)))

    def rows(self, solver: "cp_model.CpSolver") -> list[Row]:
        """The actions of each rank by their start; a full backward as B, without its W."""
        timed: list[list[tuple[int, ...]]] = [[] for _ in range(self.problem.ranks)]
        for (stage, i), full in self.full.items():
            is_full = bool(solver.value(full))
            for k, kind in ((F, Kind.F), (I, Kind.B if is_full else Kind.I), (W, Kind.W)):
                if is_full and k == W:
                    continue
                start, end = (solver.value(at[k][stage, i]) for at in (self.starts, self.ends))
                # What takes no time stands before what starts at the same tick, and after what it
                # needs.
                way = -stage if k == I else stage
                timed[self.problem.home(stage)].append((start, end, k, way, stage, i, kind))
        return [[(Kind(kind), stage, i) for *_, stage, i, kind in sorted(row)] for row in timed]
