"""One setting through many values: bubble, throughput and peak memory as curves.

Points that real runs measured are drawn on top.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ..catalogue import entry, names
from ..errors import UnknownName, UsageError
from ..timeline import Timeline
from .profiled import Profiled
from .settings import WHOLE, Settings

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

VALUES = {
    "microbatches": (1, 2, 3, 4, 6, 8, 12, 16, 24, 32),
    "ranks": (1, 2, 3, 4, 6, 8),
    "stages_per_rank": (1, 2, 3, 4),
    "schedule": tuple(names()),
}
"""What is swept over, and the values where none are given."""
TITLES = {
    "microbatches": "micro-batches",
    "ranks": "ranks",
    "stages_per_rank": "stages per rank",
    "schedule": "schedule",
}
BUBBLE = "bubble fraction: idle / (ranks × makespan)"
SPEED = {
    "microbatch": "throughput: micro-batches / makespan",
    "batch": "speed-up: one device / time per batch",
}
"""Titles of the first two panels; the second by what is held."""
Point = tuple[float, float, float]
"""Bubble fraction, throughput (with one batch: speed-up) and peak memory."""
COLOURS = ("#4477AA", "#DDAA33", "#BB5566", "#44BB99", "#332288", "#999933", "#AA4499", "#767676")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star", "cross", "pentagon")


def sweep(
    over: str,
    values: Iterable[Any] | None = None,
    *,
    schedules: Iterable[str] | None = None,
    measured: Iterable[Timeline] = (),
    unit_s: float | Sequence[float] = 0.01,
    **settings: Any,
) -> "Figure":
    """Draw predicted curves over one setting.

    Values that a schedule cannot have leave a gap.

    Args:
        over: "microbatches", "ranks", "stages_per_rank" or "schedule".
        values: of that setting; without them, a few usual ones.
        schedules: a curve each; without them gpipe, 1f1b and zb-h1, or over stages per rank those
            that take any number.
        measured: timelines of real runs, drawn as open points in the first two panels. Their memory
            is counted otherwise, so it is left out.
        unit_s: the seconds that a real run takes for one unit of cost, of all runs or of each.
        settings: the rest of the configuration, fields of ``pipelab.widgets.Settings``; profile and
            batch too, for memory in the bytes of a profiled model.

    Returns:
        A plotly Figure of three panels: bubble, throughput (with hold="batch" the speed-up) and
        peak memory.

    Raises:
        UnknownName: there is no such setting or schedule.
        UsageError: nothing is left to draw, or unit_s is of another number of runs.
    """
    from plotly.subplots import make_subplots

    if over not in VALUES:
        raise UnknownName("setting to sweep over", over, VALUES)
    base = (Profiled if "profile" in settings else Settings)(**settings).valid()
    values, measured = list(VALUES[over] if values is None else values), list(measured)
    units = list(unit_s) if isinstance(unit_s, Sequence) else [unit_s] * len(measured)
    if len(units) != len(measured):
        raise UsageError(f"unit_s is of {len(units)} runs, but measured has {len(measured)}.")
    counted = "% of the batch" if base.one_batch and base.memory != "bytes" else base.memory
    titles = [BUBBLE, SPEED[base.hold], f"peak memory, {counted}"]
    figure = make_subplots(cols=3, subplot_titles=titles)
    curves = [None] if over == "schedule" else _schedules(over, schedules)
    for i, name in enumerate(curves):
        points = [_predicted(base, over, value, name) for value in values]
        if any(points):
            _add_curve(figure, i, name, values, points)
    if not figure.data:
        raise UsageError(f"None of these schedules can have {TITLES[over]} of {values}.")
    _add_measured(figure, over, None if base.one_batch else units, measured)
    _lay_out(figure, over)
    return figure


def _add_curve(
    figure: "Figure", index: int, name: str | None, values: list[Any], points: list[Point | None]
) -> None:
    """Add the predictions for one schedule, or for many (name: None), to all panels."""
    colour, symbol = COLOURS[index % len(COLOURS)], SYMBOLS[index % len(SYMBOLS)]
    label = entry(name).title if name else "predicted"
    for column in range(3):
        figure.add_scatter(
            x=values,
            y=[point and point[column] for point in points],
            name=label,
            legendgroup=label,
            showlegend=column == 0,
            row=1,
            col=column + 1,
            mode="lines+markers" if name else "markers",
            marker={"color": colour, "symbol": symbol, "size": 7},
            line={"color": colour},
        )


def _add_measured(
    figure: "Figure", over: str, units: list[float] | None, measured: list[Timeline]
) -> None:
    """Add the points of real runs to two panels. units: of each, in seconds; None for one batch."""
    if not measured:
        return
    numbers = [timeline.metrics for timeline in measured]
    bubbles = [number["bubble_fraction"] for number in numbers]
    speeds = [
        (t.schedule.microbatches * units[i] if units else float(t.compute.sum())) / t.makespan
        for i, t in enumerate(measured)
    ]
    for column, y in enumerate((bubbles, speeds), 1):
        figure.add_scatter(
            x=[number[over] for number in numbers],
            y=y,
            text=[f"{timeline.schedule.name}, measured" for timeline in measured],
            name="measured",
            legendgroup="measured",
            showlegend=column == 1,
            row=1,
            col=column,
            mode="markers",
            marker={"symbol": "circle-open", "size": 13, "color": "#CC3311", "line": {"width": 2}},
        )


def _lay_out(figure: "Figure", over: str) -> None:
    figure.update_xaxes(title=TITLES[over], gridcolor="rgba(128,128,128,0.25)")
    figure.update_yaxes(rangemode="tozero", gridcolor="rgba(128,128,128,0.25)")
    figure.update_yaxes(tickformat=".0%", col=1)
    figure.update_layout(
        height=360,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": "#767676"},
        margin={"l": 50, "r": 40, "t": 60, "b": 50},
        modebar={"orientation": "v", "bgcolor": "rgba(0,0,0,0)"},  # beside the curves, not on them
        legend={"orientation": "h", "y": -0.25},
    )
    figure.update_annotations(font_size=12)


def _schedules(over: str, schedules: Iterable[str] | None) -> list[str]:
    if schedules is not None:
        return [entry(name).name for name in schedules]
    if over == "stages_per_rank":
        return [name for name in names() if not entry(name).fixed and not entry(name).searched]
    return ["gpipe", "1f1b", "zb-h1"]


def _predicted(base: Settings, over: str, value: Any, name: str | None) -> Point | None:
    """What is drawn for one value; None where the schedule cannot have it."""
    changes = {"schedule": name or base.schedule} | {over: value}
    settings = base.with_changes(**changes)
    try:
        timeline = settings.predict()
    except UsageError:
        return None
    done = WHOLE if base.one_batch else timeline.schedule.microbatches
    speed = done / timeline.makespan
    return timeline.metrics["bubble_fraction"], speed, float(timeline.bytes_held.max())
