"""A Timeline as a static SVG, for viewers without a kernel.

Only presentation attributes, no <style>: GitHub and nbviewer drop style sheets, which would leave
black boxes.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from html import escape

import numpy as np

from ..schedule.kinds import KINDS, Kind
from ..timeline import Timeline
from .palette import LOOKS, PLAIN, ink, shade
from .view import caption, numbers

LEFT, RIGHT, BAR, STRIP, ROW, TOP, AXIS, LINE = 64, 84, 20, 12, 44, 8, 20, 18
LETTER, KEY = 7, 26
"""Pixels of a letter below the picture in a wide font, and of a key's square with its gaps."""
TICKS, TICK = 8, 48
"""At most so many intervals on the axis, none narrower in pixels."""
NUMBERS = ("makespan", "bubble_fraction", "bubble_overhead", "bubble_rate")
"""Those of ``view.numbers`` that stand below."""
SHADES = 8
"""Micro-batches share this many shades: one path each keeps a picture of 4 × 16 under 10 KB."""
GREY = "#767676"
"""Readable on white and on black: an SVG in a notebook has no theme."""
FRAME = "#d6006c"
"""Of an action that is pointed at: no kind has it."""


def svg(
    timeline: Timeline, width: int = 900, *, framed: int | None = None, bare: bool = False
) -> str:
    """The timeline with each rank's memory and its peak, a time axis, and the bubble numbers.

    ``width`` is in pixels; ``framed`` is the atom that gets a frame; ``bare`` leaves the actions
    alone, where times and memory mean nothing.
    """
    schedule = timeline.schedule
    scale = (width - LEFT - RIGHT) / (timeline.makespan or 1)
    below = TOP + ROW * schedule.ranks + AXIS
    keys = _keys(timeline, bare=bare)
    legend = _lines(keys, width, KEY)
    words = [] if bare else _lines(_words(timeline), width, 2 * LETTER)
    height = below + LINE * (len(legend) + len(words)) + 6
    start = LEFT + (timeline.started - timeline.started.min()) * scale
    end = LEFT + (timeline.ended - timeline.started.min()) * scale
    rows = (
        *_names(schedule.ranks, width),
        *_bars(timeline, start, end),
        *([] if bare else _about_it(timeline, scale, width, start, end)),
        *([] if framed is None else [_frame(timeline, framed, start, end)]),
        *_legend(keys, legend, below),
        *(_text(", ".join(line), LEFT, y) for y, line in _down(words, below + LINE * len(legend))),
    )
    title = escape(f"{caption(timeline)}, {timeline.source}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="12" role="img"><title>{title}</title>'
        + "".join(rows)
        + "</svg>"
    )


def _about_it(
    timeline: Timeline, scale: float, width: int, start: np.ndarray, end: np.ndarray
) -> Iterator[str]:
    """What is said of the bars: memory and time."""
    yield from _memory(timeline, start, end)
    yield from _peaks(timeline, width)
    yield from _axis(timeline, scale)


def _unit(timeline: Timeline) -> tuple[float, str]:
    """What times are multiplied by, and what is written behind them."""
    return (1000.0, " ms") if timeline.unit == "s" else (1.0, "")


def _names(ranks: int, width: int) -> Iterator[str]:
    """The name of each rank, and the grey of its lane."""
    for rank in range(ranks):
        y = TOP + rank * ROW
        yield f'<text x="0" y="{y + 15}" fill="{GREY}">rank {rank}</text>'
        size = f'width="{width - LEFT - RIGHT}" height="{BAR}"'
        yield f'<rect x="{LEFT}" y="{y}" {size} fill="{GREY}" fill-opacity="0.12"/>'


def _bars(timeline: Timeline, start: np.ndarray, end: np.ndarray) -> Iterator[str]:
    """One path per kind and shade, then labels: on all actions of a kind and rank, or on none."""
    last = max(1, int(timeline.microbatch.max(initial=0)))
    paths: dict[tuple[Kind, float], list[str]] = defaultdict(list)
    narrowest: dict[tuple[int, int], float] = defaultdict(lambda: math.inf)
    columns = (timeline.rank, timeline.kind, timeline.microbatch, start, end)
    bars = list(zip(*(c.tolist() for c in columns), strict=True))
    for rank, number, _, x, x2 in bars:
        narrowest[rank, number] = min(narrowest[rank, number], x2 - x)
    labels = []
    for rank, number, microbatch, x, x2 in bars:
        y, kind = TOP + rank * ROW, Kind(number)
        level, label, letters = PLAIN, LOOKS[kind].letter, 1
        if KINDS[kind].numbered:
            level = round(microbatch / last * (SHADES - 1)) / (SHADES - 1)
            label, letters = str(microbatch), len(str(last))
        paths[kind, level].append(f"M{x:.1f} {y}H{x2:.1f}v{BAR}H{x:.1f}z")
        if narrowest[rank, number] > 8 * letters + 2:
            colour = ink(shade(LOOKS[kind].colour, level))
            middle = f"{(x + x2) / 2:.1f}"
            labels.append(f'<text x="{middle}" y="{y + 14}" fill="{colour}">{label}</text>')
    for (kind, level), path in sorted(paths.items()):
        colour = shade(LOOKS[kind].colour, level)
        edge = 'stroke="#000000" stroke-opacity="0.35" stroke-width="0.7"'
        yield f'<path fill="{colour}" {edge} d="{"".join(path)}"/>'
    yield f'<g text-anchor="middle" font-size="11">{"".join(labels)}</g>'


def _memory(timeline: Timeline, start: np.ndarray, end: np.ndarray) -> Iterator[str]:
    """The memory of each rank, under its bars."""
    peak = float(timeline.bytes_held.max()) or 1.0
    for rank in range(timeline.schedule.ranks):
        mine = timeline.rank == rank
        base = TOP + rank * ROW + BAR + 2 + STRIP
        levels = np.stack([timeline.bytes_held[mine], timeline.bytes_after[mine]], axis=1).ravel()
        times = np.stack([start[mine], end[mine]], axis=1).ravel()
        steps = "".join(
            f"H{x:.1f}V{base - STRIP * y / peak:.1f}" for x, y in zip(times, levels, strict=True)
        )
        yield f'<path fill="{GREY}" fill-opacity="0.45" d="M{LEFT} {base}{steps}V{base}z"/>'


def _peaks(timeline: Timeline, width: int) -> Iterator[str]:
    """The most that each rank holds, beside its memory."""
    for rank in range(timeline.schedule.ranks):
        most = float(timeline.bytes_held[timeline.rank == rank].max(initial=0.0))
        y = TOP + rank * ROW + BAR + STRIP
        text = f"peak {_amount(most, timeline.memory_unit)}"
        yield f'<text x="{width - RIGHT + 6}" y="{y}" fill="{GREY}" font-size="11">{text}</text>'


def _amount(value: float, unit: str) -> str:
    """An amount of memory, short."""
    if unit != "bytes":
        return f"{value:.4g}"
    units = ["B", "KiB", "MiB", "GiB"]
    while value >= 1024 and len(units) > 1:
        value, units = value / 1024, units[1:]
    return f"{value:.4g} {units[0]}"


def _axis(timeline: Timeline, scale: float) -> Iterator[str]:
    """Round moments under the last rank."""
    factor, unit = _unit(timeline)
    end = timeline.makespan * factor
    rough = end / max(1, min(TICKS, timeline.makespan * scale / TICK)) or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(k for k in (1, 2, 5, 10) if k * power >= rough * (1 - 1e-9))
    y = TOP + ROW * timeline.schedule.ranks + 8
    yield f'<g text-anchor="middle" font-size="11" fill="{GREY}">'
    for i in range(math.floor(end / step + 1e-9) + 1):
        x = LEFT + i * step / factor * scale
        yield f'<text x="{x:.1f}" y="{y}">{i * step:.6g}{unit}</text>'
    yield "</g>"


def _frame(timeline: Timeline, atom: int, start: np.ndarray, end: np.ndarray) -> str:
    """A frame around one action, to be seen on any colour."""
    y, x, x2 = TOP + int(timeline.rank[atom]) * ROW, start[atom], end[atom]
    path = f"M{x - 2:.1f} {y - 2}H{x2 + 2:.1f}v{BAR + 4}H{x - 2:.1f}z"
    return "".join(
        f'<path fill="none" stroke="{colour}" stroke-width="{width}" d="{path}"/>'
        for colour, width in (("#ffffff", 5), (FRAME, 3))
    )


def _keys(timeline: Timeline, *, bare: bool) -> dict[str, str]:
    """What the colours of the kinds that are there mean: the words with the colour."""
    looks = [LOOKS[kind] for kind in sorted(timeline.schedule.kinds)]
    keys = {f"{look.letter} {look.title}": look.colour for look in looks}
    return keys if bare else {**keys, "grey: memory of the rank": ""}


def _words(timeline: Timeline) -> Iterator[str]:
    """The numbers, in words."""
    factor, unit = _unit(timeline)
    for number in numbers(timeline.metrics, factor):
        if number["key"] in NUMBERS:
            value = number["value"]
            said = f"{value:.4g}{unit}" if number["form"] == "time" else f"{value:.1%}"
            yield f"{number['label']} {said}"


def _lines(texts: Iterable[str], width: int, more: int) -> list[list[str]]:
    """The texts in lines that end within the picture, each ``more`` wider than its letters."""
    lines: list[list[str]] = [[]]
    x = LEFT
    for text in texts:
        wide = LETTER * len(text) + more
        if lines[-1] and x + wide > width:
            lines.append([])
            x = LEFT
        lines[-1].append(text)
        x += wide
    return lines


def _down(lines: list[list[str]], y: int) -> Iterator[tuple[int, list[str]]]:
    """The lines, each with where its letters stand, from ``y`` down."""
    for row, line in enumerate(lines, start=1):
        yield y + LINE * row, line


def _legend(keys: dict[str, str], lines: list[list[str]], y: int) -> Iterator[str]:
    """The keys with their colours."""
    for bottom, line in _down(lines, y):
        x = LEFT
        for text in line:
            if keys[text]:
                box = f'y="{bottom - 10}" width="12" height="12" fill="{keys[text]}"'
                yield f'<rect x="{x}" {box}/>'
            yield _text(text, x + (17 if keys[text] else 0), bottom)
            x += KEY + LETTER * len(text)


def _text(text: str, x: int, y: int) -> str:
    return f'<text x="{x}" y="{y}" fill="{GREY}">{text}</text>'
