"""Small pictures for guesses and measurements, as SVG with attributes alone.

Text and axes have the colour of the text around them, so they are seen on light and dark pages.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from ..plots.palette import LOOKS

WIDTH = 640
MOST_LABELS = 12
COLOURS = {"guess": "#DDAA33", "second": "#999933", "truth": "#4477AA", "machine": "#BB5566"}
OTHERS = ("#4477AA", "#DDAA33", "#BB5566", "#44BB99", "#AA4499", "#999933")
_TEXT = 'fill="currentColor" font-family="system-ui, sans-serif" font-size="13"'
_FAINT = 'stroke="currentColor" stroke-opacity="0.25"'
Row = tuple[str, Any, str]
"""A name, a value, and its look: one of COLOURS, or a colour."""


@dataclass(frozen=True)
class Line:
    """A curve, or points, by x."""

    name: str
    values: Mapping[float, float]
    look: str
    points: bool = False


def short(value: float) -> str:
    """A number to read: three digits, and never 1e+03."""
    if math.isinf(value):
        return "never"
    value = 0.0 if abs(value) < 1e-9 else value
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def rows_of(tries: Sequence[Any], truth: Any, machine: Any) -> list[Row]:
    """Guesses, the law and a machine as rows, in this order; without what is not there."""
    names = ("your guess", "second try")
    found = [(names[i], value, ("guess", "second")[i]) for i, value in enumerate(tries)]
    found.append(("the law", truth, "truth"))
    return found if machine is None else [*found, ("your machine", machine, "machine")]


def bars(rows: Sequence[Row], *, low: float, high: float, unit: str = "") -> str:
    """One bar per row on one axis."""
    low, high = min(low, 0.0, *(v for _, v, _ in rows)), max(high, *(v for _, v, _ in rows))
    left, right, step = 130, WIDTH - 90, 28

    def at(value: float) -> float:
        return left + (right - left) * (value - low) / (high - low or 1)

    parts = []
    bottom = 8 + step * len(rows)
    for tick in ticks(low, high):
        parts.append(
            f'<line x1="{at(tick):.1f}" y1="4" x2="{at(tick):.1f}" y2="{bottom}" {_FAINT}/>'
        )
        parts.append(label(at(tick), bottom + 16, short(tick), "middle", faint=True))
    for i, (name, value, look) in enumerate(rows):
        y = 8 + i * step
        begin, end = sorted((at(0.0), at(value)))
        colour = COLOURS.get(look, look)
        parts.append(label(left - 8, y + 14, name, "end"))
        parts.append(
            f'<rect x="{begin:.1f}" y="{y}" width="{max(end - begin, 2):.1f}" height="18" rx="2" '
            f'fill="{colour}" stroke="currentColor" stroke-opacity="0.4"/>'
        )
        parts.append(label(end + 6, y + 14, f"{short(value)} {unit}".strip(), "start"))
    said = "; ".join(f"{name} {short(value)} {unit}".strip() for name, value, _ in rows)
    return svg(parts, bottom + 24, said)


def lines(
    series: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    height: int = 260,
) -> str:
    """Curves over the same values of x, which are evenly spaced whatever they are.

    Args:
        series: the curves; ``points`` ones are drawn as rings without a line, and an infinite
            value, what is never reached, as a cross above all others.
        x_label: under the axis.
        y_label: over the picture.
        unit: of the numbers on the left.
        low: the least y; 0 or less without it.
        high: the largest y; that of the curves without it.
        height: of the picture, in pixels.

    Returns:
        The picture as SVG.
    """
    xs = sorted({x for line in series for x in line.values})
    every = [y for line in series for y in line.values.values() if math.isfinite(y)]
    low = min([*every, 0.0 if low is None else low])
    high = max([*every] if high is None else [*every, high])
    never = any(y == math.inf for line in series for y in line.values.values())
    left, right, top, bottom = 64, WIDTH - 150, 46 if never else 26, height - 42

    def across(x: float) -> float:
        return left + (right - left) * (xs.index(x) / max(1, len(xs) - 1))

    def up(y: float) -> float:
        return bottom - (bottom - top) * (min(y, high) - low) / (high - low or 1)

    parts = [label(left, 14, f"{y_label}{f' ({unit})' if unit else ''}", "start")]
    for tick in ticks(low, high):
        parts.append(
            f'<line x1="{left}" y1="{up(tick):.1f}" x2="{right}" y2="{up(tick):.1f}" {_FAINT}/>'
        )
        parts.append(label(left - 8, up(tick) + 4, short(tick), "end", faint=True))
    for x in xs[:: math.ceil(len(xs) / MOST_LABELS)]:
        parts.append(label(across(x), bottom + 17, f"{x:g}", "middle", faint=True))
    parts.append(label((left + right) / 2, height - 6, x_label, "middle", faint=True))
    for i, line in enumerate(series):
        colour = COLOURS.get(line.look, line.look or OTHERS[i % len(OTHERS)])
        places = [(across(x), up(y)) for x, y in sorted(line.values.items()) if math.isfinite(y)]
        if not line.points:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
            parts.append(
                f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.5"/>'
            )
        fill, radius = ("none", 6) if line.points else (colour, 3.5)
        for x, y in places:
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{fill}" stroke="{colour}" '
                'stroke-width="2"/>'
            )
        for x in (x for x, y in line.values.items() if y == math.inf):
            parts.append(_cross(across(x) + 11 * (i - (len(series) - 1) / 2), top - 16, colour))
        y = top + 12 + 20 * i
        parts.append(
            f'<circle cx="{right + 16}" cy="{y - 4}" r="5" fill="{fill}" stroke="{colour}" '
            'stroke-width="2"/>'
        )
        parts.append(label(right + 26, y, line.name, "start"))
    if never:
        parts.append(label(left - 20, top - 12, "never", "end", faint=True))
    said = "; ".join(
        f"{line.name}: " + ", ".join(f"{x:g} → {short(y)}" for x, y in sorted(line.values.items()))
        for line in series
    )
    return svg(parts, height, f"{y_label} over {x_label}. {said}")


def rows(found: Sequence[Row]) -> str:
    """Rows of actions, such as F0 and B0, in the colours of their kinds."""
    parts, step = [], 32
    longest = max(len(items) for _, items, _ in found)
    wide = min(52.0, (WIDTH - 110) / longest)
    colours = {look.letter: look.colour for look in LOOKS.values()}
    right = found[-1][1]
    for i, (name, items, _) in enumerate(found):
        y = 6 + i * step
        parts.append(label(98, y + 17, name, "end"))
        for j, item in enumerate(items):
            fill, good = colours.get(item[0], "#888888"), item == right[j]
            ink = "#111111" if item[0] == "B" else "#FFFFFF"
            parts.append(
                f'<rect x="{108 + j * wide:.1f}" y="{y}" width="{wide - 3:.1f}" height="24" rx="3" '
                f'fill="{fill}" stroke="currentColor" stroke-width="{1 if good else 3}" '
                f'stroke-dasharray="{"none" if good else "4 2"}"/>'
            )
            x = 108 + j * wide + (wide - 3) / 2
            parts.append(
                f'<text x="{x:.1f}" y="{y + 17}" text-anchor="middle" fill="{ink}" font-size="12" '
                f'font-family="system-ui, sans-serif">{escape(item)}</text>'
            )
    said = "; ".join(f"{name}: {' '.join(items)}" for name, items, _ in found)
    return svg(parts, 8 + step * len(found), said)


def _cross(x: float, y: float, colour: str) -> str:
    return (
        f'<path d="M{x - 4:.1f} {y - 4}l8 8m0 -8l-8 8" stroke="{colour}" stroke-width="2.5" '
        'fill="none"/>'
    )


def choices(texts: Sequence[str], tries: Sequence[int], right: int) -> str:
    """Answers in rows: the right one has a tick, and what was chosen says so."""
    parts = []
    for i, text in enumerate(texts):
        y = 22 + 26 * i
        mark = "✓" if i == right else ("✗" if i in tries else "·")
        said = {0: " — your guess", 1: " — second try"}
        whose = said[tries.index(i)] if i in tries else ""
        colour = COLOURS["truth"] if i == right else "none"
        parts.append(f'<rect x="2" y="{y - 16}" width="4" height="22" fill="{colour}"/>')
        parts.append(label(14, y, f"{mark} {text}{whose}", "start", faint=i != right and not whose))
    said_all = "; ".join(f"{'right' if i == right else 'wrong'}: {t}" for i, t in enumerate(texts))
    return svg(parts, 12 + 26 * len(texts), said_all)


def histogram(counts: Mapping[str, int], right: str = "") -> str:
    """How many gave each answer; the right one is blue."""
    found = [
        (name, float(count), "truth" if name == right else "guess")
        for name, count in counts.items()
    ]
    return bars(found, low=0, high=max(1, *counts.values()))


def ticks(low: float, high: float) -> Iterable[float]:
    """Round numbers from low to high, four to eight of them."""
    span = high - low
    if span <= 0:
        return [low]
    step = 10 ** math.floor(math.log10(span / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= 7)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def label(x: float, y: float, text: str, anchor: str, *, faint: bool = False) -> str:
    """A word at a place; anchor is "start", "middle" or "end"."""
    opacity = ' fill-opacity="0.75"' if faint else ""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f"<text {place} {_TEXT}{opacity}>{escape(text)}</text>"


def svg(parts: Sequence[str], height: float, said: str) -> str:
    """Put parts together; said is the picture in words."""
    inside = "".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" '
        f'width="{WIDTH}" height="{height:.0f}" role="img" aria-label="{escape(said)}">'
        f"{inside}</svg>"
    )


def verdicts(rows: Sequence[tuple[str, bool]]) -> "Picture":
    """Sentences, each with a tick or a cross."""
    marks = {True: ("✓", COLOURS["truth"]), False: ("✗", COLOURS["machine"])}
    parts = []
    for text, good in rows:
        mark, colour = marks[bool(good)]
        words = escape(text).replace("\n", "<br>")
        parts.append(f'<p><b style="color:{colour}">{mark}</b> {words}</p>')
    return Picture("".join(parts))


class Picture:
    """An SVG that a notebook shows."""

    def __init__(self, drawn: str):
        self.svg = drawn

    def _repr_html_(self) -> str:
        return f'<div style="max-width:{WIDTH}px">{self.svg}</div>'
