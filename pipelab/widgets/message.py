"""A prediction of the lab as a message for the canvas: the order, its numbers, and its settings."""

from typing import Any

import numpy as np

from ..plots import view
from ..schedule import Kind
from ..simulator import Costs
from ..timeline import Timeline
from .settings import WHOLE, Settings
from .training import latency_of


def order(
    settings: Settings, timeline: Timeline, scale: float = 1.0, costs: Costs | None = None
) -> dict[str, Any]:
    """A prediction for the canvas, without what theory says about it."""
    message = view(timeline, milliseconds=scale if scale != 1 else None)
    used = costs or settings.costs(timeline.schedule.stages)
    if settings.memory == "bytes":
        # A real run counts the bytes of what autograd saved, and nothing else.
        peak = next(number for number in message["numbers"] if number["key"] == "peak_memory")
        peak["definition"] += "; measured: saved activations only"
    if settings.one_batch:
        whole = WHOLE if costs is None else float(timeline.compute.sum())
        message["numbers"] = of_one_batch(message, timeline, whole * scale)
    return message | {
        "text": settings.text,
        "settings": settings.to_dict(),
        "limits": settings.limits(timeline),
        "latency": latency_of(used) * (1000.0 if costs else scale),
    }


def of_one_batch(message: dict[str, Any], timeline: Timeline, whole: float) -> list[dict[str, Any]]:
    """The numbers beside a picture in the words of one batch: its time, and the speed-up.

    whole: what one device alone takes for it, in the picture's unit.
    """
    found = {number["key"]: number for number in message["numbers"]}
    ranks = timeline.schedule.ranks
    alone = f"{whole:.4g} {message['unit']}".strip()
    time = found["makespan"] | {
        "key": "time_per_batch",
        "label": "time per batch",
        "definition": f"first start to last end; one device alone takes {alone}",
    }
    speed_up = {
        "key": "speed_up",
        "label": "speed-up",
        "form": "count",
        "value": whole / time["value"] if time["value"] else None,
        "definition": f"one device alone / time per batch; at best the number of ranks, {ranks}",
    }
    if set(timeline.memory) <= {"activations"}:
        found["peak_memory"] |= {
            "form": "percent",
            "value": float(timeline.bytes_held.max()) / _kept_in_all(timeline),
            "definition": "most that one rank holds at once, of what the batch keeps in all",
        }
    kept = [number for key, number in found.items() if key not in ("makespan", "throughput")]
    return [time, speed_up, *kept]


def _kept_in_all(timeline: Timeline) -> float:
    """What all forwards (and recomputations) of the batch keep, in the timeline's unit.

    A prediction counts in per cent of it. With recomputation inside the backward its forwards keep
    nothing that is counted.
    """
    if timeline.memory_unit == "% of the batch":
        return WHOLE
    before = np.concatenate([[0.0], timeline.bytes_after[:-1]])
    before[timeline.schedule.offsets[:-1]] = 0.0
    forwards = np.isin(timeline.kind, (Kind.F, Kind.R))
    return float((timeline.bytes_held - before)[forwards].sum()) or 1.0
