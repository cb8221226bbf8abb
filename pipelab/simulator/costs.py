"""How long each action takes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import UsageError
from ..schedule import Kind, Schedule

PerStage = float | Sequence[float]


@dataclass(frozen=True)
class Costs:
    """Duration of one action of one stage, by kind: a number for all stages, or one number per stage.

    forward (F), backward (B), input_grad (I), weight_grad (W), overlap (an F and a B or I in one cell), recompute (R),
    step (STEP), and latency, the time data takes between different ranks, during which nobody is busy.
    What is not given follows: B = I + W if those are given, else 2; I = W = B/2 (or what B leaves); overlap = F + B.

    >>> Costs(backward=4).durations
    {'forward': 1, 'backward': 4, 'input_grad': 2.0, 'weight_grad': 2.0, 'overlap': 5}

    Raises UsageError for numbers that are negative, not finite, or contradictory.
    """

    forward: PerStage = 1
    backward: PerStage | None = None
    input_grad: PerStage | None = None
    weight_grad: PerStage | None = None
    overlap: PerStage | None = None
    latency: float = 0
    recompute: PerStage = 0
    step: PerStage = 0

    def __post_init__(self):
        for name in ("forward", "backward", "input_grad", "weight_grad", "overlap", "recompute", "step", "latency"):
            value = getattr(self, name)
            if value is None:
                continue
            scalar = name == "latency" or np.ndim(value) == 0
            if not scalar:
                object.__setattr__(self, name, tuple(value))
            for number in (value,) if scalar else getattr(self, name):
                if not isinstance(number, (int, float, np.number)) or not math.isfinite(number) or number < 0:
                    raise UsageError(f"{name} is {number!r}; a duration is a finite number, 0 or more.")
        lengths = {len(v) for v in vars(self).values() if isinstance(v, tuple)}
        if len(lengths) > 1:
            raise UsageError(f"Costs per stage have different lengths: {sorted(lengths)}. Give one number per stage.")
        _ = self.durations

    @property
    def durations(self) -> dict[str, PerStage]:
        """The five durations with the missing ones filled in; each a number, or a tuple with one per stage."""
        f, b, i, w = self.forward, self.backward, self.input_grad, self.weight_grad
        if b is None:
            b = 2 if i is None and w is None else _add(i or 0, w or 0) if None not in (i, w) else _add(i or w, i or w)
        if i is None:
            i = _each(lambda x: x / 2, b) if w is None else _each(lambda x, y: x - y, b, w)
        if w is None:
            w = _each(lambda x, y: x - y, b, i)
        if min(_flat(i)) < 0 or min(_flat(w)) < 0:
            raise UsageError(f"A part of the backward takes longer than all of it: B = {b}, I = {i}, W = {w}.")
        overlap = _add(f, b) if self.overlap is None else self.overlap
        return {"forward": f, "backward": b, "input_grad": i, "weight_grad": w, "overlap": overlap}

    def per_atom(self, schedule: Schedule) -> np.ndarray:
        """Duration of every atom of the schedule; the first atom of an overlapped pair carries the pair's.

        Raises UsageError when there are costs per stage, but not one for each stage.
        """
        table = np.zeros((len(Kind), schedule.stages))
        values = self.durations
        rows = (values["forward"], values["backward"], values["input_grad"], values["weight_grad"], self.recompute, self.step)
        for kind, value in zip(Kind, rows, strict=True):
            table[kind] = _for_stages(value, schedule.stages)
        duration = table[schedule.kind, schedule.stage]
        if schedule.overlaps:
            paired = np.flatnonzero((np.diff(schedule.cell) == 0) & (np.diff(schedule.rank) == 0))
            overlap = np.broadcast_to(_for_stages(values["overlap"], schedule.stages), schedule.stages)
            duration[paired] = overlap[schedule.stage[paired]]
            duration[paired + 1] = 0
        return duration


def _flat(value: PerStage) -> tuple:
    return value if isinstance(value, tuple) else (value,)


def _each(function, *values: PerStage) -> PerStage:
    """Applies a function to numbers, or stage by stage where any value is a tuple."""
    length = max((len(v) for v in values if isinstance(v, tuple)), default=0)
    if not length:
        return function(*values)
    return tuple(function(*row) for row in zip(*(v if isinstance(v, tuple) else (v,) * length for v in values), strict=True))


def _add(a: PerStage, b: PerStage) -> PerStage:
    return _each(lambda x, y: x + y, a, b)


def _for_stages(value: PerStage, stages: int) -> np.ndarray | float:
    if isinstance(value, tuple) and len(value) != stages:
        raise UsageError(f"There are {len(value)} costs per stage, but the schedule has {stages} stages.")
    return np.asarray(value, dtype=float)
