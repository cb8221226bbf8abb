"""One row of a plan: its mesh, where it stands between time and memory, and its timeline.

    ┌ mesh: copies × ranks, with nodes ┐ ┌ every row: seconds and bytes; the frontier ┐
    ┌ the timeline of one pipeline, simulated with the row's schedule and its stages  ┐

Attributes alone: viewers of notebooks drop style sheets.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from html import escape

from ..layout.planner import Layout, Plan
from ..layout.planner.plan import Row
from ..layout.planner.step_seconds import (
    schedule_of,
    stage_costs,
    stage_seconds,
    transfer_seconds,
)
from ..plots import svg
from ..simulator import simulate
from ..timeline import Timeline
from .memory_picture import FULL, label
from .planner_words import seconds
from .rank_memory import GB, amount
from .shape_picture import CHOSEN, COLOURS, outline

WIDTH, GRID, ASIDE, HIGH = 860, 380, 470, 268
"""Of all, of the mesh, where the scatter begins, and how high both are."""
LEFT, TOP = 56, 48
COLUMNS, COPIES, TENSOR = 16, 8, 8
"""Cells that a mesh has room for: across, down, and of one rank."""
RANKS, MICROBATCHES, STAGES = 8, 16, 32
"""Of a timeline that is drawn."""
Point = tuple[float, float]


def row_svg(found: Plan, number: int) -> str:
    """Draw a row's mesh, and all rows as points."""
    layout = found.rows[number].layout
    sizes = f"tensor {layout.tensor} × pipeline {layout.pipeline} × data {layout.data}"
    said = f"Row {number + 1}: {sizes}, {crossings(found, layout)} {_frontier_told(found)}"
    body = "".join([*_mesh(found, layout), *_scatter(found, number)])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HIGH}" '
        f'width="{WIDTH}" height="{HIGH}" role="img" aria-label="{escape(said)}">{body}</svg>'
    )


def crossings(found: Plan, layout: Layout) -> str:
    """Which groups leave their node, in the order that the planner counts on."""
    spans = {
        "tensor": (layout.tensor, layout.tensor),
        "data": (layout.data, layout.tensor * layout.data),
        "pipeline": (layout.pipeline, layout.gpus),
    }
    node = int(found.machine.node_size)
    far = [name for name, (size, span) in spans.items() if size > 1 and span > node]
    near = [name for name, (size, span) in spans.items() if size > 1 and span <= node]
    words = [f"{' and '.join(near)} groups stay inside a node"] if near else []
    words += [f"{' and '.join(far)} groups leave it"] if far else []
    return f"{'; '.join(words)}." if words else "one GPU is the whole mesh."


def _mesh(found: Plan, layout: Layout) -> Iterator[str]:
    """GPUs as they stand: parts of a layer side by side, then copies, then ranks."""
    t, d, node = layout.tensor, layout.data, int(found.machine.node_size)
    parts = min(t, TENSOR)
    ranks, copies = min(layout.pipeline, COLUMNS // parts), min(d, COPIES)
    columns = ranks * parts
    gap = 6
    wide, high = min(44.0, (GRID - LEFT) / columns - gap), 17.0
    title = f"{layout.gpus} GPUs: tensor {t} × pipeline {layout.pipeline} × data {d}"
    yield label(0, 14, title, "start", bold=True)

    def of_node(row: int, column: int) -> int:
        rank, part = divmod(column, parts)
        return (rank * t * d + row * t + part) // node

    for rank in range(ranks):
        x = LEFT + (rank + 0.5) * parts * (wide + gap) - gap / 2
        named = parts * (wide + gap) > 44
        yield label(x, TOP - 12, f"rank {rank}" if named else str(rank), "middle", faint=True)
    if parts * (wide + gap) <= 44:
        yield label(LEFT - 10, TOP - 12, "rank", "end", faint=True)
    for row in range(copies):
        y = TOP + row * (high + gap)
        yield label(LEFT - 10, y + 13, f"copy {row}", "end", faint=True)
        for column in range(columns):
            rank, part = divmod(column, parts)
            place = LEFT + column * (wide + gap), y

            def alike(down: int, right: int, at: Point = (row, column)) -> bool:
                one, two = int(at[0]) + down, int(at[1]) + right
                inside = 0 <= one < copies and 0 <= two < columns
                return inside and of_node(one, two) == of_node(int(at[0]), int(at[1]))

            yield _cell(place, (wide, high), _mark(rank, row, part))
            yield from outline(alike, place, (wide, high), gap)
    low = TOP + copies * (high + gap) + 14
    drawn = [
        f"{shown} of {size} {name}"
        for shown, size, name in (
            (ranks, layout.pipeline, "ranks"),
            (copies, d, "copies"),
            (parts, t, "parts of a layer"),
        )
        if shown < size
    ]
    text = f"outlined: a node of {node}" + (f"; drawn: {', '.join(drawn)}" if drawn else "")
    yield label(0, low, text, "start", faint=True)
    low += 18
    x = 0.0
    for name, size in (("tensor", t), ("pipeline", layout.pipeline), ("data", d)):
        if size > 1:
            yield f'<rect x="{x}" y="{low - 10}" width="12" height="12" fill="{COLOURS[name]}"/>'
            yield label(x + 17, low, f"{name} group", "start", faint=True)
            x += 70 + 6.6 * len(name)
    if x:
        yield label(x, low, "of the first GPU", "start", faint=True)


def _mark(rank: int, row: int, part: int) -> str:
    """The colour of a GPU that shares a group with the first one."""
    if not (rank or row or part):
        return CHOSEN
    if not (rank or row):
        return COLOURS["tensor"]
    if not (row or part):
        return COLOURS["pipeline"]
    return COLOURS["data"] if not (rank or part) else "none"


def _cell(place: Point, size: Point, colour: str) -> str:
    return (
        f'<rect x="{place[0]:.1f}" y="{place[1]:.1f}" width="{size[0]:.1f}" '
        f'height="{size[1]:.1f}" rx="3" fill="{colour}" stroke="currentColor" '
        'stroke-opacity="0.35"/>'
    )


def frontier(rows: list[Row]) -> list[int]:
    """Numbers of the rows of which none is both faster and smaller; fastest first."""
    found, least = [], math.inf
    order = sorted(range(len(rows)), key=lambda i: (_time(rows[i]), _held(rows[i])))
    for number in order:
        if _held(rows[number]) < least:
            least = _held(rows[number])
            found.append(number)
    return found


def _time(row: Row) -> float:
    return row.estimate.seconds


def _held(row: Row) -> float:
    return row.estimate.bytes["total"]


def _frontier_told(found: Plan) -> str:
    ends = frontier(found.rows)
    points = [found.rows[number] for number in dict.fromkeys((ends[0], ends[-1]))]
    said = " to ".join(f"{seconds(_time(row))} with {amount(_held(row))}" for row in points)
    return f"The frontier of time and memory: {said}."


def _scatter(found: Plan, chosen: int) -> Iterator[str]:
    """Every row as a point, seconds on a logarithmic axis; the frontier as a line."""
    rows, left, right, top, low = found.rows, ASIDE + 46, WIDTH - 14, 36, HIGH - 46
    quick, slow = min(map(_time, rows)), max(map(_time, rows))
    slow = max(slow, 1.3 * quick)
    most = found.machine.memory * GB * 1.02

    def place(row: Row) -> Point:
        x = left + 8 + (right - left - 16) * math.log(_time(row) / quick) / math.log(slow / quick)
        return x, low - (low - top) * _held(row) / most

    yield label(ASIDE, 14, f"Time against memory: {len(rows)} layouts that fit", "start", bold=True)
    for share in (0, 0.25, 0.5, 0.75):
        y = low - (low - top) * share * found.machine.memory * GB / most
        yield (
            f'<line x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="currentColor" '
            f'stroke-opacity="{0.18 if share else 0.6}"/>'
        )
        text = amount(share * found.machine.memory * GB) if share else "0"
        yield label(left - 6, y + 4, text, "end", faint=True)
    y = low - (low - top) / 1.02
    yield (
        f'<line x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="{FULL}" '
        'stroke-width="2" stroke-dasharray="6 3"/>'
    )
    yield label(right, y - 5, f"GPU: {amount(found.machine.memory * GB)}", "end", faint=True)
    step = (slow / quick) ** (1 / 3)
    for i in range(4):
        x = left + 8 + (right - left - 16) * i / 3
        yield label(x, low + 16, seconds(quick * step**i, 3), "middle", faint=True)
    text = "a step (logarithmic); orange: nothing is both faster and smaller"
    yield label(right, low + 34, text, "end", faint=True)
    best = frontier(rows)
    seen: dict[tuple[int, int], int] = {}
    for number, row in enumerate(rows):
        x, y = place(row)
        seen.setdefault((round(x / 2) * 2, round(y / 2) * 2), number)
    for (x, y), number in seen.items():
        yield _point((x, y), number, 2.5, "currentColor", 0.35, rows[number])
    corners = [place(rows[number]) for number in best]
    path = "".join(f"{'L' if i else 'M'}{x:.1f} {y:.1f}" for i, (x, y) in enumerate(corners))
    yield f'<path d="{path}" fill="none" stroke="#ee7733" stroke-width="1.5"/>'
    for number, (x, y) in zip(best, corners, strict=True):
        yield _point((x, y), number, 3.5, "#ee7733", 1, rows[number])
    x, y = place(rows[chosen])
    yield (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="7" fill="none" stroke="currentColor" '
        'stroke-width="2"/>'
    )


def _point(place: Point, number: int, radius: float, colour: str, opacity: float, row: Row) -> str:
    said = f"row {number + 1}: {seconds(_time(row))}, {amount(_held(row))}"
    return (
        f'<circle data-row="{number}" cx="{place[0]:.1f}" cy="{place[1]:.1f}" r="{radius}" '
        f'fill="{colour}" fill-opacity="{opacity}"><title>{escape(said)}</title></circle>'
    )


def drawn(layout: Layout) -> Layout:
    """The same with at most so many ranks and micro-batches; stages keep their layers."""
    v = layout.stages_per_rank
    ranks = min(layout.pipeline, RANKS, max(2, STAGES // v))
    m = min(layout.microbatches, MICROBATCHES)
    if layout.schedule == "interleaved-1f1b" and layout.microbatches % layout.pipeline == 0:
        m = max(ranks, m // ranks * ranks)
    batch = m * layout.data * layout.microbatch
    return replace(layout, pipeline=ranks, batch=batch, sizes=None)


def timeline_of(found: Plan, number: int) -> Timeline:
    """Of one pipeline of a row, with the seconds of its stages; of a few ranks if it has many."""
    whole = found.rows[number].layout
    few = drawn(whole)
    stages = stage_seconds(found.model, found.machine, whole)
    stages = [*stages[: few.stages - 1], stages[-1]]
    costs = stage_costs(few, stages, transfer_seconds(found.model, found.machine, whole))
    return simulate(schedule_of(few), costs)


def timeline_svg(found: Plan, number: int) -> str:
    """In the picture of the lab."""
    return svg(timeline_of(found, number), WIDTH)


def timeline_words(found: Plan, number: int) -> str:
    """What is drawn of the step, and what is not."""
    row = found.rows[number]
    whole, few, one = row.layout, drawn(row.layout), row.estimate
    ranks = _part(few.pipeline, whole.pipeline, "rank")
    said = f"One of {whole.data} pipelines" if whole.data > 1 else "The pipeline"
    said += f", in seconds: {ranks}, {_part(few.microbatches, whole.microbatches, 'micro-batch')}."
    if few != whole:
        busiest = one.seconds_by_part["bubble"] / one.seconds
        said += (
            f" In the whole step all ranks together idle {one.bubble_fraction:.1%} of the time, "
            f"and the busiest rank {busiest:.1%}."
        )
    said += " A peak of 1 is what one micro-batch leaves in one stage."
    rest = [
        f"{name} {seconds(one.seconds_by_part[name])}"
        for name in ("data", "optimizer")
        if one.seconds_by_part[name] > 0
    ]
    return f"{said} Not drawn, after it: {' and '.join(rest)}." if rest else said


def _part(shown: int, whole: int, name: str) -> str:
    many = name + ("es" if name.endswith("h") else "s")
    if shown < whole:
        return f"{shown} of {whole} {many}"
    return f"{whole} {name if whole == 1 else many}"
