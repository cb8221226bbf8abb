"""The seconds of a step by part: stages into a pipeline, then gradients and the optimizer."""

from typing import NamedTuple

from ...catalogue import build
from ...schedule import Schedule
from ...simulator import Costs, simulate
from .layer_seconds import Seconds, ends_seconds, layer_seconds, number_bytes
from .layout import Layout
from .machine import Machine
from .measured import Measured
from .model import Transformer

HIDES = ("interleaved-1f1b", "gpipe", "eager-1f1b", "looped-bfs")
"""Orders with work between sending and needing: transfers can run beside it."""

FOR_EQUAL = ("zb-1p", "zb-2p")
"""Orders that are built for equal stages: for the mean of these."""
KINDS = ("forward", "input_grad", "weight_grad")


class Pipeline(NamedTuple):
    """How the ranks work together: the makespan, idle over all ranks, what the busiest one does.

    busiest, transfers: seconds for one micro-batch. forward, backward: of the first rank, for one
    micro-batch and all its stages: what traffic of data parallelism can run beside.
    """

    makespan: float
    bubble_fraction: float
    busiest: Seconds
    transfers: float
    forward: float
    backward: float


def stage_seconds(model: Transformer, machine: Machine, layout: Layout) -> list[Seconds]:
    """Of every stage, for one micro-batch."""
    if isinstance(machine, Measured):
        one, first, last = machine.seconds(layout)
    else:
        one = layer_seconds(model, machine, layout)
        first, last = ends_seconds(model, machine, layout)
    known: dict[int, Seconds] = {}
    stages = []
    for layers in layout.layers(model):
        if layers not in known:
            known[layers] = one.times(layers)
        stages.append(known[layers])
    stages[0] = stages[0].times(1, first)
    stages[-1] = stages[-1].times(1, last)
    return stages


def transfer_seconds(model: Transformer, machine: Machine, layout: Layout) -> float:
    """Of one micro-batch from a stage to the next, each GPU sending its part of the output."""
    if layout.pipeline == 1:
        return 0.0
    size = number_bytes(layout) * layout.microbatch * model.sequence * model.hidden / layout.tensor
    apart = layout.tensor * layout.data
    return size / machine.bandwidth(apart * layout.pipeline) + machine.hop


def has_closed_form(layout: Layout) -> bool:
    """Whether the makespan is known without simulating."""
    if layout.pipeline == 1 and layout.stages_per_rank == 1:
        return layout.schedule in ("naive", "gpipe", "1f1b")
    if layout.schedule == "interleaved-1f1b":
        return layout.microbatches % layout.pipeline == 0
    if layout.schedule == "zb-h1":
        return layout.microbatches >= layout.pipeline
    return layout.schedule in ("naive", "gpipe", "1f1b")


def closed(layout: Layout, stages: list[Seconds], transfer: float) -> Pipeline:
    """Closed forms for stages that differ.

    1f1b          m max + Σ others          gpipe  the same with F and B apart
    interleaved   m max + Σ others / v      naive  m Σ
    zb-h1         m max + Σ (others − 2W)
    """
    p, v, m = layout.pipeline, layout.stages_per_rank, layout.microbatches
    known: dict[tuple[int, ...], tuple[Seconds, float]] = {}
    charged, each = _charged(layout, transfer), []
    for rank in range(p):  # most ranks have the same stages
        key = tuple(map(id, stages[rank::p]))
        if key not in known:
            together = _together(stages[rank::p])
            known[key] = together, together.busy + 2 * v * charged
        each.append(known[key])
    ranks, work = [rank for rank, _ in each], [seconds for _, seconds in each]
    most = max(work)
    if layout.schedule == "naive":
        makespan = m * sum(work)
    elif layout.schedule == "gpipe":
        forward = [rank.forward + rank.tensor_forward + charged for rank in ranks]
        backward = [rank.backward + charged for rank in ranks]
        makespan = (m - 1) * (max(forward) + max(backward)) + sum(forward) + sum(backward)
    else:
        makespan = m * most + (sum(work) - most) / v
    if layout.schedule == "zb-h1":
        busiest = ranks[work.index(most)]
        makespan -= 2 * (sum(rank.weight_grad for rank in ranks) - busiest.weight_grad)
    if charged == 0:
        makespan += 2 * (p - 1) * transfer
    return Pipeline(
        makespan,
        1 - m * sum(work) / (p * makespan),
        ranks[work.index(most)],
        2 * v * charged,
        ranks[0].forward + ranks[0].tensor_forward,
        ranks[0].backward,
    )


def _together(stages: list[Seconds]) -> Seconds:
    return stages[0] if len(stages) == 1 else Seconds(*map(sum, zip(*stages, strict=True)))


def _charged(layout: Layout, transfer: float) -> float:
    """What of a transfer keeps its rank busy."""
    return 0.0 if layout.overlap == "all" and layout.schedule in HIDES else transfer


def stage_costs(layout: Layout, stages: list[Seconds], transfer: float) -> Costs:
    """The stages for the simulator."""
    charged = _charged(layout, transfer)
    return Costs(
        forward=[s.forward + s.tensor_forward + charged for s in stages],
        input_grad=[s.backward - s.weight_grad + charged for s in stages],
        weight_grad=[s.weight_grad for s in stages],
        latency=transfer - charged,
    )


def schedule_of(layout: Layout, costs: Costs | None = None) -> Schedule:
    """The real schedule, of the catalogue; costs: for those whose order depends on them."""
    name = layout.schedule
    if name in FOR_EQUAL and costs is not None:
        means = [_mean(costs.durations[kind]) for kind in KINDS]
        costs = Costs(forward=means[0], input_grad=means[1], weight_grad=means[2])
    return build(
        name,
        ranks=layout.pipeline,
        microbatches=layout.microbatches,
        stages_per_rank=layout.stages_per_rank,
        costs=costs if name == "auto" or name in FOR_EQUAL else None,
    )


def _mean(values: float | tuple[float, ...]) -> float:
    return sum(values) / len(values) if isinstance(values, tuple) else values


def simulated(
    layout: Layout, schedule: Schedule, stages: list[Seconds], transfer: float
) -> Pipeline:
    """What the simulator says of the real schedule with these stages."""
    timeline = simulate(schedule, stage_costs(layout, stages, transfer))
    charged = _charged(layout, transfer)
    ranks: list[list[Seconds]] = [[] for _ in range(layout.pipeline)]
    for (_, stage), rank in schedule.placement.items():
        # Of two copies of the model each takes half of the micro-batches.
        ranks[rank].append(stages[stage].times(1 / schedule.replicas))
    each = [_together(rank) for rank in ranks]
    busiest = max(each, key=lambda rank: rank.busy)
    return Pipeline(
        timeline.makespan,
        float(timeline.metrics["bubble_fraction"]),
        busiest,
        2 * layout.stages_per_rank / layout.copies * charged,
        each[0].forward + each[0].tensor_forward,
        each[0].backward,
    )
