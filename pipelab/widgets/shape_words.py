"""What is said of a Shape: what decides, whether it fits, the big numbers, and what is held."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..layout.planner.footprint import FITS, TIGHT
from .rank_memory import GB, PARTS, amount
from .settings import WHOLE
from .shape import Shape

LITTLE = 0.05
"""Of the time: below it nothing is worth a sentence of its own."""
FEW = 4
"""Micro-batches for each rank: with fewer the bubble is large."""


def sentence(shape: Shape) -> str:
    """What decides the time, and whether the fullest worker fits."""
    wrong = shape.problem()
    if wrong:
        return wrong
    told = f"{decides(shape)} {_room(shape)}"
    if shape.zero and shape.data == 1:
        told += " There is one copy: ZeRO has nothing to divide."
    return told


def decides(shape: Shape) -> str:
    """The largest part of the time per batch that is not work."""
    time = shape.time
    name = max(("tensor", "data", "idle"), key=lambda part: time[part])
    total, lost = short(time["total"]), short(time[name])
    if time[name] < LITTLE * time["total"]:
        least = f"{WHOLE:.0f} / {shape.workers} = {short(time['work'])}"
        return f"Little is lost: a batch takes {total}, and {least} is the least."
    if name == "tensor":
        if shape.crosses["tensor"]:
            return (
                f"tensor = {shape.tensor} leaves the node: its all-reduces take {lost} of {total}."
            )
        return (
            f"tensor = {shape.tensor} decides: its all-reduces take {lost} of {total}, although "
            "they stay inside a node."
        )
    if name == "data":
        return f"{_exchange(shape)} Copies exchange for {lost} of {total}."
    quick = shape.without_messages
    if time["total"] - quick > time["idle"] / 2:
        return (
            f"Messages between stages decide: without them a batch would take {short(quick)}, not "
            f"{total}."
        )
    told = f"The bubble decides: a worker waits for {lost} of {total}."
    if shape.microbatches < FEW * shape.ranks:
        few = f"{shape.microbatches} micro-batch" + ("es are" if shape.microbatches > 1 else " is")
        told += f" {few} few for {shape.ranks} ranks."
    return told


def _exchange(shape: Shape) -> str:
    """What the copies of the pipeline do together, and how often."""
    where = "between nodes" if shape.crosses["data"] else "inside a node"
    return {
        0: f"The copies decide: they sum gradients {where}.",
        1: f"The copies decide: they sum gradients and gather weights {where}.",
        2: (
            "ZeRO 2 decides: gradients are summed after each of "
            f"{shape.microbatches} micro-batches, {where}."
        ),
        3: f"ZeRO 3 decides: every forward and backward gathers weights {where}.",
    }[shape.mesh.zero]


def _room(shape: Shape) -> str:
    """Whether it fits; where it does not, the first stage of ZeRO with which it would."""
    held, gpu = amount(shape.held["total"]), amount(shape.machine.memory * GB)
    if shape.fits == "yes":
        return f"The fullest worker holds {held} of {gpu}: it fits."
    if shape.fits == "tight":
        return (
            f"The fullest worker holds {held} of {gpu}: tight, above {FITS:.0%} little is left "
            "for buffers."
        )
    told = f"It does not fit: the fullest worker would hold {held} of {gpu}"
    told += "." if shape.held["total"] > shape.machine.memory * GB else f", above {TIGHT:.0%}."
    change = next((change for change in _changes(shape) if change[1].fits == "yes"), None)
    if change:
        told += f" {change[0]} would do ({amount(change[1].held['total'])})."
    return told


def _changes(shape: Shape) -> Iterator[tuple[str, Shape]]:
    """Single changes that leave the shape as it is, and its training."""
    for one in shape.stages_of_zero():
        yield f"ZeRO {one.zero}", one
    for m in shape.options()["microbatches"]:
        other = replace(shape, microbatches=m)
        if m > shape.microbatches and not other.problem():
            yield f"{m} micro-batches", other


def numbers(shape: Shape) -> list[dict[str, str]]:
    """The three big numbers: label, value, and what stands beneath."""
    total, held = shape.time["total"], shape.held
    parts = " · ".join(f"{part} {amount(held[part])}" for part in PARTS if held[part] > 0)
    return [
        {
            "label": "time per batch",
            "value": short(total),
            "caption": f"{short(WHOLE / total)} × one device (of {shape.workers})",
        },
        {
            "label": "bubble",
            "value": f"{shape.bubble:.1%}".replace("%", " %"),
            "caption": "of the workers' time is idle",
        },
        {
            "label": "memory of the fullest worker",
            "value": amount(held["total"]),
            "caption": parts,
        },
    ]


def held_alike(shape: Shape) -> str:
    """What stays as it is while the shape changes, and where the numbers come from."""
    model = shape.transformer
    return (
        f"Simulated, not measured. One model and one batch are held: {shape.model}, {shape.batch} "
        f"samples of {model.sequence:,} tokens, 16 bits and Adam. 100 is what one device "
        f"({shape.device}, at {shape.machine.gemm:.0%} of its peak) would take alone: "
        f"{short(shape.alone)} s."
    )


def spent(shape: Shape) -> str:
    """Where the time of the mean worker goes."""
    names = {"work": "work", "tensor": "all-reduces in layers", "data": "copies", "idle": "idle"}
    parts = [
        f"{names[name]} {short(shape.time[name])}" for name in names if shape.time[name] > 1e-6
    ]
    return f"the mean worker's {short(shape.time['total'])}: {' + '.join(parts)}"


def who(shape: Shape, worker: int) -> str:
    """A worker and its place: "worker 5: copy 1, rank 0, part 1, node 0"."""
    data, rank, tensor = shape.place(worker)
    node = worker // shape.node
    return f"worker {worker}: copy {data}, rank {rank}, part {tensor}, node {node}"


def listed(workers: Sequence[int]) -> str:
    """Workers by number: "workers 0, 4", or "worker 4"."""
    return f"worker{'s' if len(workers) > 1 else ''} {', '.join(map(str, workers))}"


def short(value: float) -> str:
    """To three digits.

    >>> short(12.5), short(0.0712)
    ('12.5', '0.0712')
    """
    return f"{float(f'{value:.3g}'):g}"
