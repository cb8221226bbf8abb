"""What data parallelism and the optimizer add to a step, on the rank with most parameters."""

from .footprint import parameter_bytes
from .layer_seconds import ring
from .layout import Layout
from .machine import MEMORY, Machine
from .measured import Measured

OPTIMIZER_BYTES = {"adam": 34, "sgd": 18}
"""Read and written for each parameter: gradient, master and 16-bit weight; and two moments."""


def optimizer_seconds(machine: Machine, layout: Layout, count: float) -> float:
    """Of one step: a pass over the memory. count: parameters; ZeRO divides them over data."""
    share = layout.data if layout.zero else 1
    moved = OPTIMIZER_BYTES[layout.optimizer] * count / share
    return moved / (MEMORY * machine.memory_bandwidth * 1e9)


def data_seconds(
    machine: Machine, layout: Layout, count: float, forward: float, backward: float
) -> float:
    """Traffic over data that nothing hides.

    ZeRO 0 all-reduces gradients once a step; 1 reduce-scatters them and gathers weights; 2
    reduce-scatters for every micro-batch; 3 does that, and gathers weights before every F and
    every backward. A stage's gradients are complete when its last backward ends. On a rank with
    several stages most of them are complete before the drain, which then hides their traffic.

    Args:
        machine: with the links.
        layout: whose data, ZeRO stage and overlap count.
        count: parameters of a GPU.
        forward: seconds of one micro-batch through all stages of a rank.
        backward: the same back.
    """
    d, m = layout.data, layout.microbatches
    if d == 1:
        return 0.0
    if isinstance(machine, Measured):
        reduce, gather, scatter = (count * each for each in machine.collectives)
    else:
        bandwidth = machine.bandwidth(layout.tensor * d, links_of(machine, layout))
        sizes = (count * each for each in parameter_bytes(layout)[:2])
        gather, scatter = (ring(size, d, bandwidth, machine.hop) for size in sizes)
        reduce = 2 * scatter
    if layout.zero == 3:
        return m * (_left(gather, forward, layout) + _left(gather + scatter, backward, layout))
    behind = _drain(layout)
    if layout.zero == 2:
        each = _left(scatter, backward, layout)
        return m * each + _left(gather, behind * forward, layout)
    if layout.zero == 1:
        hidden = _left(scatter, behind * backward, layout)
        return hidden + _left(gather, behind * forward, layout)
    return _left(reduce, behind * backward, layout)


def links_of(machine: Machine, layout: Layout) -> int:
    """Network links that one group of data-parallel copies uses in each of its nodes.

    All of its GPUs', for what is sent once a step in large buckets. ZeRO-3 gathers layer by layer:
    published runs (arXiv 2104.04473, Table 2) show one link's bandwidth, not a node's.
    """
    if layout.zero == 3:
        return 1
    return max(1, min(int(machine.node_size) // layout.tensor, layout.data))


def _drain(layout: Layout) -> float:
    """Micro-batches' worth of backward between the first stage that is done and the end.

    Without interleaving 1: the last backward itself. With v stages on a rank the first of them is
    done (v − 1)p backwards of a stage before the last begins.
    """
    p, v = layout.pipeline, layout.stages_per_rank
    return ((v - 1) * min(p, layout.microbatches) + 1) / v


def _left(traffic: float, beside: float, layout: Layout) -> float:
    """What of the traffic outlasts the computation beside it."""
    return max(0.0, traffic - beside) if layout.overlaps("data") else traffic
