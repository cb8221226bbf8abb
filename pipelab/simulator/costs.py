"""How long each action takes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import UsageError
from ..schedule import Kind, Schedule
from ..schedule.kinds import KINDS

PerStage = float | Sequence[float]
PerLink = float | Sequence[Sequence[float]]

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
)
_PER_LINK = ("latency", "bandwidth")


@dataclass(frozen=True)
class Costs:
    """Duration of one action of one stage, by kind: a number for all stages, or one number per
    stage.

    forward (F), backward (B), input_grad (I), weight_grad (W), overlap (an F and a B or I in one
    cell), recompute (R), step (STEP), unshard (UNSHARD), reshard (RESHARD), reduce_grad
    (REDUCE_GRAD). What is not given follows: B = I + W if those are given, else 2; I = W = B/2 (or
    what B leaves); overlap = F + B; the rest 0.

    Data between different ranks keeps nobody busy. It takes ``latency``, and where there is a
    ``bandwidth``, before that message / bandwidth on its link, which carries one message at a time,
    first come, first served; each direction of a pair of ranks is a link of its own. Both are a
    number for all links, or a table [from rank][to rank]. message: the size of a stage's output,
    and so of the gradient that comes back for it, in the unit of the bandwidth.

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

    def __post_init__(self):
        for name in _PER_STAGE:
            if getattr(self, name) is not None:
                object.__setattr__(
                    self, name, as_per_stage(name, getattr(self, name), "a duration")
                )
        for name in _PER_LINK:
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _as_table(name, getattr(self, name)))
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

    @property
    def durations(self) -> dict[str, PerStage]:
        """The five durations with the missing ones filled in; each a number, or a tuple with one
        per stage.
        """
        f, b, i, w = self.forward, self.backward, self.input_grad, self.weight_grad
        if b is None:
            b = (
                2
                if i is None and w is None
                else _add(i or 0, w or 0)
                if None not in (i, w)
                else _add(i or w, i or w)
            )
        if i is None:
            i = _each(lambda x: x / 2, b) if w is None else _each(lambda x, y: x - y, b, w)
        if w is None:
            w = _each(lambda x, y: x - y, b, i)
        if min(_flat(i)) < 0 or min(_flat(w)) < 0:
            raise UsageError(
                f"A part of the backward takes longer than all of it: B = {b}, I = {i}, W = {w}."
            )
        overlap = _add(f, b) if self.overlap is None else self.overlap
        return {"forward": f, "backward": b, "input_grad": i, "weight_grad": w, "overlap": overlap}

    def per_atom(self, schedule: Schedule) -> np.ndarray:
        """Duration of every atom of the schedule; the first atom of an overlapped pair carries the
        pair's.

        Raises UsageError when there are costs per stage, but not one for each stage.
        """
        table = np.zeros((len(KINDS), schedule.stages))
        values = self.durations
        for row in KINDS:
            value = values[row.cost] if row.cost in values else getattr(self, row.cost)
            table[row.kind] = for_stages(value, schedule.stages)
        duration = table[schedule.kind, schedule.stage]
        if schedule.overlaps:
            first = schedule.seconds - 1
            overlap = np.broadcast_to(
                for_stages(values["overlap"], schedule.stages), schedule.stages
            )
            duration[first] = overlap[schedule.stage[first]]
            duration[schedule.seconds] = 0
        return duration

    def transfers(self, schedule: Schedule) -> tuple[float | np.ndarray, np.ndarray | None]:
        """Per atom: the latency of its input (or one number for all), and how long its result
        occupies a link.

        The second is None for links without a limit. Raises UsageError when a table does not fit
        the ranks.
        """
        latency, occupancy = self.latency, None
        producer, sink = schedule.producer, schedule.rank
        source = sink[producer]  # means nothing where an atom has no producer
        if np.ndim(latency):
            latency = _of_ranks("latency", latency, schedule.ranks)[source, sink]
        if self.bandwidth is not None:
            consumers = np.flatnonzero(schedule.crosses)
            senders = producer[consumers]
            sizes = np.broadcast_to(for_stages(self.message, schedule.stages), schedule.stages)
            boundary = schedule.stage[senders] - (
                schedule.kind[senders] != Kind.F
            )  # a gradient is as large as its output
            speed = np.broadcast_to(
                _of_ranks("bandwidth", self.bandwidth, schedule.ranks), (schedule.ranks,) * 2
            )
            occupancy = np.zeros(len(producer))
            occupancy[senders] = sizes[boundary] / speed[source[consumers], sink[consumers]]
        return latency, occupancy


def as_per_stage(name: str, value: PerStage, what: str) -> PerStage:
    """A number, or a tuple with one per stage.

    Raises UsageError unless all are finite and not negative.
    """
    value = value if np.isscalar(value) else tuple(value)
    for number in _flat(value):
        if (
            not isinstance(number, (int, float, np.number))
            or not math.isfinite(number)
            or number < 0
        ):
            raise UsageError(f"{name} is {number!r}; {what} is a finite number, 0 or more.")
    return value


def _as_table(name: str, value: PerLink) -> PerLink:
    """A number, or a square table of them."""
    if np.isscalar(value):
        return as_per_stage(name, value, "a duration" if name == "latency" else "it")
    rows = tuple(as_per_stage(name, row, "an entry of its table") for row in value)
    if any(not isinstance(row, tuple) or len(row) != len(rows) for row in rows):
        raise UsageError(
            f"{name} is a number, or a square table with one row per sending and one column per "
            "receiving rank."
        )
    return rows


def _of_ranks(name: str, value: PerLink, ranks: int) -> np.ndarray:
    table = np.asarray(value, dtype=float)
    if table.ndim and len(table) != ranks:
        raise UsageError(
            f"The table of {name} is for {len(table)} ranks, but the schedule has {ranks}."
        )
    return table


def _flat(value: PerStage) -> tuple:
    return value if isinstance(value, tuple) else (value,)


def _each(function, *values: PerStage) -> PerStage:
    """Applies a function to numbers, or stage by stage where any value is a tuple."""
    length = max((len(v) for v in values if isinstance(v, tuple)), default=0)
    if not length:
        return function(*values)
    return tuple(
        function(*row)
        for row in zip(*(v if isinstance(v, tuple) else (v,) * length for v in values), strict=True)
    )


def _add(a: PerStage, b: PerStage) -> PerStage:
    return _each(lambda x, y: x + y, a, b)


def for_stages(value: PerStage, stages: int) -> np.ndarray:
    """One number for all stages (shape ()), or one per stage.

    Raises UsageError when there are too few or too many.
    """
    if isinstance(value, tuple) and len(value) != stages:
        raise UsageError(
            f"There are {len(value)} costs per stage, but the schedule has {stages} stages."
        )
    return np.asarray(value, dtype=float)
