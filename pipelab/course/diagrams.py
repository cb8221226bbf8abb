"""Pictures of ideas: who waits for whom, a model folded over ranks, what crosses its cuts.

In: a Schedule, or names with numbers. Out: SVG, as in ``figures``.
"""

from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise

from ..catalogue import build
from ..plots.palette import LOOKS
from ..schedule import Action, Schedule
from ..schedule.kinds import KINDS, sending
from .figures import COLOURS, OTHERS, WIDTH, Picture, label, short, svg, ticks

_COLOURS = {look.letter: look.colour for look in LOOKS.values()}


def waiting(rows: Sequence[Sequence[str]]) -> Picture:
    """Where ranks stop for ever: what ran is filled, and arrows say what each rank waits for.

    Args:
        rows: actions such as "0F0", a row per rank.

    >>> "rank 0 stops at 0B0" in waiting([["0F0", "0B0"], ["1B0", "1F0"]]).svg
    True
    """
    orders = [[Action.parse(text) for text in row] for row in rows]
    at, needs = _stopped(orders)
    wide, step, left = 58, 62, 70
    places = {
        action: (left + j * wide, 14 + i * step)
        for i, row in enumerate(orders)
        for j, action in enumerate(row)
    }
    parts = [
        '<defs><marker id="pl-arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        f'markerHeight="7" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="{COLOURS["machine"]}"/>'
        "</marker></defs>"
    ]
    said = []
    for i, row in enumerate(orders):
        parts.append(label(left - 10, 14 + i * step + 21, f"rank {i}", "end"))
        for j, action in enumerate(row):
            x, y = places[action]
            done = j < at[i]
            colour = _COLOURS[KINDS[action.kind].letter]
            look = f'fill="{colour}"' if done else f'fill="none" stroke="{colour}"'
            width = 4 if j == at[i] else 2
            parts.append(
                f'<rect x="{x}" y="{y}" width="{wide - 6}" height="32" rx="4" {look} '
                f'stroke-width="{width}"/>'
            )
            ink = "#FFFFFF" if done else "currentColor"
            parts.append(
                f'<text x="{x + (wide - 6) / 2}" y="{y + 21}" text-anchor="middle" fill="{ink}" '
                f'font-family="system-ui, sans-serif" font-size="13">{escape(str(action))}</text>'
            )
    for i, need in needs.items():
        (x, y), (to_x, to_y) = places[orders[i][at[i]]], places[need]
        below = to_y > y
        begin, end = (y + 34, to_y - 3) if below else (y - 2, to_y + 35)
        parts.append(
            f'<line x1="{x + 26}" y1="{begin}" x2="{to_x + 26}" y2="{end}" '
            f'stroke="{COLOURS["machine"]}" stroke-width="2.5" marker-end="url(#pl-arrow)"/>'
        )
        said.append(f"rank {i} stops at {orders[i][at[i]]}, which waits for {need}")
    return Picture(svg(parts, 20 + step * len(orders), "; ".join(said) or "all can run"))


def _stopped(orders: Sequence[Sequence[Action]]) -> tuple[list[int], dict[int, Action]]:
    """How far each rank gets, and the action that each stopped rank waits for."""
    every = {action for row in orders for action in row}
    done: set[Action] = set()
    at = [0] * len(orders)
    while True:
        moved = False
        for i, row in enumerate(orders):
            while at[i] < len(row) and not _missing(row[at[i]], every, done):
                done.add(row[at[i]])
                at[i] += 1
                moved = True
        if not moved:
            break
    stopped = [i for i, row in enumerate(orders) if at[i] < len(row)]
    return at, {i: _missing(orders[i][at[i]], every, done)[0] for i in stopped}


def _missing(action: Action, every: set[Action], done: set[Action]) -> list[Action]:
    """What an action needs and has not; what is on another stage first."""
    kind, stage, i = action[:3]
    row = KINDS[kind]
    needs = []
    if row.sends:
        source = stage - 1 if row.sends == "down" else stage + 1
        needs = [Action(other, source, i) for other in sending(row.sends)]
    needs += [Action(needed, stage, i) for needed, _ in row.needs]
    return [need for need in needs if need in every and need not in done]


def folded(names: Sequence[str], *, ranks: int = 4, stages_per_rank: int = 2) -> Picture:
    """The model as a line of stages, folded over the ranks as these schedules place it."""
    parts, said, left, wide, gap = [], [], 70, 46, 36
    y = 0
    for name in names:
        schedule = _built(name, ranks, stages_per_rank)
        where = [schedule.placement[0, stage] for stage in range(schedule.stages)]
        parts.append(label(6, y + 16, schedule.name, "start"))
        centres = [
            (left + 60 + s * (wide + 8), y + 34 + rank * gap) for s, rank in enumerate(where)
        ]
        path = " ".join(f"{x},{c}" for x, c in centres)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="currentColor" stroke-opacity="0.5"/>'
        )
        for rank in range(ranks):
            parts.append(label(left, y + 39 + rank * gap, f"rank {rank}", "end", faint=True))
        for stage, (x, centre) in enumerate(centres):
            colour = OTHERS[where[stage] % len(OTHERS)]
            parts.append(
                f'<rect x="{x - wide / 2}" y="{centre - 12}" width="{wide}" height="24" rx="4" '
                f'fill="{colour}"/><text x="{x}" y="{centre + 5}" text-anchor="middle" '
                f'font-family="system-ui, sans-serif" font-size="12" fill="#FFFFFF">{stage}</text>'
            )
        said.append(f"{name}: ranks of the stages {where}")
        y += 44 + ranks * gap
    return Picture(svg(parts, y, "; ".join(said)))


def _built(name: str, ranks: int, stages_per_rank: int) -> Schedule:
    from ..catalogue import entry

    per_rank = None if entry(name).fixed else stages_per_rank
    return build(name, ranks=ranks, microbatches=2 * ranks, stages_per_rank=per_rank)


def scatter(points: Mapping[str, tuple[float, float]], *, x_label: str, y_label: str) -> Picture:
    """Named points: where each schedule stands between two prices."""
    left, right, top, bottom = 64, WIDTH - 110, 24, 300
    most_x = 1.05 * max(x for x, _ in points.values())
    most_y = 1.05 * max(y for _, y in points.values()) or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        return left + (right - left) * x / most_x, bottom - (bottom - top) * y / most_y

    parts = [label(left, 14, y_label, "start")]
    for tick in ticks(0, most_y):
        y = place(0, tick)[1]
        parts.append(
            f'<line x1="{left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="currentColor" '
            'stroke-opacity="0.25"/>'
        )
        parts.append(label(left - 8, y + 4, short(tick), "end", faint=True))
    for tick in ticks(0, most_x):
        parts.append(label(place(tick, 0)[0], bottom + 17, short(tick), "middle", faint=True))
    parts.append(label((left + right) / 2, bottom + 36, x_label, "middle", faint=True))
    taken: list[tuple[float, float]] = []
    for i, (name, (x, y)) in enumerate(points.items()):
        across, up = place(x, y)
        down = 4.0
        while any(abs(across - a) < 90 and abs(up + down - b) < 14 for a, b in taken):
            down += 14
        taken.append((across, up + down))
        colour = OTHERS[i % len(OTHERS)]
        parts.append(f'<circle cx="{across:.1f}" cy="{up:.1f}" r="6" fill="{colour}"/>')
        parts.append(label(across + 10, up + down, name, "start"))
    said = "; ".join(f"{name}: {short(x)}, {short(y)}" for name, (x, y) in points.items())
    return Picture(svg(parts, bottom + 44, f"{y_label} against {x_label}. {said}"))


def pipe(widths: Sequence[int], batch: int) -> Picture:
    """A network of linear layers with its cuts: boxes are as high as the layers are heavy.

    Bands between them are as wide as what crosses a cut there: activations, and their gradients.

    >>> "cut 0 | 1: 240 numbers cross" in pipe([2, 12, 3], 10).svg
    True
    """
    layers = len(widths) - 1
    weights = [a * b + b for a, b in pairwise(widths)]
    step, middle, box = (WIDTH - 40) / layers, 96.0, 62.0
    parts, said = [], []
    for i, weight in enumerate(weights):
        left = 20 + i * step + (step - box) / 2
        if i < layers - 1:
            wide, numbers = 110 * widths[i + 1] / max(widths), 2 * batch * widths[i + 1]
            parts.append(
                f'<rect x="{left + box:.1f}" y="{middle - wide / 2:.1f}" '
                f'width="{step - box:.1f}" height="{wide:.1f}" fill="{COLOURS["truth"]}"/>'
            )
            x = left + box + (step - box) / 2
            parts.append(
                f'<line x1="{x:.1f}" y1="24" x2="{x:.1f}" y2="168" stroke="currentColor" '
                'stroke-width="1.5" stroke-dasharray="5 4"/>'
            )
            parts.append(label(x, 16, f"{numbers:,}", "middle"))
            said.append(f"cut {i} | {i + 1}: {numbers} numbers cross")
        high = max(12.0, 124 * weight / max(weights))
        parts.append(
            f'<rect x="{left:.1f}" y="{middle - high / 2:.1f}" width="{box}" height="{high:.1f}" '
            'rx="4" fill="#888888" stroke="currentColor" stroke-opacity="0.5"/>'
        )
        parts.append(label(left + box / 2, 188, f"layer {i}", "middle"))
        parts.append(label(left + box / 2, 206, f"{weight:,}", "middle", faint=True))
        said.append(f"layer {i}: {weight} weights")
    return Picture(svg(parts, 214, "; ".join(said)))
