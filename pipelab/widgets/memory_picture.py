"""A column for each rank, in parts, against the size of a GPU: as SVG with attributes alone."""

import math
from collections.abc import Callable, Iterator, Sequence
from html import escape
from itertools import count

from ..layout.planner.footprint import FITS
from .rank_memory import PARTS, Choice, amount

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 860, 330, 74, 22, 40
RIGHT, ASIDE = 548, 690
"""Where the columns end, and where the parts of the fullest rank begin; names of lines between."""
LOOKS = {
    "weights": ("#596673", ""),
    "gradients": ("#8d99a6", "dots"),
    "optimizer": ("#b9c2cb", "lines"),
    "activations": ("#7b5ea7", ""),
    "logits": ("#b79bd6", "dots"),
}
"""Greys for what is there all the time, violet for what micro-batches leave; no kind of action has
these hues. Each with a pattern."""
FULL = "#cc3311"
_TEXT = 'fill="currentColor" font-family="system-ui, sans-serif"'
_numbers = count()


def memory_svg(choice: Choice, before: Sequence[float] = ()) -> str:
    """Draw it. before: totals of the ranks before the last change, shown as dashes."""
    held = choice.bytes
    most = max(choice.total, choice.gpu, *before, 1.0) * 1.04
    unit = next(u for u in (1e12, 1e9, 1e6, 1e3, 1.0) if most / u >= 2 or u == 1.0)
    low = HEIGHT - BOTTOM

    def up(value: float) -> float:
        return low - (low - TOP) * value / most

    mine = f"pl-memory-{next(_numbers)}"
    parts = [patterns(mine), *_axis(most, unit, up)]
    room = (RIGHT - LEFT) / len(held)
    wide = min(64.0, 0.76 * room)
    for rank, one in enumerate(held):
        x, level = LEFT + (rank + 0.5) * room - wide / 2, 0.0
        for part in PARTS:
            if one[part] <= 0:
                continue
            y, high = up(level + one[part]), up(level) - up(level + one[part])
            told = f"rank {rank}: {part} {amount(one[part])}"
            parts += filled((x, y), (wide, high), part, mine, told)
            level += one[part]
        if rank < len(before):
            parts.append(
                f'<line x1="{x - 3:.1f}" x2="{x + wide + 3:.1f}" y1="{up(before[rank]):.1f}" '
                f'y2="{up(before[rank]):.1f}" stroke="currentColor" stroke-width="2" '
                'stroke-dasharray="4 3"/>'
            )
        if rank % math.ceil(len(held) / 16) == 0:
            parts.append(label(LEFT + (rank + 0.5) * room, low + 16, str(rank), "middle"))
    parts.append(label((LEFT + RIGHT) / 2, HEIGHT - 6, "rank", "middle", faint=True))
    parts += _limit(choice, up)
    parts += _fullest(choice, mine)
    ranks = "; ".join(f"rank {rank} {amount(one['total'])}" for rank, one in enumerate(held))
    said = escape(f"Bytes that each rank holds: {ranks}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" role="img" aria-label="{said}">'
        f"{''.join(parts)}</svg>"
    )


def _axis(most: float, unit: float, up: Callable[[float], float]) -> Iterator[str]:
    """Round amounts, and lines across."""
    rough = most / unit / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(k for k in (1, 2, 5, 10) if k * power >= rough * (1 - 1e-9)) * unit
    for i in range(math.floor(most / step + 1e-9) + 1):
        y = up(i * step)
        opacity = 0.6 if i == 0 else 0.18
        yield (
            f'<line x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="currentColor" '
            f'stroke-opacity="{opacity}"/>'
        )
        yield label(LEFT - 8, y + 4, amount(i * step) if i else "0", "end", faint=True)


def _limit(choice: Choice, up: Callable[[float], float]) -> Iterator[str]:
    """The size of the GPU, and of a real one the share that is usually there."""
    gpu = choice.gpu
    if not gpu:
        return
    lines = [(gpu, FULL, 2.5, f"GPU: {amount(gpu)}")]
    if not choice.profile:
        lines.append((FITS * gpu, "#b8860b", 1.5, f"{FITS:.0%} of it"))
    for value, colour, wide, text in lines:
        y = up(value)
        yield (
            f'<line x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{colour}" '
            f'stroke-width="{wide}" stroke-dasharray="9 4"/>'
        )
        if colour != FULL and abs(y - up(gpu)) < 14:
            continue  # the names would lie on one another
        yield (
            f'<text x="{RIGHT + 8}" y="{y + 4:.1f}" font-size="12" fill="{colour}" '
            f'font-family="system-ui, sans-serif" font-weight="600">{escape(text)}</text>'
        )


def _fullest(choice: Choice, mine: str) -> Iterator[str]:
    """The parts of the fullest rank with their bytes, beneath one another: also the legend."""
    rank, x = choice.fullest, ASIDE
    one = choice.bytes[rank]
    shown = [part for part in reversed(PARTS) if any(each[part] > 0 for each in choice.bytes)]
    y = HEIGHT - BOTTOM - 22.0 * len(shown) - 8
    yield label(x, y - 6, f"rank {rank}: {amount(one['total'])}", "start", bold=True)
    for part in shown:
        yield from filled((x, y + 2), (18, 14), part, mine, part)
        yield label(x + 26, y + 14, part, "start")
        yield label(WIDTH - 8, y + 14, amount(one[part]) if one[part] else "–", "end")
        y += 22


def filled(
    place: tuple[float, float], size: tuple[float, float], part: str, mine: str, title: str
) -> Iterator[str]:
    """A box in the look of a part."""
    colour, pattern = LOOKS[part]
    (x, y), (wide, high) = place, size
    box = f'x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{max(high, 0.5):.1f}"'
    told = f"<title>{escape(title)}</title>"
    yield f'<rect {box} fill="{colour}">{told}</rect>'
    if pattern:
        yield f'<rect {box} fill="url(#{mine}-{pattern})">{told}</rect>'


def patterns(mine: str) -> str:
    """Dots and lines for ``filled``, under names that begin with ``mine``."""
    tile = 'width="6" height="6" patternUnits="userSpaceOnUse"'
    return (
        f'<defs><pattern id="{mine}-dots" {tile}><rect x="2" y="2" width="2" height="2" '
        f'fill="#000000" fill-opacity="0.45"/></pattern><pattern id="{mine}-lines" {tile}>'
        '<path d="M0,6 L6,0" stroke="#000000" stroke-opacity="0.35"/></pattern></defs>'
    )


def label(
    x: float, y: float, text: str, anchor: str, *, faint: bool = False, bold: bool = False
) -> str:
    """A line of text, in the colour of the page."""
    more = ' fill-opacity="0.75"' if faint else ""
    more += ' font-weight="600"' if bold else ""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="12"'
    return f"<text {place} {_TEXT}{more}>{escape(text)}</text>"
