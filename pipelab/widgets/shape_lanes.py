"""The timeline of one pipeline of a mesh, with what its workers do together in their lanes."""

import math
from collections.abc import Iterator
from html import escape

from ..plots.palette import LOOKS, PLAIN, ink, shade
from ..schedule.kinds import KINDS, Kind
from ..timeline import Timeline
from .memory_picture import label
from .shape import Shape, inside_layers
from .shape_words import short, spent

LEFT, TOP, ROW, BAR = 140, 26, 28, 22
TICKS = 8
TOLD = 400
"""Bars: of more of them none has a text of its own, which would make the picture large."""


def lanes(shape: Shape, worker: int, width: int, mine: str) -> tuple[str, float]:
    """The pipeline of this worker as parts of an SVG, and their height.

    mine: what the names of the picture's patterns begin with.
    """
    timeline, total = shape.pipeline(worker), shape.time["total"]
    scale = (width - LEFT - 10) / total
    place = shape.place(worker)
    title = f"The pipeline of worker {worker}: copy {place.data}, part {place.tensor}"
    low = TOP + ROW * shape.ranks
    parts = [
        f'<g role="img" aria-label="{escape(_told(timeline, title))}">',
        label(0, 12, title, "start", bold=True),
        label(width - 10, 12, spent(shape), "end", faint=True),
        *_names(shape, worker, width),
        *_bars(shape, timeline, scale, mine),
        *_axis(total, scale, low),
        *_legend(shape, timeline, low + 26, mine),
        "</g>",
    ]
    return "".join(parts), low + 50


def _told(timeline: Timeline, title: str) -> str:
    titles = ", ".join(LOOKS[kind].title for kind in sorted(timeline.schedule.kinds))
    return f"{title}. It ends at {short(float(timeline.ended.max()))}. In its lanes: {titles}."


def _names(shape: Shape, worker: int, width: int) -> Iterator[str]:
    """The rank and the worker of each lane."""
    for rank, who in enumerate(shape.groups(worker)["pipeline"]):
        y = TOP + ROW * rank
        yield label(0, y + 15, f"rank {rank} · worker {who}", "start", bold=who == worker)
        yield (
            f'<rect x="{LEFT}" y="{y}" width="{width - LEFT - 10}" height="{BAR}" '
            'fill="currentColor" fill-opacity="0.08"/>'
        )


def _bars(shape: Shape, timeline: Timeline, scale: float, mine: str) -> Iterator[str]:
    """Every action that takes time; the part of it in which layers are summed is hatched."""
    last = max(1, shape.microbatches - 1)
    columns = (timeline.rank, timeline.kind, timeline.microbatch, timeline.stage)
    times = (timeline.started, timeline.ended, inside_layers(timeline))
    atoms = list(zip(*(c.tolist() for c in (*columns, *times)), strict=True))
    widths: dict[int, float] = {}
    for _, kind, _, _, start, end, inside in atoms:
        if end > start:
            widths[kind] = min(widths.get(kind, math.inf), (end - start - inside) * scale)
    digits = 7.0 * len(str(last)) + 4
    for rank, number, microbatch, stage, start, end, inside in atoms:
        kind, x, wide = Kind(number), LEFT + start * scale, (end - start) * scale
        if wide <= 0:
            continue
        numbered = bool(KINDS[kind].numbered)
        colour = shade(LOOKS[kind].colour, microbatch / last if numbered else PLAIN)
        y = TOP + ROW * rank
        box = f'x="{x:.1f}" y="{y}" width="{wide:.2f}" height="{BAR}"'
        said = ""
        if len(atoms) <= TOLD:
            which = f" of micro-batch {microbatch}" if numbered else ""
            words = f"{LOOKS[kind].title}{which}, stage {stage}: {short(start)} to {short(end)}"
            said = f"<title>{escape(words)}</title>"
        edge = 'stroke="#000000" stroke-opacity="0.4" stroke-width="0.6"'
        yield f'<rect {box} fill="{colour}" {edge}>{said}</rect>'
        if stage >= shape.ranks and numbered:  # as in the lab, a light edge for the second
            yield (
                f'<rect x="{x:.1f}" y="{y + BAR - 3}" width="{wide:.2f}" height="3" '
                'fill="#ffffff" pointer-events="none"/>'
            )
        shared = inside * scale
        if shared > 0:
            yield (
                f'<rect x="{x + wide - shared:.1f}" y="{y}" width="{shared:.2f}" height="{BAR}" '
                f'fill="url(#{mine}-shared)" pointer-events="none"/>'
            )
        if widths[number] > (digits if numbered else 11):
            text = str(microbatch) if numbered else LOOKS[kind].letter
            yield (
                f'<text x="{x + (wide - shared) / 2:.1f}" y="{y + 15}" text-anchor="middle" '
                f'font-size="11" font-family="system-ui, sans-serif" fill="{ink(colour)}" '
                f'pointer-events="none">{text}</text>'
            )


def _axis(total: float, scale: float, low: float) -> Iterator[str]:
    """Round moments, of which 100 would be one device's batch."""
    rough = total / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(k for k in (1, 2, 5, 10) if k * power >= rough * (1 - 1e-9))
    for i in range(math.floor(total / step + 1e-9) + 1):
        yield label(LEFT + i * step * scale, low + 10, f"{i * step:g}", "middle", faint=True)
    yield label(0, low + 10, "time", "start", faint=True)


def _legend(shape: Shape, timeline: Timeline, y: float, mine: str) -> Iterator[str]:
    """What the colours mean, and the hatching."""
    tile = 'width="5" height="5" patternUnits="userSpaceOnUse"'
    yield (
        f'<defs><pattern id="{mine}-shared" {tile}><rect width="5" height="5" fill="#ffffff" '
        'fill-opacity="0.45"/><path d="M-1,1 L1,-1 M0,5 L5,0 M4,6 L6,4" stroke="#000000" '
        'stroke-width="1.1" stroke-opacity="0.8"/></pattern></defs>'
    )
    x = 0.0
    for kind in sorted(timeline.schedule.kinds):
        look = LOOKS[kind]
        if not timeline.compute[timeline.kind == kind].any():
            continue  # takes no time and is not seen
        yield (
            f'<rect x="{x:.0f}" y="{y}" width="12" height="12" fill="{look.colour}" '
            'stroke="currentColor" stroke-opacity="0.4"/>'
        )
        yield label(x + 17, y + 10, f"{look.letter} {look.title}", "start", faint=True)
        x += 44 + 6.6 * len(look.title)
    if inside_layers(timeline).any():
        yield (
            f'<rect x="{x:.0f}" y="{y}" width="12" height="12" fill="url(#{mine}-shared)" '
            'stroke="currentColor" stroke-opacity="0.4"/>'
        )
        yield label(x + 17, y + 10, "all-reduces in layers", "start", faint=True)
        x += 160
    if shape.stages > shape.ranks:
        yield (
            f'<rect x="{x:.0f}" y="{y}" width="14" height="12" fill="{LOOKS[Kind.F].colour}"/>'
            f'<rect x="{x:.0f}" y="{y + 9}" width="14" height="3" fill="#ffffff"/>'
        )
        yield label(x + 19, y + 10, "second stage of the rank", "start", faint=True)
