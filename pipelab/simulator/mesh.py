"""What the workers of a mesh do together: how long it takes, and who waits for whom.

    all-reduce               2 (k − 1) · α + 2 (k − 1)/k · bytes / β       over k workers, as a ring
    gather, reduce-scatter     (k − 1) · α +   (k − 1)/k · bytes / β

    copy 0   … 0B1 ──────────── 0REDUCE_GRAD      all copies begin when the last one has come
    copy 1   … 0B1 ── slow ───▶ 0REDUCE_GRAD

    part 0   0F0 ▬▬┐▒▒▒▒▬▬┐▒▒▒▒▬▬┐▒▒▒▒            ▒ all-reduces, at equal distances: each begins
    part 1   0F0 ▬▬▬▬▬▬┐▬▬▬▬▬▬┐▬▬▬▬▬▬┐            when the slower part has come to it

What lies between two steps is no action and takes no time here: the norm for clipping, and the sums
of the gradients of norms where the sequence is cut.

Source: Thakur et al. 2005, "Optimization of Collective Communication Operations in MPICH", §4.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..schedule import Kind, Mesh, Place, Schedule
from ..schedule.data_parallel import MAKES_GRADIENTS
from ..schedule.kinds import COLLECTIVES
from ..schedule.longest_path import Meetings
from .costs import Costs, PerStage, for_stages
from .link import Link


class Passes(NamedTuple):
    """What passes inside actions, counted as if it were their costs: all-reduces, and bytes."""

    calls: Costs
    size: Costs


class Together(NamedTuple):
    """What all workers take, and where they meet.

    duration: of each atom, if nobody waits inside it. alone: what of it a worker computes. shares:
    whether others who share the layer are met in it. sent: bytes to them. meetings: of the cells;
    None where nobody meets.
    """

    duration: np.ndarray
    alone: np.ndarray
    shares: np.ndarray
    sent: np.ndarray
    meetings: Meetings | None


def with_collectives(schedule: Schedule, mesh: Mesh) -> Schedule:
    """The schedule with what its copies do together, where it does not say so itself."""
    trains = any(kind in schedule.kinds for kind in MAKES_GRADIENTS)
    if mesh.data > 1 and trains and not schedule.kinds & COLLECTIVES:
        return schedule.with_data_parallel(zero=mesh.zero)
    return schedule


def passes(costs: Costs) -> Passes:
    """What passes between those who share a layer: in F, in B or I, in R if it takes time."""
    return Passes(*(_inside(each, costs) for each in (costs.tensor_calls, costs.tensor_bytes)))


def _inside(each: PerStage, costs: Costs) -> Costs:
    again = each if costs.recompute else 0
    return Costs(each, backward=each, input_grad=each, weight_grad=0, recompute=again)


def together(
    schedule: Schedule, costs: Costs, inside: Passes, mesh: Mesh, *, barriers: bool
) -> Together:
    """What the workers do, and where they wait for one another.

    Args:
        schedule: Of all workers.
        costs: What each takes alone, and the links of the groups.
        inside: What passes inside its actions.
        mesh: Whose workers they are.
        barriers: Whether each optimizer step waits until all workers have come to it.
    """
    alone = _with_collectives(costs.per_atom(schedule), schedule, costs, mesh)
    calls, sent = np.zeros((2, len(alone)))
    duration, heads = alone.copy(), schedule.graph.heads
    if mesh.tensor > 1:
        calls, sent = inside.calls.per_atom(schedule), inside.size.per_atom(schedule)
        sent *= 2 * (mesh.tensor - 1) / mesh.tensor
        links = _links(costs, costs.tensor_link, schedule, mesh, mesh.tensor_group)
        duration += _seconds(schedule, links, 2 * (mesh.tensor - 1) * calls, sent)
    shares = (calls > 0) | (sent > 0)
    number = _numbers(schedule, mesh, shares=calls[heads] > 0, barriers=barriers)
    if number.max() < 0:
        return Together(duration, alone, shares, sent, None)
    # Between two all-reduces all wait for the slowest, but each comes to the first one alone.
    meet = number >= 0
    before = np.where(calls > 0, alone / np.maximum(calls, 1), 0.0)[heads]
    slowest = np.zeros(number.max() + 1)
    np.maximum.at(slowest, number[meet], (alone[heads] - before)[meet])
    rest = slowest[number] - (alone[heads] - before)
    duration[heads] += np.where(calls[heads] > 0, rest, 0.0)
    return Together(duration, alone, shares, sent, Meetings(number, before))


def _with_collectives(
    duration: np.ndarray, schedule: Schedule, costs: Costs, mesh: Mesh
) -> np.ndarray:
    """The durations, those of UNSHARD and REDUCE_GRAD by their link where they are not given."""
    if mesh.data == 1:
        return duration
    rounds = 1 if mesh.zero else 2  # of a sum: a reduce-scatter, or with a gather behind it
    count = np.select(
        [schedule.kind == Kind.REDUCE_GRAD, schedule.kind == Kind.UNSHARD], [rounds, mesh.zero > 0]
    )
    count = np.where(duration > 0, 0, count)
    sizes = np.broadcast_to(
        for_stages(costs.per_stage["weights"], schedule.stages), schedule.stages
    )
    sent = count * (mesh.data - 1) / mesh.data * sizes[schedule.stage]
    links = _links(costs, costs.data_link, schedule, mesh, mesh.data_group)
    lasts: np.ndarray = duration + _seconds(schedule, links, (mesh.data - 1) * count, sent)
    return lasts


def _links(
    costs: Costs,
    link: Link | None,
    schedule: Schedule,
    mesh: Mesh,
    group: Callable[[int, Place], list[int]],
) -> list[Link]:
    """The link of each worker's group."""
    workers, ranks = range(schedule.ranks), schedule.ranks // mesh.planes
    if costs.nodes is None:
        return [link or Link()] * schedule.ranks
    return [costs.nodes.link(group(ranks, mesh.place(ranks, worker))) for worker in workers]


def _seconds(
    schedule: Schedule, links: list[Link], steps: np.ndarray, sent: np.ndarray
) -> np.ndarray:
    """Steps · α + bytes / β of each atom, by the link of its worker."""
    latency = np.array([link.latency for link in links])[schedule.rank]
    speed = np.array([link.bandwidth or np.inf for link in links])[schedule.rank]
    seconds: np.ndarray = steps * latency + sent / speed
    return seconds


def _numbers(schedule: Schedule, mesh: Mesh, *, shares: np.ndarray, barriers: bool) -> np.ndarray:
    """The meeting of each cell, or -1.

    All workers of a group run the same program: the same cell of each is one meeting. shares:
    whether those who share layers meet inside a cell.
    """
    graph = schedule.graph
    kind, cell = schedule.kind[graph.heads], schedule.cell[graph.heads].astype(int)
    number = np.full(len(kind), -1)
    across = schedule.ranks // mesh.data
    places = len(kind) + 1
    ways = [
        ((kind == Kind.UNSHARD) | (kind == Kind.REDUCE_GRAD), mesh.data > 1, graph.rank % across),
        (shares, mesh.tensor > 1, graph.rank // mesh.tensor),
    ]
    for way, (meets, there, group) in enumerate(ways):
        if there:
            where = (way * schedule.ranks + group) * places + cell
            number[meets] = where[meets]
    if barriers:
        steps = _barriers(schedule)
        number = np.where(steps >= 0, (2 * schedule.ranks) * places + steps, number)
    known, found = np.unique(number, return_inverse=True)
    numbers: np.ndarray = found - int(known[0] < 0)
    return numbers


def _barriers(schedule: Schedule) -> np.ndarray:
    """The optimizer step before which each cell waits for all ranks, or -1.

    That is its rank's first STEP of that number.
    """
    graph = schedule.graph
    barrier = np.full(len(graph.heads), -1)
    steps = np.flatnonzero(schedule.kind[graph.heads] == Kind.STEP)
    number = schedule.microbatch[graph.heads[steps]]
    _, where = np.unique(np.stack([graph.rank[steps], number]), axis=1, return_index=True)
    barrier[steps[where]] = number[where]
    return barrier
