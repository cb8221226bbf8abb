"""Pictures of a mesh: its workers by group and node, what each sent, and what each held.

In: a Mesh, or Runs. Out: SVG, as in ``figures``.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from ..errors import UnknownName, UsageError
from ..plots.palette import ink
from ..schedule import Mesh, Place
from .figures import OTHERS, WIDTH, Picture, label, short, svg, ticks

if TYPE_CHECKING:
    from ..engine import Run

_GROUPS: dict[str, Callable[[Mesh, int, Place], list[int]]] = {
    "data": Mesh.data_group,
    "pipeline": Mesh.pipeline_group,
    "tensor": Mesh.tensor_group,
}
_MORE = (*OTHERS, "#66CCEE", "#222255", "#AA3377", "#BBBBBB")
_SENT = {
    "tensor": ("inside layers", "#AA4499"),
    "pipeline": ("between stages", "#4477AA"),
    "reduce_grad": ("gradients", "#BB5566"),
    "unshard": ("weights", "#DDAA33"),
}
_HELD = {
    "weights": ("weights", "#596673"),
    "gathered": ("gathered", "#DDAA33"),
    "gradients": ("gradients", "#8d99a6"),
    "optimizer": ("optimizer", "#b9c2cb"),
    "versions": ("versions", "#44BB99"),
    "activations": ("activations", "#7b5ea7"),
}
_Parts = Mapping[str, tuple[str, str]]


def workers(mesh: Mesh, *, ranks: int, group: str = "tensor", node: int = 4) -> Picture:
    """The workers of a mesh as a grid: a row per copy of the pipeline, a column per rank.

    Args:
        mesh: How the pipeline is repeated and its layers are cut.
        ranks: Of the pipeline.
        group: Who has the same colour: "data" (the same weights), "pipeline" (one pipeline) or
            "tensor" (the same layers, cut).
        node: Workers on one node, by their numbers; a frame is around them.

    Raises:
        UnknownName: No such group.
        UsageError: A node without workers.

    >>> "tensor: 4 groups of 2 workers, none crosses a node" in workers(
    ...     Mesh(data=2, tensor=2), ranks=2
    ... ).svg
    True
    """
    if group not in _GROUPS:
        raise UnknownName("group", group, _GROUPS)
    if node < 1:
        raise UsageError(f"node is {node}; it is how many workers a node has, 1 or more.")
    count = mesh.workers(ranks)
    groups: list[tuple[int, ...]] = []
    for worker in range(count):
        members = tuple(_GROUPS[group](mesh, ranks, mesh.place(ranks, worker)))
        if members not in groups:
            groups.append(members)
    colour = {
        worker: _MORE[i % len(_MORE)] for i, members in enumerate(groups) for worker in members
    }
    crossing = sum(len({worker // node for worker in members}) > 1 for members in groups)
    across = ranks * mesh.tensor
    left, top, high = 74, 40, 74
    wide = min(64.0, (WIDTH - left - 10 - 16 * (ranks - 1)) / across)

    def x_of(worker: int) -> float:
        place = mesh.place(ranks, worker)
        return left + (place.rank * mesh.tensor + place.tensor) * wide + place.rank * 16

    parts = []
    for rank in range(ranks):
        middle = x_of(rank * mesh.tensor) + wide * mesh.tensor / 2
        parts.append(label(middle, 14, f"rank {rank}", "middle"))
    for copy in range(mesh.data):
        y = top + copy * high
        row = range(copy * across, (copy + 1) * across)
        parts.append(label(left - 14, y + 24, f"copy {copy}", "end"))
        for number, found in groupby(row, key=lambda worker: worker // node):
            mine = list(found)
            begin, end = x_of(mine[0]) - 4, x_of(mine[-1]) + wide
            parts.append(
                f'<rect x="{begin:.1f}" y="{y - 6}" width="{end - begin:.1f}" height="60" rx="6" '
                'fill="none" stroke="currentColor" stroke-opacity="0.6" stroke-width="1.5" '
                'stroke-dasharray="5 3"/>'
            )
            parts.append(label(begin + 6, y + 48, f"node {number}", "start", faint=True))
        for worker in row:
            parts.append(
                f'<rect x="{x_of(worker):.1f}" y="{y}" width="{wide - 4:.1f}" height="34" rx="4" '
                f'fill="{colour[worker]}"/>'
                f'<text x="{x_of(worker) + wide / 2 - 2:.1f}" y="{y + 22}" '
                f'text-anchor="middle" fill="{ink(colour[worker])}" font-size="14" '
                f'font-family="system-ui, sans-serif">{worker}</text>'
            )
    size = count // len(groups)
    verb = "crosses" if crossing == 1 else "cross"
    where = "none crosses a node" if not crossing else f"{crossing} of them {verb} nodes"
    said = f"{group}: {len(groups)} {'group' if len(groups) == 1 else 'groups'} of {size}"
    said = f"{said} worker{'' if size == 1 else 's'}, {where}"
    bottom = top + mesh.data * high + 6
    parts.append(label(left, bottom, said, "start"))
    named = "; ".join(", ".join(map(str, members)) for members in groups)
    return Picture(svg(parts, bottom + 12, f"{said}. {named}"))


def traffic(run: "Run", *, workers: Sequence[int] | None = None) -> Picture:
    """What each worker of a run sent in its last step, by what for."""
    sent = run.bytes_by_collective
    chosen = range(len(sent)) if workers is None else workers
    return _stacked([(f"worker {worker}", sent[worker]) for worker in chosen], _SENT)


def held(runs: Mapping[str, "Run"], *, worker: int = 0, activations: bool = False) -> Picture:
    """What one worker of each run holds, by part; activations only if asked for."""
    parts = {name: look for name, look in _HELD.items() if activations or name != "activations"}
    return _stacked([(name, run.peak_bytes[worker]) for name, run in runs.items()], parts)


def _stacked(rows: Sequence[tuple[str, Mapping[str, int]]], parts: _Parts) -> Picture:
    """Bars of bytes, made of parts; what is nowhere is not in the key."""
    used = [name for name in parts if any(values.get(name, 0) for _, values in rows)]
    totals = [sum(values.get(name, 0) for name in used) for _, values in rows]
    scale, unit = (2**20, "MiB") if max(totals) >= 2**20 else (2**10, "KiB")
    most = max(totals) / scale or 1.0
    left, right, top, step = 110, WIDTH - 90, 30, 28
    bottom = top + step * len(rows)

    def at(value: float) -> float:
        return left + (right - left) * value / most

    drawn, said, x = [], [], float(left)
    for name in used:
        title, colour = parts[name]
        drawn.append(f'<rect x="{x:.1f}" y="4" width="14" height="14" rx="2" fill="{colour}"/>')
        drawn.append(label(x + 19, 16, title, "start"))
        x += 40 + 7.4 * len(title)
    for tick in ticks(0, most):
        drawn.append(
            f'<line x1="{at(tick):.1f}" y1="{top - 4}" x2="{at(tick):.1f}" y2="{bottom}" '
            'stroke="currentColor" stroke-opacity="0.25"/>'
        )
        drawn.append(label(at(tick), bottom + 16, short(tick), "middle", faint=True))
    for i, ((name, values), total) in enumerate(zip(rows, totals, strict=True)):
        y, begin = top + i * step, 0.0
        drawn.append(label(left - 8, y + 14, name, "end"))
        for part in used:
            size = values.get(part, 0) / scale
            if size:
                drawn.append(
                    f'<rect x="{at(begin):.1f}" y="{y}" width="{at(size) - left:.1f}" height="18" '
                    f'fill="{parts[part][1]}" stroke="currentColor" stroke-opacity="0.4"/>'
                )
            begin += size
        drawn.append(label(at(begin) + 6, y + 14, f"{short(total / scale)} {unit}", "start"))
        each = ", ".join(f"{parts[part][0]} {short(values.get(part, 0) / scale)}" for part in used)
        said.append(f"{name}: {short(total / scale)} {unit} ({each})")
    return Picture(svg(drawn, bottom + 24, "; ".join(said)))
