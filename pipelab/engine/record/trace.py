"""From the trace in shared memory to Timelines and measured costs."""

import numpy as np

from ...schedule import Kind, Mesh, Schedule
from ...schedule.kinds import KINDS
from ...simulator import Costs
from ...timeline import Timeline
from .board import TRACE


def columns(trace: np.ndarray) -> dict[str, np.ndarray]:
    """A trace of shape (atoms, columns) by name."""
    return {name: trace[:, i] for i, name in enumerate(TRACE)}


def timeline(
    schedule: Schedule,
    trace: np.ndarray,
    queued: np.ndarray | None = None,
    mesh: Mesh | None = None,
) -> Timeline:
    """One step's trace as a Timeline, in seconds from the step's first action.

    trace: shape (atoms, columns). queued: seconds per rank, nan where nobody counts them. mesh:
    whose workers the ranks are.
    """
    c = columns(trace)
    origin = c["started"].min()
    started, arrived, ended = c["started"] - origin, c["arrived"] - origin, c["ended"] - origin
    asked, sent = c["asked"] - origin, c["sent"] - origin
    compute, second = ended - started, schedule.seconds
    compute[second] = 0.0  # of a pair, the first atom carries the time of both
    first = schedule.offsets[:-1]
    asked[first] = started[first]  # what was before a rank's first action is its warm-up
    sent = np.clip(sent, asked, arrived)
    return Timeline(
        schedule=schedule,
        asked=asked,
        sent=sent,
        arrived=arrived,
        started=started,
        ended=ended,
        compute=compute,
        worked=c["worked"],
        bytes_held=c["bytes_held"],
        bytes_after=c["bytes_after"],
        bytes_sent=c["bytes_sent"],
        version=c["version"].astype(int),
        collective=c["collective"],
        collective_bytes=c["collective_bytes"],
        mesh=mesh or Mesh(),
        source="measured",
        unit="s",
        queued=None if queued is None or np.isnan(queued).any() else queued,
        memory_unit="bytes",
    )


def measured_costs(schedule: Schedule, timelines: list[Timeline]) -> Costs:
    """Measured costs: median seconds of each kind on each stage.

    The latency is a short time (the tenth percentile) of a transfer that somebody waited for: what
    others took longer is contention. A kind that a stage never
    runs on its own counts as what is left of the others, or 0. The first step is left out when
    there are others: it pays for what happens only once.
    """
    steps = timelines[1:] or timelines
    worked = np.array([t.worked for t in steps])
    second = schedule.seconds
    kind = schedule.kind.astype(int)
    kind[second] = -1
    paired = np.isin(np.arange(len(kind)), second - 1)

    def medians(atoms: np.ndarray) -> list[float]:
        mine = [worked[:, atoms & (schedule.stage == s)] for s in range(schedule.stages)]
        return [float(np.median(values)) if values.size else 0.0 for values in mine]

    of = {row.kind: medians(~paired & (kind == row.kind)) for row in KINDS}
    waited = np.concatenate([t.transfer[schedule.crosses & (t.sent > t.asked)] for t in steps])
    split = Kind.I in schedule.kinds
    return Costs(
        forward=of[Kind.F],
        backward=[b or i + w for b, i, w in zip(of[Kind.B], of[Kind.I], of[Kind.W], strict=True)],
        input_grad=of[Kind.I] if split else None,
        weight_grad=of[Kind.W] if split else None,
        overlap=medians(paired) if schedule.overlaps else None,
        recompute=of[Kind.R],
        step=of[Kind.STEP],
        reduce_grad=of[Kind.REDUCE_GRAD],
        unshard=of[Kind.UNSHARD],
        reshard=of[Kind.RESHARD],
        latency=float(np.quantile(waited, 0.1)) if len(waited) else 0.0,
    )
