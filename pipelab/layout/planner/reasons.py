"""Why: what a layout loses against the best one, and whether a pipeline is needed at all."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from .estimate import Estimate, predict
from .layout import Layout, require_possible
from .machine import Machine
from .model import Transformer

if TYPE_CHECKING:
    from .plan import Plan

SAME = 0.10
"""What cannot be told apart."""


class Weighed(NamedTuple):
    """A layout that is possible: bytes of its fullest rank, and its estimate if it fits."""

    layout: Layout
    held: float
    estimate: Estimate | None


@dataclass(frozen=True)
class Lost:
    """What a layout loses against the best.

    seconds, best_seconds: of a step. lost: seconds more (or, below 0, less) by part; they sum to
    the difference. fits: of the layout. sentences: the same in words.
    """

    seconds: float
    best_seconds: float
    lost: dict[str, float]
    fits: str
    sentences: list[str]

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)

    def __str__(self) -> str:
        return "\n".join(self.sentences)


def explain(model: Transformer, machine: Machine, gpus: int, layout: Layout, best: Layout) -> Lost:
    """Compare a layout with the best. Raises UsageError for one that cannot be."""
    require_possible(layout, model, machine, gpus)
    mine, theirs = (predict(model, machine, one) for one in (layout, best))
    lost = {
        name: seconds - theirs.seconds_by_part[name]
        for name, seconds in mine.seconds_by_part.items()
    }
    slower = mine.seconds / theirs.seconds - 1
    said = [f"{short(layout)}: {mine.seconds:.3f} s a step, {slower:+.1%} against {short(best)}."]
    if mine.fits == "no":
        said.append(_too_large(mine, machine))
    for name in sorted(lost, key=lambda name: -abs(lost[name])):
        if abs(lost[name]) >= 0.005 * theirs.seconds:
            said.append(_part(name, lost[name], mine, machine, layout, best))
    if len(said) == 1:
        said.append("No part differs by more than 0.5 % of the step.")
    return Lost(mine.seconds, theirs.seconds, lost, mine.fits, said)


def short(layout: Layout) -> str:
    """The layout in a few words.

    >>> short(Layout(8, 4, 2, batch=64))
    't=8 p=4 d=2 v=1 b=1 1f1b recompute=none zero=0'
    """
    return (
        f"t={layout.tensor} p={layout.pipeline} d={layout.data} v={layout.stages_per_rank} "
        f"b={layout.microbatch} {layout.schedule} recompute={layout.recompute} zero={layout.zero}"
    )


def _too_large(mine: Estimate, machine: Machine) -> str:
    parts = {name: held for name, held in mine.bytes.items() if name != "total"}
    most = max(parts, key=lambda name: parts[name])
    return (
        f"It does not fit: {mine.bytes['total'] / 1e9:.1f} GB of {machine.memory:g} GB, "
        f"{parts[most] / 1e9:.1f} of them {most}."
    )


def _part(
    name: str, lost: float, mine: Estimate, machine: Machine, layout: Layout, best: Layout
) -> str:
    share = mine.seconds_by_part[name] / mine.seconds
    more = "more" if lost > 0 else "less"
    return (
        f"{name}: {abs(lost):.3f} s {more}, {share:.0%} of the step; "
        f"{_cause(name, machine, layout, best)}."
    )


def _cause(name: str, machine: Machine, layout: Layout, best: Layout) -> str:
    """What differs that this part depends on."""
    t, node = layout.tensor, int(machine.node_size)
    if name == "tensor" and t > node >= best.tensor:
        return (
            f"t = {t} leaves the node: its all-reduces run at {machine.network_bandwidth:g} GB/s "
            f"instead of {machine.node_bandwidth:g}"
        )
    if name == "data" and t * layout.data > node >= best.tensor * best.data:
        return f"t × d = {t * layout.data} GPUs leave the node, so gradients cross the network"
    names = {
        "compute": ("tensor", "microbatch", "pipeline"),
        "recompute": ("recompute", "microbatch"),
        "tensor": ("tensor", "sequence_parallel", "recompute"),
        "pipeline": ("pipeline", "stages_per_rank", "microbatch", "tensor"),
        "bubble": ("pipeline", "microbatches", "stages_per_rank", "schedule"),
        "data": ("data", "zero", "tensor", "pipeline"),
        "optimizer": ("zero", "tensor", "pipeline", "data"),
    }[name]
    differs = [
        f"{each} = {getattr(layout, each)} instead of {getattr(best, each)}"
        for each in names
        if getattr(layout, each) != getattr(best, each)
    ]
    return ", ".join(differs) or "it follows from the other parts"


def needed(found: list[Weighed], machine: Machine) -> dict[str, Any]:
    """Whether a pipeline is needed: "yes", "no" or "optional", and because of what."""
    fits = [(one.layout.pipeline > 1, one.estimate.seconds) for one in found if one.estimate]
    with_one = min((seconds for pipeline, seconds in fits if pipeline), default=None)
    without = min((seconds for pipeline, seconds in fits if not pipeline), default=None)
    if without is None:
        return {"answer": "yes", "because": [_none_without(found, machine)]}
    if with_one is None:
        why = "No layout with a pipeline fits, and one without does."
        if all(one.layout.pipeline == 1 for one in found):
            why = "No layout with a pipeline is possible, or what is fixed excludes them."
        return {"answer": "no", "because": [why]}
    said = f"The best with a pipeline takes {with_one:.3f} s a step, the best without {without:.3f}"
    if with_one * (1 + SAME) < without:
        return {"answer": "yes", "because": [f"{said}."]}
    if without * (1 + SAME) < with_one:
        return {"answer": "no", "because": [f"{said}."]}
    return {"answer": "optional", "because": [f"{said}: they cannot be told apart."]}


def _none_without(found: list[Weighed], machine: Machine) -> str:
    least = min((one.held for one in found if one.layout.pipeline == 1), default=None)
    if least is None:
        return "No layout without a pipeline is possible, or what is fixed excludes them."
    return (
        "No layout without a pipeline fits: the least takes "
        f"{least / 1e9:.1f} GB of {machine.memory:g} GB."
    )


def text_of(found: "Plan", top: int) -> str:
    """A plan as text."""
    head = f"{'band':>4} {'seconds':>9} {'MFU':>6} {'GB':>7} {'fits':6} layout"
    lines = [
        f"{found.model.name} on {found.gpus} {found.machine.name}: {found.searched} layouts in "
        f"{found.seconds_searching:.2f} s, best {found.objective} first",
        head,
    ]
    for row in found.rows[:top]:
        one = row.estimate
        lines.append(
            f"{row.band:4} {one.seconds:9.3f} {one.mfu:6.1%} {one.bytes['total'] / 1e9:7.1f} "
            f"{one.fits:6} {short(row.layout)}"
        )
        if row.simulated is not None:
            lines.append(f"{'':5}{row.simulated:9.3f} with its schedule simulated")
    lines += [f"rejected {count:6}: {reason}" for reason, count in found.rejected.items()]
    answer = found.pipeline_needed
    lines.append(f"pipeline needed: {answer['answer']}. {' '.join(answer['because'])}")
    return "\n".join(lines)
