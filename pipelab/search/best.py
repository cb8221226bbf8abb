"""The best schedule for given costs under a limit of memory, and its gap to a bound.

policies ─▶ greedy, a few micro-batches ─▶ greedy, all of them ─▶ improve ─▶ the shortest
known schedules that fit ────────────────────▶ (spans: refill) ──┘            (exact: then CP-SAT)
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ..schedule import Kind, Schedule
from ..simulator import Costs, simulate
from ..timeline import Timeline
from .bounds import is_weak, lower_bound
from .exact import solve
from .greedy import Greedy, Policy, first_backwards
from .improve import improve
from .policies import policies
from .problem import EXACT, WEIGHT_GRAD_MEMORY, Problem, Row, peak_memory, pose
from .refill import refill

GREEDY_ACTIONS = 1_500_000
"""Actions that the policies may place in all when they are compared: about three seconds."""
IMPROVED_ACTIONS = 400_000
"""Actions that improving may evaluate in all: under half a second."""
MOST_TRIES = 1500
FINALISTS = 8


@dataclass(frozen=True)
class Found:
    """What was found.

    objective: what was to be short, "makespan" or "span". length: that of the schedule, in the unit
    of the costs, as lower_bound: no schedule of F, B, I and W with this placement and memory is
    shorter. gap: length / lower_bound − 1. proven: whether the length is known to be the optimum.
    bound_is_weak: whether the optimum may lie far above the bound, as it does on a V whose ranks
    hold less than 1F1B's: the gap then tells little. memory: the most that each rank holds, in the
    unit of the limit.
    """

    schedule: Schedule
    timeline: Timeline
    lower_bound: float
    memory: list[float]
    objective: str = "makespan"
    bound_is_weak: bool = False

    @property
    def makespan(self) -> float:
        """First start to last end."""
        return self.timeline.makespan

    @property
    def span(self) -> float:
        """First start to last end of one rank, on that which takes longest."""
        return float(max(self.timeline.metrics["spans"]))

    @property
    def length(self) -> float:
        """What was to be short."""
        return self.span if self.objective == "span" else self.makespan

    @property
    def gap(self) -> float:
        """How much longer than the lower bound it is, as a fraction of that."""
        return max(0.0, self.length / self.lower_bound - 1) if self.lower_bound else 0.0

    @property
    def proven(self) -> bool:
        """Whether nothing shorter exists."""
        return self.gap <= 10 * EXACT


def best(  # noqa: PLR0913 - keywords alone: what is searched for, and how
    *,
    ranks: int,
    microbatches: int,
    placement: str = "loop",
    costs: Costs | None = None,
    memory_limit: float | None = None,
    weight_grad_memory: float = WEIGHT_GRAD_MEMORY,
    candidates: Iterable[Schedule] = (),
    effort: float = 1,
    exact: bool = False,
    time_limit: float = 60,
    objective: str = "makespan",
) -> Found:
    """Search for the schedule with the shortest makespan, or the shortest longest span.

    Of equals that it meets, it takes the one that is shorter by the other of the two. Searched are
    orders of F with I and W, and of F with B where a full backward is faster; exact also mixes
    them.

    Args:
        ranks: How many there are.
        microbatches: How many there are.
        placement: "loop" (one stage per rank) or "v" (two).
        costs: Per action of one stage, one number or one per stage.
        memory_limit: Activations of one micro-batch through all of a rank's layers that a rank may
            hold. Default: ``ranks``, as 1F1B.
        weight_grad_memory: The share of them that W gives back.
        candidates: Known schedules, which are used if they fit, so that the result is never longer.
        effort: How much the heuristic may try; 1 takes about a second for 8 × 24 and some for
            16 × 128, 0.005 a tenth of that.
        exact: Whether to go on with OR-tools.
        time_limit: For at most so many seconds.
        objective: "makespan", first start to last end over all ranks, or "span", the same on the
            rank where it takes longest: what a step costs where no rank waits for all others before
            it goes on with the next.

    Returns:
        What was found, with a lower bound.

    Raises:
        UsageError: the numbers are impossible, or OR-tools is missing.

    >>> found = best(ranks=4, microbatches=8, costs=Costs(1, input_grad=1, weight_grad=1))
    >>> found.makespan, found.lower_bound, found.proven
    (27.0, 27.0, True)
    """
    costs = Costs() if costs is None else costs
    problem = pose(
        ranks, microbatches, placement, costs, memory_limit, weight_grad_memory, objective
    )
    bound = lower_bound(problem, costs)
    found = BestSoFar(problem, costs, bound, effort)
    for schedule in candidates:
        found.offer(schedule)
        if found.optimal:
            break
    found.heuristic()
    if exact and not found.optimal:
        bound = max(bound, found.exact(time_limit))
    schedule, timeline = found.best
    memory = peak_memory(schedule, weight_grad_memory)
    weak = is_weak(problem) and bound <= found.bound and not found.optimal
    return Found(schedule, timeline, bound, memory, objective, weak)


class BestSoFar:
    """The shortest schedule so far.

    forms: the problem, and once more with full backwards where these are faster.
    """

    def __init__(self, problem: Problem, costs: Costs, bound: float, effort: float = 1):
        self.problem, self.costs, self.bound, self.effort = problem, costs, bound, effort
        full = problem.with_full_backwards(costs)
        parts = zip(full.times[1], *problem.times[1:], strict=True)
        faster = any(b < i + w for b, i, w in parts)
        self.forms = [problem, full] if faster else [problem]
        self.found: list[tuple[Schedule, Timeline]] = []  # the shortest first

    @property
    def best(self) -> tuple[Schedule, Timeline]:
        """The shortest, with its timeline."""
        return self.found[0]

    @property
    def length(self) -> float:
        """The objective of the best."""
        _, timeline = self.best
        if self.problem.objective == "span":
            return float(max(timeline.metrics["spans"]))
        return timeline.makespan

    @property
    def optimal(self) -> bool:
        """Whether it is as short as the bound."""
        return bool(self.found) and self.length <= self.bound * (1 + EXACT)

    def offer(self, schedule: Schedule) -> None:
        """Take a known schedule into account if it solves the problem."""
        problem = self.problem
        placement = {(0, stage): problem.home(stage) for stage in range(problem.stages)}
        alike = (
            dict(schedule.placement) == placement
            and schedule.microbatches == problem.microbatches
            and schedule.kinds <= {Kind.F, Kind.B, Kind.I, Kind.W}
            and not schedule.overlaps
            and schedule.weights == "one"
        )
        if alike:
            peak = max(peak_memory(schedule, problem.weight_grad_memory))
            if peak <= problem.limit * (1 + EXACT):
                self._keep(schedule)
                self._refill(schedule)

    def heuristic(self) -> None:
        """Try the policies, then improves the best of what they found."""
        for form in self.forms:
            if self.optimal:
                return
            for rows in _greedy(form, self.effort):
                self._keep(form.schedule(rows))
        for schedule, _ in self.found[:2]:
            self._refill(schedule)
        affordable = int(self.effort * IMPROVED_ACTIONS) // (
            3 * self.problem.stages * self.problem.microbatches
        )
        tries = min(MOST_TRIES, affordable)
        for form in self.forms if tries else ():
            for schedule, _ in self.found[:2]:
                known = _rows(form, schedule)
                if known and not self.optimal:
                    self._keep(form.schedule(improve(form, known, tries)))

    def exact(self, time_limit: float) -> float:
        """Go on with the exact search; return its bound."""
        schedule, timeline = self.best
        solution = solve(self.problem, self.costs, timeline, time_limit)
        if solution.rows:
            self._keep(self.problem.schedule(solution.rows))
        return solution.bound

    def _refill(self, schedule: Schedule) -> None:
        """For the shortest span, also take the schedule with its weight gradients placed anew."""
        if self.problem.objective == "makespan" or self.optimal:
            return
        known = _rows(self.problem, schedule)
        rows = known and refill(self.problem, known)
        if rows:
            self._keep(self.problem.schedule(rows))

    def _keep(self, schedule: Schedule) -> None:
        schedule = replace(schedule, name="auto")
        timeline = simulate(schedule, self.costs)
        self.found.append((schedule, timeline))
        self.found.sort(key=self._rating)
        del self.found[FINALISTS:]

    def _rating(self, found: tuple[Schedule, Timeline]) -> tuple[float, float]:
        """The objective, then the other of makespan and longest span.

        The last digits are left out: there, sums of floats differ by their order.
        """
        _, timeline = found
        lengths = timeline.makespan, max(timeline.metrics["spans"])
        first, second = lengths if self.problem.objective == "makespan" else lengths[::-1]
        return float(f"{first:.9g}"), second


def _greedy(problem: Problem, effort: float) -> list[list[Row]]:
    """The rows of the finalists among the policies.

    They are compared on as many micro-batches as fill the pipeline twice, then run on all.
    """
    few = replace(problem, microbatches=min(problem.microbatches, 2 * problem.ranks + 1))
    first = first_backwards(problem)
    budget = int(effort * GREEDY_ACTIONS) // (3 * problem.stages)
    affordable = max(FINALISTS, budget // few.microbatches)
    # One policy for each length: those that take equally long mostly do the same.
    by_length: dict[float, Policy] = {}
    for policy in policies(problem)[:affordable]:
        length = Greedy(few, policy, first).run().length
        by_length.setdefault(float(f"{length:.9g}"), policy)
    finalists = max(2, min(FINALISTS, budget // problem.microbatches))
    shortest = sorted(by_length)[:finalists]
    ran = [Greedy(problem, by_length[length], first).run() for length in shortest]
    return [run.rows for run in ran if run.length < float("inf")]


def _rows(problem: Problem, schedule: Schedule) -> list[Row] | None:
    """A schedule as rows of the problem; None if it has other kinds of actions."""
    kinds = {Kind.F, Kind.B} if problem.full else {Kind.F, Kind.I, Kind.W}
    if schedule.kinds != kinds:
        return None
    rows = []
    for low, high in schedule.slices:
        row: Row = []
        for kind, stage, i, _ in map(schedule.atom, range(low, high)):
            if kind == Kind.B:
                row += [(Kind.I, stage, i), (Kind.W, stage, i)]
            else:
                row.append((kind, stage, i))
        rows.append(row)
    return rows
