"""A timeline for other tools: Chrome's and Perfetto's trace events, and plain JSON."""

from typing import TYPE_CHECKING

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


def to_chrome(timeline: "Timeline") -> dict:
    """The trace event format: complete events ("X") for actions, counters ("C") for memory.

    Source: "Trace Event Format", Google, 2016. Abstract units are shown as milliseconds.
    """
    scale = 1e6 if timeline.unit == "s" else 1e3
    schedule, events = timeline.schedule, []
    for rank in range(schedule.ranks):
        events.append(
            {
                "ph": "M",
                "name": "thread_name",
                "pid": 0,
                "tid": rank,
                "args": {"name": f"rank {rank}"},
            }
        )
        for i in range(int(schedule.offsets[rank]), int(schedule.offsets[rank + 1])):
            action = schedule.atom(i)
            events.append(
                {
                    "ph": "X",
                    "name": str(action),
                    "cat": Kind(action.kind).title,
                    "pid": 0,
                    "tid": rank,
                    "ts": float(timeline.started[i]) * scale,
                    "dur": float(timeline.ended[i] - timeline.started[i]) * scale,
                    "args": {
                        "stage": action.stage,
                        "microbatch": action.microbatch if KINDS[action.kind].numbered else None,
                        "waiting_us": float(timeline.waiting[i]) * scale,
                        "transfer_us": float(timeline.transfer[i]) * scale,
                        "bytes_sent": float(timeline.bytes_sent[i]),
                    },
                }
            )
        parts = timeline.memory or {
            timeline.memory_unit: (timeline.bytes_held, timeline.bytes_after)
        }
        name = f"rank {rank} {timeline.memory_unit}"
        for i in range(int(schedule.offsets[rank]), int(schedule.offsets[rank + 1])):
            for time, which in ((timeline.started[i], 0), (timeline.ended[i], 1)):
                levels = {part: float(both[which][i]) for part, both in parts.items()}
                events.append(
                    {"ph": "C", "name": name, "pid": 0, "ts": float(time) * scale, "args": levels}
                )
    return {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {"source": timeline.source},
    }


def to_json(timeline: "Timeline") -> dict:
    """Every column as a list, with the metrics; kinds by name."""
    data = {name: getattr(timeline, name).tolist() for name in COLUMNS}
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
