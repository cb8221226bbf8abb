"""What one layer, the embedding and the logits take for one micro-batch, on one GPU: a roofline.

    matrices    FLOPs / (gemm × peak)
    attention   the same; flash: half of it (causal), at 0.8 of that rate, 2.5 times as much back
    elementwise bytes / (0.8 × memory bandwidth)
    kernels     a fixed time for each layer and pass
    tensor      2 all-reduces of 2sbh bytes forward, 2 back, as a ring; 2 more to recompute all

The backward takes twice the forward. Formulas: arXiv 2104.04473 and 2205.05198.
"""

from typing import NamedTuple

from .layout import Layout
from .machine import MEMORY, Machine
from .model import Transformer

FLASH_RATE = 0.8
FLASH_BACKWARD = 2.5


class Seconds(NamedTuple):
    """Of one thing for one micro-batch.

    Computing F, I, W and what is recomputed; the collectives in F, the recomputation, the backward.
    """

    forward: float = 0.0
    input_grad: float = 0.0
    weight_grad: float = 0.0
    recompute: float = 0.0
    tensor_forward: float = 0.0
    tensor_recompute: float = 0.0
    tensor_backward: float = 0.0

    def times(self, layers: float, extra: "Seconds | None" = None) -> "Seconds":
        """So many of it, and something else."""
        more = extra or _NOTHING
        return Seconds(*(layers * a + b for a, b in zip(self, more, strict=True)))

    @property
    def busy(self) -> float:
        """All of it: a rank computes or waits for its collectives."""
        return sum(self)

    @property
    def backward(self) -> float:
        """From the gradient of the output to those of inputs and weights, all included."""
        return self.busy - self.forward - self.tensor_forward


_NOTHING = Seconds()


def number_bytes(layout: Layout) -> int:
    """Bytes of an activation or weight in computation."""
    return 4 if layout.precision == "fp32" else 2


def flops_rate(layout: Layout, machine: Machine) -> float:
    """FLOPs per second that matrix products reach."""
    share = machine.fp32 if layout.precision == "fp32" else 1.0
    return machine.gemm * machine.tflops * 1e12 * share


def layer_seconds(model: Transformer, machine: Machine, layout: Layout) -> Seconds:
    """Of one layer."""
    t, tokens = layout.tensor, layout.microbatch * model.sequence
    rate, memory = flops_rate(layout, machine), MEMORY * machine.memory_bandwidth * 1e9
    matrices = 2.0 * tokens * model.matrices / t / rate
    core, core_back = _attention(model, layout, rate, memory)
    elementwise = _elementwise_bytes(model, layout) / memory
    forward = matrices + core + elementwise + machine.kernels
    reduce = _all_reduce(model, machine, layout)
    tensor = _exposed(2 * reduce, matrices, layout)
    # Inputs of the split matrices are kept split, and gathered again for the weights' gradients.
    regathered = _exposed(reduce, matrices, layout) if layout.sequence_parallel else 0.0
    again, tensor_again = 0.0, 0.0
    if layout.recompute == "full":
        again, tensor_again = forward, tensor
    elif layout.recompute == "selective" and not layout.flash:
        again = core
    return Seconds(
        forward,
        matrices + core_back + 2 * elementwise + machine.kernels,
        matrices + machine.kernels,
        again,
        tensor,
        tensor_again,
        tensor + regathered,
    )


def ends_seconds(model: Transformer, machine: Machine, layout: Layout) -> tuple[Seconds, Seconds]:
    """Of the embedding, and of the logits with their loss."""
    tokens = layout.microbatch * model.sequence
    logits = 2.0 * tokens * model.head_parameters / layout.tensor / flops_rate(layout, machine)
    reduce = _all_reduce(model, machine, layout)
    one = _exposed(reduce, 0.0, layout)
    return (
        Seconds(tensor_forward=one),
        Seconds(logits, logits, logits, tensor_backward=_exposed(reduce, logits, layout)),
    )


def _attention(
    model: Transformer, layout: Layout, rate: float, memory: float
) -> tuple[float, float]:
    """Seconds of the attention core, forward and backward: scores, softmax, and their product."""
    b, s, t = layout.microbatch, model.sequence, layout.tensor
    flops = 4.0 * b * s * s * model.hidden / t
    if layout.flash:
        forward = flops / 2 / (FLASH_RATE * rate)
        return forward, FLASH_BACKWARD * forward
    scores = 13 * number_bytes(layout) / 2 * model.heads * s * s * b / t
    forward = flops / rate + scores / memory
    return forward, 2 * forward


def _elementwise_bytes(model: Transformer, layout: Layout) -> float:
    """Read and written by norms, dropouts, residuals (22sbh) and inside the split part."""
    split = (6 if model.gated else 4) * model.ffn + 12 * model.hidden
    whole = 22.0 * model.hidden
    if layout.sequence_parallel:
        whole /= layout.tensor
    tokens = layout.microbatch * model.sequence
    return number_bytes(layout) / 2 * tokens * (whole + split / layout.tensor)


def _all_reduce(model: Transformer, machine: Machine, layout: Layout) -> float:
    """Seconds of one all-reduce of a layer's output, or of the pair that takes its place."""
    t = layout.tensor
    size = number_bytes(layout) * layout.microbatch * model.sequence * model.hidden
    return ring(2 * size, t, machine.bandwidth(t), machine.hop, 2)


def ring(size: float, members: int, bandwidth: float, hop: float, passes: int = 1) -> float:
    """Seconds of a ring collective that moves ``size`` bytes (n − 1)/n past each member."""
    return (members - 1) / members * size / bandwidth + passes * (members - 1) * hop


def _exposed(collective: float, beside: float, layout: Layout) -> float:
    """What of a collective nothing hides: its first piece of t, and what outlasts the product."""
    if not layout.overlaps("tensor"):
        return collective
    first = collective / layout.tensor
    return first + max(0.0, collective - first - beside)
