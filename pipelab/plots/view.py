"""A Timeline as a compact message for the canvas: two Float32 arrays and a few words.

bars, shape (atoms, 7): rank, stage, micro-batch, kind, start, end, part. The micro-batch is -1 for
an action that stands for all of them. The kind is its place in ``looks``. Part is 0 for a bar that
fills its lane; the two atoms of an overlap share one interval, the first is drawn in the upper half
(1), the second in the lower (2). memory, shape (atoms, 2, parts): what the rank holds of each part
while the bar of that row runs, and after it. Parts are named in ``parts``: activations alone, or
all that Timeline.memory counts. Rows are sorted by rank and time. Seconds become milliseconds, and
the first start becomes 0. A prediction also has needs, Int32 of shape (atoms,): the row whose
result each atom needs from another stage, or -1. With it the front end finds the times for other
costs by itself: see ``frontend/simulate.js``. Where the schedule steps the optimizer itself,
versions, Int32 of shape (atoms,), has that of the weights which each row uses, or makes.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..schedule import Kind, Schedule
from ..schedule.kinds import COLLECTIVES
from ..timeline import Timeline
from .palette import LOOKS

COLUMNS = ("rank", "stage", "microbatch", "kind", "started", "ended", "bytes_held", "bytes_after")
Message = dict[str, Any]
UPPER, LOWER = 1, 2

DEFINITIONS = {
    "makespan": ("makespan", "time", "first start to last end, over all ranks"),
    "bubble_fraction": ("bubble fraction", "percent", "idle / (ranks × makespan)"),
    "bubble_overhead": ("bubble overhead", "percent", "idle / busy"),
    "bubble_rate": ("bubble rate", "percent", "1 − busy / span, on the rank with the longest span"),
    "peak_in_flight": (
        "peak in flight",
        "count",
        "most micro-batches on one rank, start of forward to end of backward",
    ),
    "throughput": ("throughput", "rate", "micro-batches / makespan"),
    "peak_memory": ("peak memory", "memory", "most that one rank holds at once"),
}
"""The numbers shown beside a picture: key of ``Timeline.metrics``, or one that follows -> label,
form, definition.
"""
PARTS = ("activations", "weights", "weight_versions", "gradients", "optimizer_state")


def view(timeline: Timeline, *, milliseconds: float | None = None) -> Message:
    """The message for a finished timeline.

    milliseconds: draw abstract units as this many milliseconds each, to lie on one axis with a
    paced run.
    """
    if timeline.unit == "s":
        scale, unit = 1000.0, "ms"
    else:
        scale, unit = milliseconds or 1.0, "ms" if milliseconds else ""
    columns = {name: getattr(timeline, name) for name in COLUMNS}
    return (
        _message(columns, timeline.schedule, scale, timeline.memory)
        | _needs(timeline)
        | _versions(timeline)
        | {
            "source": timeline.source,
            "unit": unit,
            "memory_unit": timeline.memory_unit,
            "numbers": numbers(timeline.metrics, scale, float(timeline.bytes_held.max())),
        }
    )


def live_view(columns: Mapping[str, np.ndarray], schedule: Schedule) -> Message:
    """The same message for the events so far of a run in progress.

    columns: in seconds and bytes. There are no numbers yet.
    """
    return _message(columns, schedule, 1000.0) | {
        "source": "measured",
        "unit": "ms",
        "memory_unit": "bytes",
        "numbers": [],
    }


def caption(timeline: Timeline) -> str:
    """What a picture shows: "gpipe: 4 ranks, 8 micro-batches"."""
    schedule = timeline.schedule
    ranks = "1 rank" if schedule.ranks == 1 else f"{schedule.ranks} ranks"
    m = schedule.microbatches
    batches = "1 micro-batch" if m == 1 else f"{m} micro-batches"
    return f"{schedule.name}: {ranks}, {batches}"


def numbers(
    metrics: Mapping[str, Any], scale: float = 1.0, peak_memory: float | None = None
) -> list[Message]:
    """Each number with its label, form and definition.

    Times are multiplied by ``scale``; of a list the largest is shown.
    """
    table, throughput = [], None
    if metrics["makespan"]:
        throughput = metrics["microbatches"] / metrics["makespan"] / scale
    values = {"throughput": throughput, "peak_memory": peak_memory, **metrics}
    for key, (label, form, definition) in DEFINITIONS.items():
        value = values[key]
        if isinstance(value, list):
            value = max(value)
        elif form == "time":
            value *= scale
        table.append(
            {"key": key, "label": label, "form": form, "definition": definition, "value": value}
        )
    return table


def _message(
    columns: Mapping[str, np.ndarray],
    schedule: Schedule,
    scale: float,
    memory: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
) -> Message:
    rank, stage, microbatch, kind = (np.asarray(columns[name]) for name in COLUMNS[:4])
    started, ended, held, after = (
        np.asarray(columns[name], dtype=np.float64) for name in COLUMNS[4:]
    )
    order = np.lexsort((started, rank))  # stable: an overlap's two atoms keep their order
    origin = started.min() if len(started) else 0.0
    started, ended = ((times[order] - origin) * scale for times in (started, ended))
    rank, kind = rank[order], kind[order]
    microbatch = np.where(np.isin(kind, tuple(COLLECTIVES)), -1, microbatch[order])
    bars = np.stack(
        [rank, stage[order], microbatch, kind, started, ended, _parts(rank, started, ended)],
        axis=1,
    )
    parts = {"activations": (held, after)}
    if memory:
        parts = {name: memory[name] for name in PARTS if name in memory}
    levels = np.array(list(parts.values()))[:, :, order].transpose(2, 1, 0)
    forwards = (ended - started)[kind == Kind.F]
    return {
        "ranks": schedule.ranks,
        "replicas": schedule.replicas,
        "microbatches": schedule.microbatches,
        "kinds": sorted(int(k) for k in schedule.kinds),
        "looks": [look._asdict() for look in LOOKS.values()],
        "end": float(ended.max(initial=0.0)),
        "step": float(np.median(forwards)) if len(forwards) else 1.0,
        "stages": schedule.stages,
        "stages_per_rank": schedule.stages_per_rank,
        "parts": list(parts),
        "memory_peak": float(held.max(initial=0.0)),
        "bars": bars.astype(np.float32).tobytes(),
        "memory": levels.astype(np.float32).tobytes(),
    }


def _needs(timeline: Timeline) -> Message:
    """The rows that each row needs, for a prediction.

    Its actions start in the order of the schedule, so its rows are the schedule's atoms.
    """
    if timeline.source != "predicted":
        return {}
    return {"needs": timeline.schedule.producer.astype(np.int32).tobytes()}


def _versions(timeline: Timeline) -> Message:
    """The version of its stage's weights that each row uses, where there is more than one."""
    if Kind.STEP not in timeline.schedule.kinds:
        return {}
    order = np.lexsort((timeline.started, timeline.rank))
    return {"versions": timeline.version[order].astype(np.int32).tobytes()}


def _parts(rank: np.ndarray, started: np.ndarray, ended: np.ndarray) -> np.ndarray:
    """0, or 1 and 2 for two neighbouring atoms of one rank that share one interval."""
    parts = np.zeros(len(rank))
    same = (np.diff(rank) == 0) & (np.diff(started) == 0) & (np.diff(ended) == 0)
    twins = np.flatnonzero(same & (ended > started)[1:])
    parts[twins], parts[twins + 1] = UPPER, LOWER
    return parts
