"""``estimate``: seconds and bytes of one layout, by part, with every assumption in a sentence."""

from dataclasses import asdict, dataclass
from typing import Any

from .assumptions import sentences
from .data_seconds import data_seconds, optimizer_seconds
from .footprint import Holding, holdings, parameters, rank_parts, verdict
from .layout import Layout, require_possible
from .machine import Machine, device_named
from .model import Transformer, model_named
from .step_seconds import (
    Pipeline,
    closed,
    has_closed_form,
    schedule_of,
    simulated,
    stage_costs,
    stage_seconds,
    transfer_seconds,
)


@dataclass(frozen=True)
class Estimate:
    """What a layout is predicted to take.

    seconds: of a step; seconds_by_part sums to it, on the busiest rank. tflops_per_gpu: FLOPs of
    the model, nothing recomputed, in 10¹² per second; mfu: their share of the peak. bytes: of the
    fullest rank by part. fits: "yes", "tight" or "no". assumptions: sentences.
    """

    seconds: float
    tflops_per_gpu: float
    mfu: float
    bubble_fraction: float
    seconds_by_part: dict[str, float]
    bytes: dict[str, int]
    fits: str
    assumptions: list[str]

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)


def estimate(
    model: str | Transformer,
    layout: Layout,
    *,
    device: str | Machine,
    gpus: int | None = None,
) -> Estimate:
    """Predict the seconds and bytes of one layout.

    Published steps of tuned runs are met within 5 to 8 % (Megatron-LM on A100, NVIDIA's on H100);
    BLOOM's, in an untuned framework, took about 17 % longer, and up to 1.6 times as long.
    tests/benchmarks/bench_planner.py prints the tables.

    Args:
        model: a Transformer, or the name of one.
        layout: how it is spread.
        device: a Machine, or the name of one.
        gpus: how many there are; default: as many as the layout takes.

    Returns:
        An Estimate.

    Raises:
        UsageError: the layout cannot be; the text says what would work.

    >>> layout = Layout(8, 64, 6, batch=3072, recompute="full", precision="fp16", overlap="none")
    >>> round(estimate("gpt-1t", layout, device="a100-80").seconds)
    101
    """
    shape = model_named(model) if isinstance(model, str) else model
    machine = device_named(device) if isinstance(device, str) else device
    require_possible(layout, shape, machine, layout.gpus if gpus is None else gpus)
    return predict(shape, machine, layout)


def predict(model: Transformer, machine: Machine, layout: Layout) -> Estimate:
    """Of a layout that is known to be possible."""
    stages = stage_seconds(model, machine, layout)
    transfer = transfer_seconds(model, machine, layout)
    if has_closed_form(layout):
        schedule, pipeline = None, closed(layout, stages, transfer)
    else:
        costs = stage_costs(layout, stages, transfer)
        schedule = schedule_of(layout, costs)
        pipeline = simulated(layout, schedule, stages, transfer)
    ranks = holdings(model, layout, schedule)
    most = max(parameters(model, layout, rank) for rank in ranks)
    data = data_seconds(machine, layout, most, pipeline.forward, pipeline.backward)
    optimizer = optimizer_seconds(machine, layout, most)
    parts = _parts(layout, pipeline, data, optimizer)
    seconds = pipeline.makespan + data + optimizer
    held = fullest(model, layout, ranks)
    tflops = model.model_flops(layout.batch) / seconds / layout.gpus / 1e12
    return Estimate(
        seconds,
        tflops,
        tflops / machine.tflops,
        pipeline.bubble_fraction,
        parts,
        _whole(held),
        verdict(held["total"], machine.memory),
        sentences(model, machine, layout),
    )


def fullest(model: Transformer, layout: Layout, ranks: list[Holding]) -> dict[str, float]:
    """The bytes of the rank that holds most."""
    return max((rank_parts(model, layout, rank) for rank in ranks), key=lambda one: one["total"])


def _parts(layout: Layout, pipeline: Pipeline, data: float, optimizer: float) -> dict[str, float]:
    """The step on the busiest rank; the bubble is what it idles."""
    m, one = layout.microbatches, pipeline.busiest
    parts = {
        "compute": m * (one.forward + one.input_grad + one.weight_grad),
        "recompute": m * one.recompute,
        "tensor": m * (one.tensor_forward + one.tensor_recompute + one.tensor_backward),
        "pipeline": m * pipeline.transfers,
    }
    bubble = max(0.0, pipeline.makespan - sum(parts.values()))
    return parts | {"bubble": bubble, "data": data, "optimizer": optimizer}


def _whole(parts: dict[str, float]) -> dict[str, int]:
    """Whole bytes whose total is their sum."""
    found = {name: round(value) for name, value in parts.items() if name != "total"}
    return found | {"total": sum(found.values())}
