"""The bytes of every rank by part: what it holds of parameters and of micro-batches in flight.

Activations: closed forms of arXiv 2205.05198, with the MLP's width and grouped queries; states:
ZeRO, arXiv 1910.02054. What runs on a GPU beside these (context, buffers, fragments) is not
counted, and is why a layout fits only up to a share of the memory.
"""

from typing import NamedTuple

from ...schedule import Schedule
from ...simulator import Memory
from ..memory import rank_bytes
from .layer_seconds import number_bytes
from .layout import Layout
from .model import Transformer

FITS, TIGHT = 0.75, 0.85
"""Shares of the memory: up to FITS a layout fits, above TIGHT it does not. BLOOM's runs (bigscience
tr11) lie below 0.81, and all but one of those that ran out of memory above 0.85; its authors'
own rule is 0.75."""


class Holding(NamedTuple):
    """What a rank holds.

    layers: whose parameters it has. first, last: whether it has the embedding, the logits.
    in_flight: layers × micro-batches whose activations it keeps at once. versions: copies of the
    weights.
    """

    layers: int
    first: bool
    last: bool
    in_flight: float
    versions: float = 1.0


def holdings(model: Transformer, layout: Layout, schedule: Schedule | None) -> list[Holding]:
    """Of every rank that may be the fullest.

    schedule: counted action by action; None for one with a closed form.
    """
    counts = layout.layers(model)
    if schedule is not None:
        return _counted(counts, schedule)
    p, v = layout.pipeline, layout.stages_per_rank
    found = []
    # With equal cuts those between hold less than the first in every part.
    ranks = range(p) if layout.sizes or p == 1 else (0, p - 1)
    for rank in ranks:
        layers = sum(counts[rank::p])
        in_flight = stages_in_flight(layout, rank) * layers / v
        found.append(Holding(layers, rank == 0, rank == p - 1, in_flight))
    return found


def stages_in_flight(layout: Layout, rank: int) -> float:
    """Pairs of a stage and a micro-batch that a rank keeps: closed forms of arXiv 2104.04473."""
    p, v, m = layout.pipeline, layout.stages_per_rank, layout.microbatches
    if layout.schedule == "naive":
        return 1
    if layout.schedule == "gpipe":
        return m
    if layout.schedule == "1f1b":
        return min(m, p - rank)
    if layout.schedule == "zb-h1":  # half of what F keeps waits for W
        return p - rank / 2
    return min(m * v, (v - 1) * p + 2 * (p - rank - 1) + 1)


def _counted(counts: tuple[int, ...], schedule: Schedule) -> list[Holding]:
    """By following the schedule; W needs half of what F keeps."""
    # Twice the layers, so that their halves are whole.
    memory = Memory(activations=[2.0 * n for n in counts], weights=[1.0] * schedule.stages)
    found = []
    for rank, held in enumerate(rank_bytes(schedule, memory)):
        here = [stage for (_, stage), home in schedule.placement.items() if home == rank]
        found.append(
            Holding(
                sum(counts[stage] for stage in here),
                0 in here,
                schedule.stages - 1 in here,
                held["activations"] / 2,
                held["weights"] / len(here),
            )
        )
    return found


def parameters(model: Transformer, layout: Layout, holding: Holding) -> float:
    """Of one GPU of a rank, before ZeRO divides anything."""
    whole = float(holding.layers * model.layer_parameters)
    if holding.first:
        whole += model.embedding_parameters
    if holding.last and (model.gated or not holding.first or layout.copies > 1):
        whole += model.head_parameters
    return whole / layout.tensor


def parameter_bytes(layout: Layout) -> tuple[int, int, int]:
    """Of one parameter: weight, gradient, and optimizer with the 32-bit master."""
    weight = number_bytes(layout)
    gradient = 4 if layout.gradients == "fp32" else weight
    master = 0 if layout.precision == "fp32" else 4
    return weight, gradient, master + (8 if layout.optimizer == "adam" else 0)


def layer_activations(model: Transformer, layout: Layout) -> float:
    """Bytes that a layer keeps of one micro-batch if it recomputes nothing of its matrices.

    >>> model = Transformer("", 1, 1024, 16, sequence=2048)
    >>> sbh = 2048 * 1024
    >>> layer_activations(model, Layout()) / sbh == 34 + 5 * 16 * 2048 / 1024
    True
    >>> split = Layout(tensor=8, sequence_parallel=True, recompute="selective")
    >>> layer_activations(model, split) / sbh == 34 / 8
    True
    """
    tokens, h, t = layout.microbatch * model.sequence, model.hidden, layout.tensor
    groups = model.kv_heads / model.heads
    whole = (8.0 if model.gated else 10.0) * h
    split = (4 + 4 * groups) * h + (6 if model.gated else 4) * model.ffn
    if not layout.flash and layout.recompute != "selective":
        split += 5 * model.heads * model.sequence
    if layout.sequence_parallel:
        whole /= t
    return number_bytes(layout) / 2 * tokens * (whole + split / t)


def rank_parts(model: Transformer, layout: Layout, holding: Holding) -> dict[str, float]:
    """Bytes of one GPU of a rank by part; ``total`` is their sum."""
    count = parameters(model, layout, holding)
    weight, gradient, states = parameter_bytes(layout)
    tokens, zero, d = layout.microbatch * model.sequence, layout.zero, layout.data
    weights = float(weight * count * holding.versions)
    if zero == 3 and d > 1:
        # The layer that runs and the one that is gathered ahead.
        weights = weights / d + 2 * weight * model.layer_parameters / layout.tensor
    activations = holding.in_flight * layer_activations(model, layout)
    if layout.recompute == "full":
        kept = float(number_bytes(layout) * tokens * model.hidden)
        if layout.sequence_parallel:
            kept /= layout.tensor
        activations = holding.in_flight * kept + layer_activations(model, layout)
    # 16-bit logits, their 32-bit copy and its gradient; in 32 bits the first is the second.
    logits = (8 if layout.precision == "fp32" else 10) * tokens * model.vocabulary / layout.tensor
    parts = {
        "weights": weights,
        "gradients": gradient * count / (d if zero >= 2 else 1),
        "optimizer": states * count / (d if zero >= 1 else 1),
        "activations": activations,
        "logits": logits if holding.last else 0.0,
    }
    return parts | {"total": sum(parts.values())}


def verdict(total: float, memory: float) -> str:
    """Whether so many bytes fit into a GPU of so many GB: yes, tight or no."""
    share = total / (memory * 1e9)
    return "yes" if share <= FITS else "tight" if share <= TIGHT else "no"
