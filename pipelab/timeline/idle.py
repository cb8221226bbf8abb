"""Why a rank stood idle, and whether another order of its actions would have used the time."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..schedule import Kind
from ..schedule.collectives import USES_WEIGHTS
from ..schedule.kinds import KINDS
from ..schedule.longest_path import longest_path

if TYPE_CHECKING:
    from .timeline import Timeline

CAUSES = (
    "warm-up",
    "upstream-forward",
    "downstream-backward",
    "transfer",
    "imbalance",
    "barrier",
    "gap",
    "cool-down",
)
_TINY = 1e-9
"""Of the makespan: less is rounding."""


class Idle(NamedTuple):
    """An idle interval of a rank.

    cause: one of
    "warm-up" before the rank's first action;
    "upstream-forward" or "downstream-backward" while it waited for a stage of another rank, by the
    input that came last; "imbalance" the end of such a wait, as far as it is longer than the same
    action waits when the same schedule runs on stages that all cost the mean (see
    ``balanced_waiting``); "transfer" while data was under way; "barrier" while an optimizer step
    waited for all ranks to come to theirs, or copies of a pipeline for the last one at a sum of
    gradients or a gather of weights; "gap" between two actions, before the second asked for its
    input; "cool-down" after its last action.
    ended_by: index of the action whose start ended it; None for cool-down. filler: index of an
    action that stands later on the rank and could have begun in the interval, because all its
    inputs had arrived; None if there is none. See ``forced``.
    """

    rank: int
    start: float
    end: float
    cause: str
    ended_by: int | None
    filler: int | None = None

    @property
    def forced(self) -> bool:
        """Whether no other order of the rank's actions would have used the time.

        All else stays as it was. False when ``filler`` was ready. If that is an F, running it
        earlier takes memory for one more micro-batch.
        """
        return self.filler is None


def idle_intervals(timeline: "Timeline") -> list[Idle]:
    """Idle intervals in order of rank and time.

    With its actions they fill each rank's makespan, end to start.
    """
    out: list[Idle] = []
    begin, finish = float(timeline.started.min()), float(timeline.ended.max())
    asked, sent, arrived, ended = (
        a.tolist() for a in (timeline.asked, timeline.sent, timeline.arrived, timeline.ended)
    )
    tiny = _TINY * (finish - begin)
    latency = shortest_transfer(timeline) if timeline.transit is None else timeline.transit
    cause = _causes(timeline)
    expected = balanced_waiting(timeline, latency).tolist()
    ready = _ready(timeline, latency)
    later = _ready_later(timeline, ready)

    def add(rank: int, start: float, end: float, cause: str, ended_by: int | None) -> None:
        if end <= start:
            return
        could_run: tuple[int, ...] = ()
        if ended_by is not None and cause != "gap":
            could_run = later[ended_by]
        filler = next((atom for atom in could_run if atom >= 0 and ready[atom] < end - tiny), None)
        out.append(Idle(rank, start, end, cause, ended_by, filler))

    for rank, (low, high) in enumerate(timeline.schedule.slices):
        add(rank, begin, arrived[low], "warm-up", low)
        for i in range(low + 1, high):
            handed = max(asked[i], sent[i])
            split = min(asked[i] + expected[i], handed)
            if split - asked[i] <= tiny:
                split = asked[i]
            elif handed - split <= tiny:
                split = handed
            add(rank, ended[i - 1], asked[i], "gap", i)
            add(rank, asked[i], split, cause[i], i)
            add(rank, split, handed, "imbalance", i)
            add(rank, handed, arrived[i], "transfer", i)
        add(rank, ended[high - 1], finish, "cool-down", None)
    return out


def idle_by_cause(timeline: "Timeline") -> dict[str, list[float]]:
    """Idle time of each rank by cause, all of CAUSES.

    Over the causes, it sums to ``metrics["idle"]``.
    """
    totals = {cause: [0.0] * timeline.schedule.ranks for cause in CAUSES}
    for interval in timeline.idle:
        totals[interval.cause][interval.rank] += interval.end - interval.start
    return totals


def shortest_transfer(timeline: "Timeline") -> float:
    """The shortest time from the end of an action to the start of its user on another rank.

    It is for timelines that do not know the ``transit`` of each input: a measured one cannot tell
    when an input came before it was asked for.
    """
    remote = np.flatnonzero(timeline.schedule.crosses)
    if not len(remote):
        return 0.0
    sources = timeline.schedule.producer[remote]
    return float((timeline.started[remote] - timeline.ended[sources]).min())


def balanced_waiting(timeline: "Timeline", latency: float | np.ndarray) -> np.ndarray:
    """How long each action would wait for another rank to send if all stages cost the mean.

    The same schedule again, where an action of a kind takes the mean over the stages of what that
    kind takes there, gaps before it included; an overlapped pair is a kind of its own. Infinite
    where all stages cost the same already: there is no imbalance to look for. On a measured
    timeline, what varies from one action to the next counts as imbalance too.
    """
    schedule, count = timeline.schedule, len(timeline.schedule.kind)
    heads, seconds = schedule.heads, schedule.seconds
    paired = np.append(~heads[1:], False)
    gap = np.append(0.0, timeline.asked[1:] - timeline.ended[:-1])
    gap[schedule.offsets[:-1]] = 0
    length = timeline.compute + np.where(heads, np.maximum(gap, 0), 0)
    group = np.where(paired, len(KINDS), schedule.kind)
    mean = np.zeros(count)
    for which in np.unique(group[heads]):
        mine = heads & (group == which)
        total = np.bincount(schedule.stage[mine], length[mine])
        actions = np.bincount(schedule.stage[mine])
        mean[mine] = (total[actions > 0] / actions[actions > 0]).mean()
    if np.abs(length - mean)[heads].max() <= _TINY * timeline.makespan:
        return np.full(count, np.inf)
    path = longest_path(schedule, mean, latency)
    started, ended = path.started[path.cell_of], path.ended[path.cell_of]
    sent = np.where(schedule.crosses, ended[schedule.producer], -np.inf)
    free = np.append(0.0, ended[:-1])
    sent[seconds - 1] = np.maximum(sent[seconds - 1], sent[seconds])
    waits = np.where(heads, np.maximum(np.minimum(sent, started) - free, 0), 0)
    return np.where(schedule.of_microbatch, waits, np.inf)


def _causes(timeline: "Timeline") -> list[str]:
    """Which kind of input from another rank came last to the cell of each atom."""
    schedule = timeline.schedule
    forward = (schedule.kind == Kind.F).tolist()
    sent = np.where(schedule.crosses, timeline.ended[schedule.producer], -np.inf).tolist()
    for i in schedule.seconds.tolist():
        if sent[i] > sent[i - 1]:
            forward[i - 1] = forward[i]
    causes = [("downstream-backward", "upstream-forward")[f] for f in forward]
    for i in np.flatnonzero(~schedule.of_microbatch).tolist():
        causes[i] = "barrier"  # it has no input: nothing else makes it wait
    return causes


def _ready(timeline: "Timeline", latency: float | np.ndarray) -> list[float]:
    """When all inputs of each cell were on its rank, at the first atom of the cell.

    Data from another rank counts as arrived ``latency`` (of all atoms, or of each) after it was
    computed. Infinite for a second atom, and for actions of no micro-batch: which actions come
    before an optimizer step or a sum of gradients is part of what a schedule computes.
    """
    schedule = timeline.schedule
    producer, work = schedule.producer, schedule.of_microbatch
    arrival = timeline.ended[producer] + np.where(schedule.crosses, latency, 0.0)
    ready = np.where(producer >= 0, arrival, -np.inf)
    key = schedule.part * schedule.microbatches + np.where(work, schedule.microbatch, 0)
    for row in KINDS:
        for used, _ in row.needs:
            mine, inputs = schedule.kind == row.kind, schedule.kind == used
            if mine.any() and inputs.any():
                done = np.full(schedule.replicas * schedule.stages * schedule.microbatches, -np.inf)
                done[key[inputs]] = timeline.ended[inputs]
                ready[mine] = np.maximum(ready[mine], done[key[mine]])
    if Kind.UNSHARD in schedule.kinds:
        ready = np.maximum(ready, _gathered(timeline))
    tails = schedule.seconds
    ready[tails - 1] = np.maximum(ready[tails - 1], ready[tails])
    ready[tails] = np.inf
    ready[~work] = np.inf
    out: list[float] = ready.tolist()
    return out


def _gathered(timeline: "Timeline") -> np.ndarray:
    """When the weights that each action uses were gathered; -inf for those that are not."""
    schedule = timeline.schedule
    part, uses = schedule.part.tolist(), np.isin(schedule.kind, USES_WEIGHTS).tolist()
    gathers = (schedule.kind == Kind.UNSHARD).tolist()
    times = np.full(len(part), -np.inf)
    at: dict[int, float] = {}  # of each part: when its weights were gathered last
    for atom, stage in enumerate(part):
        if gathers[atom]:
            at[stage] = float(timeline.ended[atom])
        elif uses[atom]:
            times[atom] = at.get(stage, -np.inf)
    return times


def _ready_later(timeline: "Timeline", ready: list[float]) -> list[tuple[int, int]]:
    """The action behind each atom that is ready first, of those without an F and of those with.

    It stands on the same rank and before the next STEP; -1 where there is none. An F comes second
    because it takes memory. Of equals, the earlier one in the rank's order counts.
    """
    schedule = timeline.schedule
    kind, out = schedule.kind.tolist(), [(-1, -1)] * len(schedule.kind)
    takes = ((timeline.kind == Kind.F) | np.append(~schedule.heads[1:], False)).tolist()
    ends = set(schedule.offsets[1:].tolist())
    for i in reversed(range(len(kind))):
        if i + 1 in ends or kind[i] == Kind.STEP:
            other = forward = -1
        out[i] = other, forward
        if kind[i] == Kind.STEP or ready[i] == np.inf:
            continue
        if takes[i] and (forward < 0 or ready[i] <= ready[forward]):
            forward = i
        elif not takes[i] and (other < 0 or ready[i] <= ready[other]):
            other = i
    return out
