"""The cuts as a still picture: layers in a row with their times, and what each rank takes."""

from html import escape

import numpy as np

from ..layout import Partition
from ..layout.chain import bounds
from ..plots.palette import LOOKS
from ..schedule import Kind

WIDTH, LEFT, UP, ROW = 900, 70, 80, 24
PARTS = {"forward": Kind.F, "input_grad": Kind.I, "weight_grad": Kind.W}
_TEXT = 'fill="#767676" font-family="sans-serif" font-size="12"'
_CUT = "#33597f"


def cuts_svg(names: list[str], seconds: dict[str, list[float]], found: Partition) -> str:
    """Draw it, with attributes alone: GitHub drops style sheets.

    Args:
        names: of the layers.
        seconds: of each layer by part: forward, input_grad, weight_grad.
        found: the cuts.
    """
    layers = len(names)
    wide = (WIDTH - LEFT - 10) / layers
    most = max(sum(each) for each in zip(*seconds.values(), strict=True)) or 1.0
    parts = [f'<text x="0" y="{24 + UP}" {_TEXT}>layers</text>']
    for i, name in enumerate(names):
        x, y = LEFT + i * wide, 24.0 + UP
        for part, kind in PARTS.items():
            high = UP * seconds[part][i] / most
            y -= high
            parts.append(_box(x + 0.14 * wide, y, 0.72 * wide, high, LOOKS[kind].colour))
        label = name.split(" ")[0]
        parts.append(_said(x + wide / 2, 24 + UP + 15, label, "middle"))
    start, stop = bounds(found.sizes)
    homes = {stage: rank for (_, stage), rank in found.schedule.placement.items()}
    for stage, (low, high) in enumerate(zip(start.tolist(), stop.tolist(), strict=True)):
        middle = LEFT + wide * (low + high) / 2
        told = f"rank {homes[stage]}: {1000 * found.stage_seconds[stage]:.3g} ms"
        parts.append(_said(middle, 14, told, "middle"))
        if high < layers:
            x = LEFT + wide * high
            parts.append(_box(x - 1.5, 4, 3, 24 + UP + 14, _CUT))
    top = 24 + UP + 30
    longest = max(*found.rank_seconds, found.slowest) or 1.0
    columns = {part: found.per_rank(_list(found, part)) for part in PARTS}
    for rank, took in enumerate(found.rank_seconds):
        x, y = float(LEFT), top + rank * ROW
        parts.append(f'<text x="0" y="{y + 13}" {_TEXT}>rank {rank}</text>')
        for part, kind in PARTS.items():
            size = (WIDTH - LEFT - 90) * columns[part][rank] / longest
            parts.append(_box(x, y, size, 16, LOOKS[kind].colour))
            x += size
        parts.append(_said(x + 6, y + 13, f"{1000 * took:.3g} ms", "start"))
    height = top + ROW * found.schedule.ranks + 6
    title = escape(f"cuts after layers {', '.join(map(str, stop[:-1].tolist()))}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img"><title>{title}</title>{"".join(parts)}</svg>'
    )


def _list(found: Partition, part: str) -> list[float]:
    """A cost of every stage."""
    values = np.broadcast_to(np.asarray(getattr(found.costs, part), float), len(found.sizes))
    return [float(value) for value in values]


def _box(x: float, y: float, wide: float, high: float, colour: str) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{high:.1f}"'
    return f'<rect {place} fill="{colour}"/>'


def _said(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {_TEXT}>{escape(text)}</text>'
