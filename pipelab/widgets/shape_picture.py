"""A mesh of workers, what they send and hold, and the timeline of one pipeline: as one SVG.

    ┌ mesh: a row for each copy, rank by rank ┐ ┌ bytes sent by dimension ┐
    └ a chosen worker and its three groups    ┘ └ bytes held by ZeRO      ┘
    ┌ the chosen worker's pipeline, with collectives in its lanes         ┐

Attributes alone: viewers of notebooks drop style sheets.
"""

from collections.abc import Callable, Iterator
from html import escape
from itertools import count

from ..plots.palette import ink
from .memory_picture import FULL, filled, label, patterns
from .rank_memory import GB, PARTS, amount
from .shape import DIMENSIONS, Shape
from .shape_lanes import lanes
from .shape_words import listed, who

WIDTH, GRID, ASIDE = 860, 380, 424
"""Of all, of the mesh, and where what is beside it begins."""
LEFT, TOP = 62, 46
BARS, BARS_END, BAR = ASIDE + 76, WIDTH - 156, 16
COLOURS = {"data": "#aa4499", "pipeline": "#117733", "tensor": "#999933"}
"""Of dimensions; no kind of action and no part of memory has these hues."""
CHOSEN = "#33597f"
_numbers = count()


def shape_svg(shape: Shape, worker: int) -> str:
    """Draw it, with this worker chosen."""
    mine = f"pl-shapes-{next(_numbers)}"
    mesh, low = _mesh(shape, worker)
    aside = "".join([*_sent(shape), *_held(shape, mine)])
    low = max(low, 194 + 22 * (4 if shape.data > 1 else 1))
    under, height = lanes(shape, worker, WIDTH, mine)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {low + height}" '
        f'width="{WIDTH}" height="{low + height}" role="group" '
        f'aria-label="{escape(_told(shape, worker))}">{patterns(mine)}{mesh}{aside}'
        f'<g transform="translate(0,{low})">{under}</g></svg>'
    )


def _told(shape: Shape, worker: int) -> str:
    """The picture in words."""
    groups = "; ".join(
        f"{name} group: {listed(group)}" for name, group in shape.groups(worker).items()
    )
    sent = ", ".join(f"{name} {amount(size)}" for name, size in shape.sent.items())
    return (
        f"{shape.workers} workers, data {shape.data} × ranks {shape.ranks} × tensor "
        f"{shape.tensor}. Chosen is {who(shape, worker)}; {groups}. The busiest worker sends in a "
        f"batch: {sent}."
    )


def _mesh(shape: Shape, chosen: int) -> tuple[str, float]:
    """The workers as a grid, and where it ends."""
    columns, rows, gap = shape.ranks * shape.tensor, shape.data, _gap(shape)
    wide = min(64.0, (GRID - LEFT) / columns - gap)
    high = min(38.0, 330.0 / rows - gap)
    marks = {
        worker: name
        for name, group in reversed(shape.groups(chosen).items())
        for worker in group
        if worker != chosen
    }

    def corner(worker: int) -> tuple[float, float]:
        row, column = divmod(worker, columns)
        return LEFT + column * (wide + gap), TOP + row * (high + gap)

    sizes = f"data {shape.data} × ranks {shape.ranks} × tensor {shape.tensor}"
    title = f"{shape.workers} workers: {sizes}"
    parts = [label(0, 14, title, "start", bold=True)]
    for rank in range(shape.ranks):
        x = LEFT + (rank + 0.5) * shape.tensor * (wide + gap) - gap / 2
        named = shape.tensor * (wide + gap) > 44
        parts.append(
            label(x, TOP - 12, f"rank {rank}" if named else str(rank), "middle", faint=True)
        )
        if not named and not rank:
            parts.append(label(LEFT - 14, TOP - 12, "rank", "end", faint=True))
    for row in range(rows):
        y = TOP + row * (high + gap) + high / 2 + 4
        parts.append(label(LEFT - 10, y, f"copy {row}", "end", faint=True))
    for worker in range(shape.workers):
        parts += _outline(shape, worker, corner(worker), (wide, high))
    for worker in range(shape.workers):
        mark = "chosen" if worker == chosen else marks.get(worker, "")
        parts.append(_cell(shape, worker, mark, corner(worker), (wide, high)))
    low = TOP + rows * (high + gap) + 16
    size = f"{shape.node} worker" + ("s" if shape.node > 1 else "")
    parts.append(label(0, low, f"outlined: a node of {size}; choose a worker", "start", faint=True))
    return "".join(parts), low + 20


def _gap(shape: Shape) -> int:
    """Between workers, in pixels."""
    return 8 if max(shape.data, shape.ranks * shape.tensor) <= 8 else 4


def _cell(
    shape: Shape,
    worker: int,
    mark: str,
    place: tuple[float, float],
    size: tuple[float, float],
) -> str:
    """One worker, in the colour of the group that it shares with the chosen one."""
    (x, y), (wide, high) = place, size
    colour = CHOSEN if mark == "chosen" else COLOURS.get(mark, "none")
    text = ink(colour) if mark else "currentColor"
    word = mark if wide > 50 else mark[:1].upper() if mark in DIMENSIONS else ""
    told = who(shape, worker) + (f"; {mark} group" if mark in DIMENSIONS else "")
    middle, two = x + wide / 2, bool(word) and high > 26
    here = f'text-anchor="middle" fill="{text}" font-family="system-ui, sans-serif"'
    number = f"{worker} {word}" if word and not two and wide > 50 else str(worker)
    large = 13 if min(wide, high) > 20 else 11
    under = f'<text x="{middle:.1f}" y="{y + high - 7:.1f}" {here} font-size="11">{word}</text>'
    chosen = mark == "chosen"
    return (
        f'<g data-worker="{worker}" role="button" tabindex="{0 if chosen else -1}" '
        f'aria-pressed="{"true" if chosen else "false"}" aria-label="{told}" '
        f'data-lm-suppress-shortcuts="true"><title>{told}</title>'
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{high:.1f}" rx="4" '
        f'fill="{colour}" pointer-events="all" stroke="currentColor" stroke-opacity="0.35"/>'
        f'<text x="{middle:.1f}" y="{y + high / 2 + (-3 if two else 4):.1f}" {here} '
        f'font-size="{large}" font-weight="600">{number}</text>{under if two else ""}</g>'
    )


def _outline(
    shape: Shape, worker: int, place: tuple[float, float], size: tuple[float, float]
) -> Iterator[str]:
    """The sides of a worker at which its node ends."""
    columns = shape.ranks * shape.tensor
    row, column = divmod(worker, columns)

    def alike(down: int, right: int) -> bool:
        y, x = row + down, column + right
        inside = 0 <= y < shape.data and 0 <= x < columns
        return inside and (y * columns + x) // shape.node == worker // shape.node

    yield from outline(alike, place, size, _gap(shape))


def outline(
    alike: Callable[[int, int], bool],
    place: tuple[float, float],
    size: tuple[float, float],
    gap: int,
) -> Iterator[str]:
    """The sides of a cell of a grid at which its node ends.

    alike: whether the cell so many rows down and columns to the right is on the same node. gap: of
    the grid, in pixels.
    """
    (x, y), (wide, high), half, far = place, size, gap / 2, gap / 2 - 1
    left = x - (half if alike(0, -1) else far)
    right = x + wide + (half if alike(0, 1) else far)
    top = y - (half if alike(-1, 0) else far)
    low = y + high + (half if alike(1, 0) else far)
    for side, line in (
        (alike(-1, 0), f"M{left:.1f} {y - far:.1f}H{right:.1f}"),
        (alike(1, 0), f"M{left:.1f} {y + high + far:.1f}H{right:.1f}"),
        (alike(0, -1), f"M{x - far:.1f} {top:.1f}V{low:.1f}"),
        (alike(0, 1), f"M{x + wide + far:.1f} {top:.1f}V{low:.1f}"),
    ):
        if not side:
            yield f'<path d="{line}" stroke="currentColor" stroke-width="1.6" fill="none"/>'


def _sent(shape: Shape) -> Iterator[str]:
    """Bytes by dimension."""
    yield label(ASIDE, 14, "The busiest worker sends in a batch", "start", bold=True)
    most = max(*shape.sent.values(), 1.0)
    alone = {"data": "one copy", "pipeline": "one rank", "tensor": "whole layers"}
    for i, name in enumerate(DIMENSIONS):
        y, size = 26 + 24 * i, shape.sent[name]
        yield f'<rect x="{ASIDE}" y="{y + 2}" width="12" height="12" fill="{COLOURS[name]}"/>'
        yield label(ASIDE + 18, y + 13, name, "start")
        if not size:
            yield label(BARS, y + 13, f"nothing: {alone[name]}", "start", faint=True)
            continue
        wide = max(1.0, (BARS_END - BARS) * size / most)
        yield (
            f'<rect x="{BARS}" y="{y}" width="{wide:.1f}" height="{BAR}" fill="{COLOURS[name]}"/>'
        )
        where = "between nodes" if shape.crosses[name] else "inside a node"
        yield label(BARS + wide + 8, y + 13, f"{amount(size)} {where}", "start")


def _held(shape: Shape, mine: str) -> Iterator[str]:
    """Bytes of the fullest worker at each stage of ZeRO, against the device."""
    gpu = shape.machine.memory * GB
    stages = list(shape.stages_of_zero())
    most = max(gpu, *(one.held["total"] for one in stages)) * 1.02
    scale = (BARS_END + 60 - BARS) / most
    title = "The fullest worker holds" + (", by stage of ZeRO" if len(stages) > 1 else "")
    yield label(ASIDE, 124, title, "start", bold=True)
    for i, one in enumerate(stages):
        y, x, here = 148 + 22 * i, float(BARS), one.zero == shape.zero
        name = f"ZeRO {one.zero}" if len(stages) > 1 else "one copy"
        yield label(ASIDE, y + 13, f"▸ {name}" if here else name, "start", bold=here)
        for part in PARTS:
            wide = one.held[part] * scale
            if wide > 0:
                told = f"{name}: {part} {amount(one.held[part])}"
                yield from filled((x, y), (wide, BAR), part, mine, told)
                x += wide
        yield label(WIDTH - 4, y + 13, amount(one.held["total"]), "end", bold=here)
    x, low = BARS + gpu * scale, 148 + 22 * len(stages)
    yield (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="142" y2="{low}" stroke="{FULL}" stroke-width="2" '
        'stroke-dasharray="6 3"/>'
        f'<text x="{x:.1f}" y="139" font-size="11" text-anchor="end" fill="{FULL}" '
        f'font-family="system-ui, sans-serif">device: {amount(gpu)}</text>'
    )
    x = float(ASIDE)
    for part in PARTS:
        yield from filled((x, low + 10), (12, 12), part, mine, part)
        yield label(x + 17, low + 20, part, "start", faint=True)
        x += 30 + 6.6 * len(part)
