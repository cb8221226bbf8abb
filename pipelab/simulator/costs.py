"""How long each action takes."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import InitVar, dataclass
from functools import cached_property

import numpy as np

from ..errors import UsageError
from ..schedule import Kind, Schedule
from ..schedule.kinds import COLLECTIVES, KINDS
from .link import Link, Nodes

PerStage = float | Sequence[float]
"""What a user gives: one number for all stages, or one per stage."""
Staged = float | tuple[float, ...]
"""The same once it is checked."""
PerLink = float | Sequence[Sequence[float]]
"""What a user gives: one number for all links, or a table [from rank][to rank]."""

_PER_STAGE = (
    "forward",
    "backward",
    "input_grad",
    "weight_grad",
    "overlap",
    "recompute",
    "step",
    "message",
    "unshard",
    "reshard",
    "reduce_grad",
    "weights",
    "tensor_bytes",
    "tensor_calls",
)
_PER_LINK = ("latency", "bandwidth")


@dataclass(frozen=True)
class Costs:
    """Duration of one action of one stage, by kind: a number for all stages, or one per stage.

    forward (F), backward (B), input_grad (I), weight_grad (W), overlap (an F and a B or I in one
    cell), recompute (R), step (STEP), unshard (UNSHARD), reshard (RESHARD), reduce_grad
    (REDUCE_GRAD). What is not given follows: B = I + W if those are given, else 2; I = W = B/2 (or
    what B leaves); overlap = F + B, each of its own stage; the rest 0.

    Data between different ranks keeps nobody busy. It takes ``latency``, and where there is a
    ``bandwidth``, before that message / bandwidth on its link, which carries one message at a time,
    first come, first served; each direction of a pair of ranks is a link of its own. Both are a
    number for all links, or a table [from rank][to rank]. link: a Link that has both, in their
    place. message: the size of a stage's output, and so of the gradient that comes back for it, in
    the unit of the bandwidth.

    Of a mesh (``simulate(mesh=…)``): data_link, between the copies of a pipeline, and weights, the
    bytes of a stage's weights and of its gradients, give what UNSHARD and REDUCE_GRAD take;
    tensor_link, between the workers that share a layer, tensor_bytes, what the all-reduces of one F
    carry together, and tensor_calls, how many they are, make F and B, or I, longer. nodes: in place
    of latency, bandwidth and the two links: what passes between workers of one node takes the link
    inside it, and what leaves it the link between nodes; each group by where its own members are.

    slowdown: how many times as long a rank, of a mesh a worker, computes as these costs say: one
    number for all, or one for each. What it sends takes as long as that of others.

    >>> Costs(backward=4).durations
    {'forward': 1, 'backward': 4, 'input_grad': 2.0, 'weight_grad': 2.0, 'overlap': 5}

    Raises UsageError for numbers that are negative, not finite, or contradictory.
    """

    forward: PerStage = 1
    backward: PerStage | None = None
    input_grad: PerStage | None = None
    weight_grad: PerStage | None = None
    overlap: PerStage | None = None
    latency: PerLink = 0
    recompute: PerStage = 0
    step: PerStage = 0
    bandwidth: PerLink | None = None
    message: PerStage = 1
    unshard: PerStage = 0
    reshard: PerStage = 0
    reduce_grad: PerStage = 0
    weights: PerStage = 0
    data_link: Link | None = None
    tensor_bytes: PerStage = 0
    tensor_calls: PerStage = 1
    tensor_link: Link | None = None
    nodes: Nodes | None = None
    slowdown: float | Sequence[float] = 1
    link: InitVar[Link | None] = None

    def __post_init__(self, link: Link | None) -> None:
        if link is not None:
            if self.latency != 0 or self.bandwidth is not None:
                raise UsageError(
                    "A link has a latency and a bandwidth of its own: give the link, or the two "
                    "numbers."
                )
            object.__setattr__(self, "latency", link.latency)
            object.__setattr__(self, "bandwidth", link.bandwidth)
        object.__setattr__(self, "slowdown", as_per_stage("slowdown", self.slowdown, "a factor"))
        for name in _PER_STAGE:
            if getattr(self, name) is not None:
                value = as_per_stage(name, getattr(self, name), "a duration")
                object.__setattr__(self, name, value)
        for name in _PER_LINK:
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _as_table(name, getattr(self, name)))
        links = self.latency != 0, self.bandwidth, self.data_link, self.tensor_link
        if self.nodes is not None and any(links):
            raise UsageError(
                "nodes say which link every transfer takes: leave latency, bandwidth, link, "
                "data_link and tensor_link out."
            )
        if self.bandwidth is not None and np.min(self.bandwidth) == 0:
            raise UsageError(
                "bandwidth is 0: nothing would ever arrive. Leave it out for links without a limit."
            )
        lengths = {
            len(v) for v in (getattr(self, name) for name in _PER_STAGE) if isinstance(v, tuple)
        }
        if len(lengths) > 1:
            raise UsageError(
                f"Costs per stage have different lengths: {sorted(lengths)}. Give one number per "
                "stage."
            )
        _ = self.durations

    @cached_property
    def durations(self) -> dict[str, Staged]:
        """The five durations with the missing ones filled in.

        Each is a number, or a tuple with one per stage.
        """
        given: dict[str, Staged | None] = {name: getattr(self, name) for name in _PER_STAGE}
        f, b, i, w = (given[name] for name in _PER_STAGE[:4])
        f = 1 if f is None else f
        if b is None:
            b = _whole(i, w)
        if i is None:
            i = _each(lambda x: x / 2, b) if w is None else _each(lambda x, y: x - y, b, w)
        if w is None:
            w = _each(lambda x, y: x - y, b, i)
        if min(_flat(i)) < 0 or min(_flat(w)) < 0:
            raise UsageError(
                f"A part of the backward takes longer than all of it: B = {b}, I = {i}, W = {w}."
            )
        overlap = given["overlap"]
        overlap = add(f, b) if overlap is None else overlap
        return {"forward": f, "backward": b, "input_grad": i, "weight_grad": w, "overlap": overlap}

    @cached_property
    def per_stage(self) -> dict[str, Staged]:
        """Every cost of a stage by the name of its field, the missing ones filled in."""
        values: dict[str, Staged] = {name: getattr(self, name) for name in _PER_STAGE}
        return values | self.durations

    def per_atom(self, schedule: Schedule) -> np.ndarray:
        """Duration of every atom; the first atom of an overlapped pair carries the pair's.

        Raises UsageError when there are costs per stage, but not one for each stage.
        """
        table, stages = np.zeros((len(KINDS), schedule.stages)), schedule.stages
        for row in KINDS:
            table[row.kind] = for_stages(self.per_stage[row.cost], stages)
        duration: np.ndarray = table[schedule.kind, schedule.stage]
        if schedule.overlaps:
            first, second = schedule.seconds - 1, schedule.seconds
            if self.overlap is None:  # the two may be of different stages; an I counts as its B
                table[Kind.I] = table[Kind.B]
                duration[first] = sum(
                    table[schedule.kind[atoms], schedule.stage[atoms]] for atoms in (first, second)
                )
            else:
                overlap = np.broadcast_to(for_stages(self.per_stage["overlap"], stages), stages)
                duration[first] = overlap[schedule.stage[first]]
            duration[second] = 0
        return self._slowed(schedule, duration)

    def _slowed(self, schedule: Schedule, duration: np.ndarray) -> np.ndarray:
        """What the atoms take on ranks that compute more slowly."""
        factors = np.asarray(self.slowdown, dtype=float)
        if factors.ndim and len(factors) != schedule.ranks:
            raise UsageError(
                f"slowdown is of {len(factors)} ranks, but there are {schedule.ranks}: give one "
                "number for all, or one for each worker."
            )
        factor = np.broadcast_to(factors, schedule.ranks)[schedule.rank]
        slowed: np.ndarray = np.where(
            np.isin(schedule.kind, list(COLLECTIVES)), duration, duration * factor
        )
        return slowed

    def transfers(self, schedule: Schedule) -> tuple[float | np.ndarray, np.ndarray | None]:
        """The latency of each atom's input, and how long its result occupies a link.

        The first may be one number for all; the second is None for links without a limit. Raises
        UsageError when a table does not fit the ranks.
        """
        producer, sink = schedule.producer, schedule.rank
        source = sink[producer]  # means nothing where an atom has no producer
        latencies, speeds = self._tables(schedule.ranks)
        latency: float | np.ndarray = (
            float(latencies) if latencies.ndim == 0 else latencies[source, sink]
        )
        if speeds is None:
            return latency, None
        consumers = np.flatnonzero(schedule.crosses)
        senders = producer[consumers]
        sizes = np.broadcast_to(
            for_stages(self.per_stage["message"], schedule.stages), schedule.stages
        )
        # A gradient is as large as the output that it is for.
        boundary = schedule.stage[senders] - (schedule.kind[senders] != Kind.F)
        speed = np.broadcast_to(speeds, (schedule.ranks,) * 2)
        occupancy = np.zeros(len(producer))
        occupancy[senders] = sizes[boundary] / speed[source[consumers], sink[consumers]]
        return latency, occupancy

    def _tables(self, ranks: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Latency and bandwidth, one of all or a table [from][to]; None: without a limit."""
        if self.nodes is None:
            speeds = None
            if self.bandwidth is not None:
                speeds = _of_ranks("bandwidth", self.bandwidth, ranks)
            return _of_ranks("latency", self.latency, ranks), speeds
        node = np.arange(ranks) // self.nodes.size
        far = node[:, None] != node
        near, network = self.nodes.inside, self.nodes.between
        latencies = np.where(far, network.latency, near.latency)
        return latencies, np.where(far, network.bandwidth or np.inf, near.bandwidth or np.inf)


def as_per_stage(name: str, value: PerStage, what: str) -> Staged:
    """A number, or a tuple with one per stage.

    Raises UsageError unless all are finite and not negative.
    """
    if isinstance(value, Iterable) and not isinstance(value, str):
        return tuple(_number(name, number, what) for number in value)
    return _number(name, value, what)


def _number(name: str, value: object, what: str) -> float:
    """A finite number that is not negative, as Python's own."""
    number = value.item() if isinstance(value, np.number) else value
    if isinstance(number, int | float) and math.isfinite(number) and number >= 0:
        return number
    raise UsageError(f"{name} is {value!r}; {what} is a finite number, 0 or more.")


def _as_table(name: str, value: PerLink) -> float | tuple[tuple[float, ...], ...]:
    """A number, or a square table of them."""
    if not isinstance(value, Iterable) or isinstance(value, str):
        return _number(name, value, "a duration" if name == "latency" else "it")
    rows = [as_per_stage(name, row, "an entry of its table") for row in value]
    table = tuple(row for row in rows if isinstance(row, tuple) and len(row) == len(rows))
    if len(table) < len(rows):
        raise UsageError(
            f"{name} is a number, or a square table with one row per sending and one column per "
            "receiving rank."
        )
    return table


def _of_ranks(name: str, value: PerLink, ranks: int) -> np.ndarray:
    """A number as an array of shape (), or a table of shape (ranks, ranks)."""
    table = np.asarray(value, dtype=float)
    if table.ndim and len(table) != ranks:
        raise UsageError(
            f"The table of {name} is for {len(table)} ranks, but the schedule has {ranks}."
        )
    return table


def _whole(input_grad: Staged | None, weight_grad: Staged | None) -> Staged:
    """What a full backward takes if only its parts, or not even those, are given."""
    if input_grad is None and weight_grad is None:
        return 2
    i = weight_grad if input_grad is None else input_grad
    w = input_grad if weight_grad is None else weight_grad
    return add(i or 0, w or 0)


def _flat(value: Staged) -> tuple[float, ...]:
    """All numbers of a value."""
    return value if isinstance(value, tuple) else (value,)


def _each(function: Callable[..., float], *values: Staged) -> Staged:
    """Apply a function to numbers, or stage by stage where any value is a tuple."""
    length = max((len(v) for v in values if isinstance(v, tuple)), default=0)
    if not length:
        return function(*values)
    columns = []
    for value in values:
        columns.append(value if isinstance(value, tuple) else (value,) * length)
    return tuple(function(*row) for row in zip(*columns, strict=True))


def add(a: Staged, b: Staged) -> Staged:
    """The sum, stage by stage."""
    return _each(lambda x, y: x + y, a, b)


def for_stages(value: Staged, stages: int) -> np.ndarray:
    """One number for all stages (shape ()), or one per stage.

    Raises UsageError when there are too few or too many.
    """
    if isinstance(value, tuple) and len(value) != stages:
        raise UsageError(
            f"There are {len(value)} costs per stage, but the schedule has {stages} stages."
        )
    return np.asarray(value, dtype=float)
