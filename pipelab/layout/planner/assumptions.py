"""Every assumption of an estimate, a sentence each, and what is left out."""

from .footprint import FITS, TIGHT, parameter_bytes
from .layer_seconds import FLASH_BACKWARD, FLASH_RATE
from .layout import Layout
from .machine import MEMORY, Machine
from .measured import Measured
from .model import Transformer
from .step_seconds import FOR_EQUAL, HIDES, has_closed_form

LEFT_OUT = (
    "Left out: tile and wave quantization of matrix products, head sizes that kernels dislike "
    "(not a multiple of 8), jitter and stragglers, topology beyond node and network, the "
    "framework's own overhead (10 to 30 % where it is not tuned), experts, context parallelism and "
    "offloading."
)


def sentences(model: Transformer, machine: Machine, layout: Layout) -> list[str]:
    """What this estimate rests on."""
    return [
        *_computing(machine, layout),
        *_tensor(machine, layout),
        *_pipeline(machine, layout),
        *_data(layout),
        *_bytes(model, layout),
        LEFT_OUT,
    ]


def _computing(machine: Machine, layout: Layout) -> list[str]:
    if isinstance(machine, Measured):
        return [
            f"The passes of the embedding, a layer and the head were measured on {machine.name}, "
            "in runs of all its workers at once. So were its links, "
            f"{1e6 * machine.hop:.0f} µs and {machine.node_bandwidth:.2g} GB/s, what copies of the "
            "pipeline do together, and the optimizer. Its peak is what a layer reaches.",
            *(["Every layer's forward is computed again."] * (layout.recompute == "full")),
        ]
    rate = "TF32 or the device's fastest 32-bit" if layout.precision == "fp32" else "16-bit"
    found = [
        f"Matrix products reach {machine.gemm:g} of the {rate} peak ({machine.name}: "
        f"{machine.source}).",
        f"Elementwise kernels reach {MEMORY:g} of the memory's bandwidth; each layer "
        f"loses {1000 * machine.kernels:g} ms for each forward, and as much for each half of its "
        "backward, whatever the micro-batch's size.",
        "The backward takes twice the forward; FLOPs of the model count every token attending to "
        "every other, and nothing recomputed.",
        "The vocabulary's matrix runs on the last stage, the embedding's lookup takes no time.",
    ]
    if layout.flash:
        found.append(
            f"Flash attention computes the causal half, at {FLASH_RATE:g} of the rate of other "
            f"products, and {FLASH_BACKWARD:g} times as much in the backward."
        )
    else:
        found.append("Attention is computed in full and its scores pass through the memory.")
    if layout.recompute == "selective" and layout.flash:
        found.append("Flash attention has saved what selective recomputation would save.")
    elif layout.recompute == "selective":
        found.append("Only the attention's core is computed again.")
    elif layout.recompute == "full":
        found.append("Every layer's forward is computed again, its collectives included.")
    return found


def _tensor(machine: Machine, layout: Layout) -> list[str]:
    t = layout.tensor
    if t == 1:
        return []
    inside = t <= machine.node_size
    speed = machine.node_bandwidth if inside else machine.network_bandwidth
    where = "inside the node" if inside else "across nodes, a network link for each GPU"
    found = [
        f"Tensor parallelism runs {where}: {machine.link:g} of {speed:g} GB/s, and "
        f"{1e6 * machine.hop:g} µs a hop.",
        "Its collectives run beside the product that they follow, but for their first piece of "
        f"{t}."
        if layout.overlaps("tensor")
        else "Nothing hides its collectives.",
    ]
    if layout.sequence_parallel:
        found.append(
            "With sequence parallelism inputs are kept split, and gathered again in the backward."
        )
    return found


def _pipeline(machine: Machine, layout: Layout) -> list[str]:
    if layout.pipeline == 1:
        return []
    how = (
        "The makespan follows from the schedule's closed form with the slowest rank"
        if has_closed_form(layout)
        else "The schedule was simulated action by action"
    )
    if not isinstance(machine, Measured):
        how += "; W takes as long as the forward's products"
    found = [f"{how}."]
    if layout.overlap == "all" and layout.schedule in HIDES:
        found.append("Transfers between stages are hidden, but for filling and draining.")
    else:
        found.append("Each transfer between stages keeps its ranks waiting.")
    if layout.tensor > 1:
        found.append("Each GPU of a tensor group sends its part of a stage's output.")
    if layout.schedule in FOR_EQUAL:
        found.append("Its order was built for stages as long as the mean of these.")
    if layout.schedule.startswith("pipedream"):
        found.append("The seconds are those of one batch from an empty pipeline, with its drain.")
    return found


def _data(layout: Layout) -> list[str]:
    if layout.data == 1:
        return []
    found = [
        "GPUs are numbered tensor first, then data, then pipeline; between nodes a data-parallel "
        "group reaches "
        + ("one network link's bandwidth." if layout.zero == 3 else "that of all its GPUs' links."),
        {
            0: "Gradients are all-reduced once a step.",
            1: "Gradients are reduce-scattered and weights gathered once a step.",
            2: "Gradients are reduce-scattered after every micro-batch, weights gathered once.",
            3: "Weights are gathered before every forward and backward, gradients reduce-scattered "
            "after every micro-batch.",
        }[layout.zero],
    ]
    if not layout.overlaps("data"):
        return [*found, "Nothing hides this traffic."]
    if layout.zero == 3:
        return [*found, "This traffic runs beside the forward and the backward that it is for."]
    return [
        *found,
        "This traffic runs beside the last backward of a step (weights: the first forward) and, if "
        "interleaved, beside the drain (the fill).",
    ]


def _bytes(model: Transformer, layout: Layout) -> list[str]:
    weight, gradient, states = parameter_bytes(layout)
    shared = "have a matrix of their own" if model.gated else "share the embedding's matrix"
    return [
        f"A parameter takes {weight} bytes of weight, {gradient} of gradient and {states} for "
        f"{layout.optimizer} with the master copy, before ZeRO divides; the logits {shared}.",
        "Activations follow the closed forms of arXiv 2205.05198; context, buffers and fragments "
        f"are not counted, so a layout fits up to {FITS:.0%} of the memory and is tight up to "
        f"{TIGHT:.0%}.",
    ]
