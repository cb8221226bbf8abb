"""The best rows of a plan as an SVG: a layout, seconds by part, bytes by part against the GPU.

    #  t p d v b m  schedule  recompute  ZeRO  seconds [==  bars  ==]  GB [== bars ==|]

Attributes alone: viewers of notebooks drop style sheets.
"""

from collections.abc import Iterator
from html import escape
from itertools import count

from ..layout.planner import Plan
from ..plots.palette import LOOKS
from ..schedule import Kind
from .memory_picture import FULL, filled, label, patterns
from .planner_words import LETTERS, seconds, told
from .rank_memory import GB, PARTS, amount
from .shape_picture import CHOSEN, COLOURS

WIDTH, ROW, BAND, BAR, TOP = 860, 22, 20, 14, 40
TIME, TIME_END, HELD, HELD_END = 452, 640, 708, 852
"""Where the bars begin and end."""
COUNTS = {
    "t": ("tensor", 54),
    "p": ("pipeline", 84),
    "d": ("data", 120),
    "v": ("stages_per_rank", 142),
    "b": ("microbatch", 164),
    "m": ("microbatches", 204),
}
"""Columns of counts: the heading, the name, and where they end."""
TEXTS = {"schedule": 214, "recompute": 290}
ZERO_END = 408
SECONDS = {
    "compute": LOOKS[Kind.F].colour,
    "recompute": "#88ccee",
    "tensor": COLOURS["tensor"],
    "pipeline": COLOURS["pipeline"],
    "bubble": "",
    "data": COLOURS["data"],
    "optimizer": "#999999",
}
"""The colour of each part of a step; the bubble is hatched."""
_numbers = count()


def table_svg(found: Plan, chosen: int, top: int, said: str) -> str:
    """Draw the first ``top`` rows, and the chosen one if it comes later. said: of all of them."""
    mine = f"pl-planner-{next(_numbers)}"
    shown = [*range(min(top, len(found.rows)))]
    if chosen >= top:
        shown.append(chosen)
    parts, low, band = list(_head()), float(TOP), 0
    longest = max(found.rows[number].estimate.seconds for number in shown)
    for number in shown:
        row = found.rows[number]
        if row.band != band:
            band = row.band
            parts += _band(found, band, low)
            low += BAND
        elif number == chosen >= top:
            parts.append(label(24, low + 8, "⋮", "end", faint=True))
            low += 12
        parts += _row(found, number, low, chosen=number == chosen, longest=longest, mine=mine)
        low += ROW
    x = HELD + (HELD_END - HELD) / 1.02
    parts.append(
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 2}" y2="{low}" stroke="{FULL}" '
        'stroke-width="2" stroke-dasharray="6 3"/>'
    )
    parts += _legend(found, low + 10, mine)
    high = low + 72
    told_of_all = escape(f"The best of {len(found.rows)} layouts. {said}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {high:.0f}" '
        f'width="{WIDTH}" height="{high:.0f}" role="group" aria-label="{told_of_all}">'
        f"{patterns(mine)}{_hatch(mine)}{''.join(parts)}</svg>"
    )


def _head() -> Iterator[str]:
    for letter, (_, x) in COUNTS.items():
        yield label(x, 30, letter, "end", bold=True)
    for name, x in TEXTS.items():
        yield label(x, 30, name, "start", bold=True)
    yield label(ZERO_END + 2, 30, "ZeRO", "end", bold=True)
    yield label(TIME, 30, "seconds of a step, by part", "start", bold=True)
    yield label(HELD - 50, 30, "the fullest GPU", "start", bold=True)


def _band(found: Plan, band: int, low: float) -> Iterator[str]:
    """A line above the rows of a band, with what it is."""
    first = next(row.estimate for row in found.rows if row.band == band)
    timed = found.objective == "time"
    best = seconds(first.seconds) if timed else amount(first.bytes["total"])
    yield (
        f'<line x1="0" x2="{WIDTH}" y1="{low + 2}" y2="{low + 2}" stroke="currentColor" '
        'stroke-opacity="0.35"/>'
    )
    text = f"band {band}: within 10 % of {best}, which cannot be told apart"
    yield label(4, low + 15, text, "start", faint=True)


def _row(
    found: Plan, number: int, low: float, *, chosen: bool, longest: float, mine: str
) -> Iterator[str]:
    row = found.rows[number]
    layout, one = row.layout, row.estimate
    said = escape(told(found, number))
    yield (
        f'<g data-row="{number}" role="button" tabindex="{0 if chosen else -1}" '
        f'aria-pressed="{"true" if chosen else "false"}" aria-label="{said}" '
        'data-lm-suppress-shortcuts="true">'
        f'<rect x="0" y="{low}" width="{WIDTH}" height="{ROW}" rx="3" fill="{CHOSEN}" '
        f'fill-opacity="{0.22 if chosen else 0}" pointer-events="all"/>'
    )
    base = low + 15
    yield label(30, base, f"▸ {number + 1}" if chosen else str(number + 1), "end", bold=chosen)
    for name, end in COUNTS.values():
        yield label(end, base, str(getattr(layout, name)), "end", bold=chosen)
    schedule = layout.schedule.replace("interleaved-1f1b", "interleaved")
    yield label(TEXTS["schedule"], base, schedule if layout.pipeline > 1 else "–", "start")
    yield label(TEXTS["recompute"], base, layout.recompute, "start")
    yield label(ZERO_END - 10, base, str(layout.zero), "end")
    yield label(TIME - 6, base, seconds(one.seconds).removesuffix(" s"), "end", bold=chosen)
    x, y, scale = 1.0 * TIME, low + 4, (TIME_END - TIME) / longest
    for part, colour in SECONDS.items():
        wide = one.seconds_by_part[part] * scale
        if wide > 0:
            yield _bar((x, y), wide, f"{part} {seconds(one.seconds_by_part[part])}", colour, mine)
        x += wide
    yield label(HELD - 6, base, amount(one.bytes["total"]), "end", bold=chosen)
    x, scale = 1.0 * HELD, (HELD_END - HELD) / 1.02 / (found.machine.memory * GB)
    for part in PARTS:
        wide = one.bytes[part] * scale
        if wide > 0:
            said = f"{part} {amount(one.bytes[part])}"
            yield from filled((x, y), (wide, BAR), part, mine, said)
        x += wide
    yield "</g>"


def _bar(place: tuple[float, float], wide: float, said: str, colour: str, mine: str) -> str:
    fill = colour or f"url(#{mine}-idle)"
    return (
        f'<rect x="{place[0]:.1f}" y="{place[1]:.1f}" width="{wide:.2f}" height="{BAR}" '
        f'fill="{fill}"><title>{escape(said)}</title></rect>'
    )


def _hatch(mine: str) -> str:
    """Of the bubble: waiting never looks like work."""
    return (
        f'<defs><pattern id="{mine}-idle" width="5" height="5" patternUnits="userSpaceOnUse">'
        '<rect width="5" height="5" fill="#999999" fill-opacity="0.25"/><path d="M-1,1 L1,-1 '
        'M0,5 L5,0 M4,6 L6,4" stroke="#808080" stroke-width="1.2"/></pattern></defs>'
    )


def _legend(found: Plan, low: float, mine: str) -> Iterator[str]:
    """The colours of both bars, and the letters."""
    x = 0.0
    for part, colour in SECONDS.items():
        yield _bar((x, low), 12, part, colour, mine)
        yield label(x + 17, low + 11, part, "start", faint=True)
        x += 34 + 6.6 * len(part)
    x = 0.0
    for part in PARTS:
        yield from filled((x, low + 20), (12, BAR), part, mine, part)
        yield label(x + 17, low + 31, part, "start", faint=True)
        x += 34 + 6.6 * len(part)
    yield (
        f'<line x1="{x}" x2="{x + 22}" y1="{low + 27}" y2="{low + 27}" stroke="{FULL}" '
        'stroke-width="2" stroke-dasharray="6 3"/>'
    )
    room = f"memory of one {found.machine.name}: {amount(found.machine.memory * GB)}"
    yield label(x + 28, low + 31, room, "start", faint=True)
    yield label(0, low + 52, LETTERS, "start", faint=True)
