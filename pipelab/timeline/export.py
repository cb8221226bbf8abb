"""A timeline for other tools: Chrome's and Perfetto's trace events, and plain JSON."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..schedule import Kind
from ..schedule.kinds import COLLECTIVES, KINDS

if TYPE_CHECKING:
    from .timeline import Timeline

COLUMNS = (
    "rank",
    "stage",
    "microbatch",
    "kind",
    "replica",
    "data",
    "tensor",
    "asked",
    "sent",
    "arrived",
    "started",
    "ended",
    "compute",
    "worked",
    "bytes_held",
    "bytes_after",
    "bytes_sent",
    "version",
)


def to_chrome(timeline: "Timeline") -> dict[str, Any]:
    """The trace event format: complete events ("X") for actions, counters ("C") for memory.

    Source: "Trace Event Format", Google, 2016. Abstract units are shown as milliseconds.
    """
    scale = 1e6 if timeline.unit == "s" else 1e3
    events: list[dict[str, Any]] = []
    for rank, (low, high) in enumerate(timeline.schedule.slices):
        name = {"name": f"rank {rank}"}
        events.append({"ph": "M", "name": "thread_name", "pid": 0, "tid": rank, "args": name})
        events += [_action(timeline, rank, atom, scale) for atom in range(low, high)]
        for atom in range(low, high):
            events += _levels(timeline, rank, atom, scale)
    return {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {"source": timeline.source},
    }


def _action(timeline: "Timeline", rank: int, atom: int, scale: float) -> dict[str, Any]:
    """The event of one action."""
    action = timeline.schedule.atom(atom)
    row = KINDS[action.kind]
    return {
        "ph": "X",
        "name": str(action),
        "cat": row.title,
        "pid": 0,
        "tid": rank,
        "ts": float(timeline.started[atom]) * scale,
        "dur": float(timeline.ended[atom] - timeline.started[atom]) * scale,
        "args": {
            "stage": action.stage,
            "microbatch": action.microbatch if row.numbered else None,
            "waiting_us": float(timeline.waiting[atom]) * scale,
            "transfer_us": float(timeline.transfer[atom]) * scale,
            "bytes_sent": float(timeline.bytes_sent[atom]),
        },
    }


def _levels(timeline: "Timeline", rank: int, atom: int, scale: float) -> list[dict[str, Any]]:
    """The events of the rank's memory when an action starts, and when it ends."""
    parts = timeline.memory or {timeline.memory_unit: (timeline.bytes_held, timeline.bytes_after)}
    name, events = f"rank {rank} {timeline.memory_unit}", []
    for time, which in ((timeline.started[atom], 0), (timeline.ended[atom], 1)):
        levels = {part: float(both[which][atom]) for part, both in parts.items()}
        events.append(
            {"ph": "C", "name": name, "pid": 0, "ts": float(time) * scale, "args": levels}
        )
    return events


def to_json(timeline: "Timeline") -> dict[str, Any]:
    """Every column as a list, with the metrics.

    Kinds stand there by name; an action that stands for all micro-batches has None as its number.
    """
    data: dict[str, list[Any]] = {name: getattr(timeline, name).tolist() for name in COLUMNS}
    for atom in np.flatnonzero(np.isin(timeline.kind, tuple(COLLECTIVES))).tolist():
        data["microbatch"][atom] = None
    data["kind"] = [Kind(k).name for k in data["kind"]]
    return {
        "schedule": timeline.schedule.name,
        "source": timeline.source,
        "unit": timeline.unit,
        "memory_unit": timeline.memory_unit,
        "metrics": timeline.metrics,
        "events": data,
    }
