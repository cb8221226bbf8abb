"""One way to spread a training step over GPUs."""

from dataclasses import dataclass
from functools import cached_property

from ...catalogue import entry
from ...errors import UsageError
from .machine import Machine
from .model import Transformer

CHOICES = {
    "recompute": ("none", "selective", "full"),
    "precision": ("fp16", "bf16", "fp32"),
    "gradients": ("fp32", "same"),
    "optimizer": ("adam", "sgd"),
    "overlap": ("none", "data", "tensor", "all"),
    "zero": (0, 1, 2, 3),
}


TWO_COPIES = ("dualpipe", "chimera")
"""Schedules that hold the model twice, once in each direction."""


@dataclass(frozen=True)
class Layout:
    """Sizes and options of a step; names as the flags of ``pipelab estimate``.

    tensor, pipeline, data: sizes of the three kinds of parallelism. microbatch: samples of one;
    batch: of a step, over all GPUs. gradients: what they are summed in: "fp32" or "same" as the
    precision. overlap: which traffic runs beside computation. sizes: layers of each stage; equal
    if None.
    """

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    stages_per_rank: int = 1
    microbatch: int = 1
    batch: int = 1
    schedule: str = "1f1b"
    recompute: str = "none"
    zero: int = 0
    sequence_parallel: bool = False
    flash: bool = False
    precision: str = "bf16"
    gradients: str = "fp32"
    optimizer: str = "adam"
    overlap: str = "data"
    sizes: tuple[int, ...] | None = None

    @property
    def gpus(self) -> int:
        """How many it takes."""
        return self.tensor * self.pipeline * self.data

    @property
    def stages(self) -> int:
        """Of the whole pipeline."""
        return self.pipeline * self.stages_per_rank // self.copies

    @property
    def copies(self) -> int:
        """Of the model inside one pipeline."""
        return 2 if self.schedule in TWO_COPIES else 1

    @cached_property
    def microbatches(self) -> int:
        """Of a step, on each data-parallel copy."""
        return self.batch // (self.data * self.microbatch)

    def layers(self, model: Transformer) -> tuple[int, ...]:
        """Of each stage."""
        return self.sizes or (model.layers // self.stages,) * self.stages

    def overlaps(self, what: str) -> bool:
        """Whether traffic of this kind runs beside computation."""
        return self.overlap in (what, "all")


def problem(layout: Layout, model: Transformer, machine: Machine) -> tuple[str, str] | None:
    """Why a layout cannot be: a short reason to count by, and a sentence with what would work."""
    t, p, v = layout.tensor, layout.pipeline, layout.stages_per_rank
    for name in ("tensor", "pipeline", "data", "stages_per_rank", "microbatch", "batch"):
        value = getattr(layout, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            return "not a count", f"{name} is {value!r}; it is a whole number, 1 or more."
    for name, values in CHOICES.items():
        if getattr(layout, name) not in values:
            said = " | ".join(map(str, values))
            return "unknown value", f"{name} is {getattr(layout, name)!r}; it is {said}."
    if found := machine.problem(layout, model):
        return found
    if model.heads % t or model.kv_heads % t:
        fits = [n for n in range(1, model.heads + 1) if not (model.heads % n or model.kv_heads % n)]
        text = (
            f"{model.heads} heads ({model.kv_heads} of keys and values) do not divide by tensor = "
            f"{t}; possible: {', '.join(map(str, fits))}."
        )
        return "heads do not divide by tensor", text
    if model.ffn % t:
        return "ffn does not divide by tensor", f"ffn {model.ffn} does not divide by tensor = {t}."
    if layout.sequence_parallel and t == 1:
        text = "Sequence parallelism splits what tensor parallelism leaves whole: it needs tensor"
        return "sequence parallel without tensor", f"{text} = 2 or more."
    if layout.batch % (layout.data * layout.microbatch):
        group = layout.data * layout.microbatch
        near = max(1, round(layout.batch / group)) * group
        text = (
            f"A batch of {layout.batch} does not divide by data × microbatch = {layout.data} × "
            f"{layout.microbatch}; a batch of {near} does."
        )
        return "batch does not divide", text
    return _cuts(layout, model) or _order(p, v, layout)


def _cuts(layout: Layout, model: Transformer) -> tuple[str, str] | None:
    """Why the layers cannot be cut so."""
    if layout.sizes is not None:
        if len(layout.sizes) != layout.stages or min(layout.sizes) < 0:
            text = f"--sizes has {len(layout.sizes)} numbers; there are {layout.stages} stages."
            return "sizes do not fit", text
        if sum(layout.sizes) != model.layers:
            text = f"--sizes adds up to {sum(layout.sizes)} layers; there are {model.layers}."
            return "sizes do not fit", text
        return None
    if layout.stages > model.layers:
        text = f"{model.layers} layers cannot fill {layout.stages} stages; at most one each."
        return "fewer layers than stages", text
    if model.layers % layout.stages:
        fits = [n for n in range(1, model.layers + 1) if model.layers % n == 0]
        low, more = divmod(model.layers, layout.stages)
        # Whoever has the ends has most to do: the larger stages go into the middle.
        before = (layout.stages - more) // 2
        cuts = [low + (before <= i < before + more) for i in range(layout.stages)]
        slower = (low + 1) * layout.stages / model.layers - 1
        text = (
            f"{model.layers} layers do not divide by {layout.stages} stages; equal cuts: "
            f"{', '.join(map(str, fits))} stages; uneven ones, with stages up to {slower:.0%} "
            f"above the mean: --sizes {','.join(map(str, cuts))}"
        )
        return "layers do not divide by stages", text
    return None


def _order(p: int, v: int, layout: Layout) -> tuple[str, str] | None:
    """Why there is no such schedule."""
    if p == 1 and v == 1:
        entry(layout.schedule)
        return None
    text = entry(layout.schedule).problem(p, layout.microbatches, v)
    return ("no such schedule", text) if text else None


def require_possible(layout: Layout, model: Transformer, machine: Machine, gpus: int) -> None:
    """Raise UsageError for a layout that cannot be, or that does not take all the GPUs."""
    found = problem(layout, model, machine)
    if found:
        raise UsageError(found[1])
    if layout.gpus != gpus:
        other = gpus // (layout.tensor * layout.pipeline)
        says = f"; data = {other} would" if other * layout.tensor * layout.pipeline == gpus else ""
        raise UsageError(
            f"tensor × pipeline × data = {layout.tensor} × {layout.pipeline} × {layout.data} = "
            f"{layout.gpus} GPUs, not {gpus}{says}."
        )
