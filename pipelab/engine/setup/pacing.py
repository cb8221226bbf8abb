"""The pace of a run: what it is in Costs, and whether this machine can keep it."""

import math
import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...errors import PaceTooFast, UsageError
from ...schedule import Kind, Schedule
from ...simulator import Costs
from ...simulator.recompute import with_recompute
from ..job.recipe import Recipe

BUSY_SHARE = 0.4
"""How much of the processors' time paced actions may really compute: above it, neighbours delay
each other."""


def pace_of(recipe: Recipe, schedule: Schedule) -> Costs | None:
    """The pace of a recipe as Costs in seconds; None at full speed.

    Recomputing takes as long as a forward. schedule: before anything is recomputed in it. Raises
    UsageError for what cannot be a pace.
    """
    if recipe.pace is None:
        return None
    pace = _as_costs(recipe.pace)
    if pace.durations["forward"] == 0 or pace.durations["backward"] == 0:
        raise UsageError("A pace of 0 s means no pacing: leave pace out to run at full speed.")
    if isinstance(pace.latency, tuple) or pace.bandwidth is not None or pace.nodes is not None:
        raise UsageError(
            "A paced run knows one latency between ranks: the simulator alone knows links that "
            "differ or fill up."
        )
    if (recipe.recompute or Kind.R in schedule.kinds) and pace.recompute == 0:
        pace = replace(pace, recompute=pace.forward)
    return with_recompute(schedule, pace, recipe.recompute)[1] if recipe.recompute else pace


def latency_of(recipe: Recipe, pace: Costs | None) -> float:
    """The seconds added to every transfer: the recipe's own, else those of the pace."""
    if recipe.latency or pace is None or not isinstance(pace.latency, (int, float)):
        return float(recipe.latency)
    return float(pace.latency)


def _as_costs(pace: Costs | tuple[float, ...]) -> Costs:
    if isinstance(pace, Costs):
        return pace
    parts = tuple(pace) if isinstance(pace, (tuple, list)) else ()
    if len(parts) == 2:
        return Costs(*parts)
    if len(parts) == 3:
        forward, input_grad, weight_grad = parts
        return Costs(forward, backward=input_grad + weight_grad, weight_grad=weight_grad)
    raise UsageError(
        f"pace is {pace!r}; it is (forward, backward) in seconds, or Costs in seconds."
    )


def require_keepable_pace(
    pace: Costs, schedule: Schedule, measured: dict[int, float], *, threads: bool = False
) -> None:
    """Refuse a pace that this machine cannot keep, and say which one it can.

    measured: processor seconds of each atom. threads: the ranks share one Python, which runs one of
    them at a time. Raises PaceTooFast.
    """
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    on = "as threads of one Python" if threads else f"on {cores} cores"
    share = BUSY_SHARE * min(1.0, (1 if threads else cores) / schedule.ranks)
    planned = pace.per_atom(schedule)
    alike = _alike(schedule, planned)
    worked = {}
    for key, atoms in alike.items():
        worked[key] = float(np.median([measured[atom] for atom in atoms]))
    least = {key: float(planned[atoms].min()) for key, atoms in alike.items()}
    ratios = {key: worked[key] / least[key] for key in alike}
    what, stage = key = max(ratios, key=ratios.__getitem__)
    if ratios[key] <= share:
        return
    slower = ratios[key] / share
    can = _kept_pace(pace, schedule, slower)
    listed = ", ".join(f"{name} {seconds * 1e3:g} ms" for name, seconds in can.items())
    raise PaceTooFast(
        f"This machine cannot keep that pace: {what} of stage {stage} really computes "
        f"{worked[key] * 1e3:.2f} ms of its {least[key] * 1e3:.2f} ms, and with "
        f"{schedule.ranks} ranks {on} it may use {share:.0%}. It can keep {listed}: "
        f"pace=({', '.join(f'{seconds:g}' for seconds in can.values())}). Or take a smaller model "
        "or batch.",
        slower,
    )


def _alike(schedule: Schedule, planned: np.ndarray) -> dict[tuple[str, int], list[int]]:
    """Atoms that take planned time, by (what they do, stage)."""
    first = np.isin(np.arange(len(planned)), schedule.seconds - 1)
    alike: dict[tuple[str, int], list[int]] = {}
    for atom in np.flatnonzero(planned).tolist():
        what = "forward and backward in one" if first[atom] else Kind(schedule.kind[atom]).title
        alike.setdefault((what, int(schedule.stage[atom])), []).append(atom)
    return alike


def _kept_pace(pace: Costs, schedule: Schedule, factor: float) -> dict[str, float]:
    """A slower pace, in seconds by what it is of, rounded up to a tenth of a millisecond."""
    split = Kind.I in schedule.kinds
    names = {"forward": "forward", "backward": "input_grad" if split else "backward"}
    if split:
        names["weight gradient"] = "weight_grad"
    result = {}
    for title, name in names.items():
        value = pace.durations[name]
        slowest = max(value) if isinstance(value, Sequence) else value
        result[title] = math.ceil(factor * slowest * 1e4) / 1e4
    return result
