"""One setting through many values: bubble, throughput and peak memory as curves, with measured
points on top.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..catalogue import entry, names
from ..errors import UnknownName, UsageError
from ..timeline import Timeline
from .settings import Settings

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
COLOURS = ("#4477AA", "#DDAA33", "#BB5566", "#44BB99", "#332288", "#999933", "#AA4499", "#767676")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star", "cross", "pentagon")


def sweep(
    over: str,
    values: Iterable | None = None,
    *,
    schedules: Iterable[str] | None = None,
    measured: Iterable[Timeline] = (),
    unit_s: float = 0.01,
    **settings,
) -> "Figure":
    """Predicted curves over one setting, as a plotly Figure of three panels.

    over: "microbatches", "ranks", "stages_per_rank" or "schedule". values: of that setting
    (default: a few usual ones). schedules: a curve each (default: gpipe, 1f1b, zb-h1; over stages
    per rank those that take any number). measured: timelines of real runs, drawn as open points:
    bubble and throughput, ``unit_s`` seconds being one unit of the predicted costs, as in a run
    with that pace; their memory is counted otherwise, so it is left out. settings: the rest of the
    configuration, fields of ``pipelab.widgets.Settings``.

    Values that a schedule cannot have leave a gap. Raises UnknownName; UsageError where nothing is
    left to draw.
    """
    from plotly.subplots import make_subplots

    if over not in VALUES:
        raise UnknownName("setting to sweep over", over, VALUES)
    base = Settings(**settings).valid()
    values = list(VALUES[over] if values is None else values)
    bubble, speed = (
        "bubble fraction: idle / (ranks × makespan)",
        "throughput: micro-batches / makespan",
    )
    panels = (bubble, speed, f"peak memory, {base.memory}")
    figure = make_subplots(cols=3, subplot_titles=panels)
    curves = [None] if over == "schedule" else _schedules(over, schedules)
    for i, name in enumerate(curves):
        points = [_predicted(base, over, value, name) for value in values]
        if not any(points):
            continue
        look = {"color": COLOURS[i % len(COLOURS)], "symbol": SYMBOLS[i % len(SYMBOLS)]}
        for column in range(3):
            y = [point and point[column] for point in points]
            label = entry(name).title if name else "predicted"
            figure.add_scatter(
                x=values,
                y=y,
                name=label,
                legendgroup=label,
                showlegend=column == 0,
                row=1,
                col=column + 1,
                mode="markers" if name is None else "lines+markers",
                marker=look | {"size": 7},
                line={"color": look["color"]},
            )
    if not figure.data:
        raise UsageError(f"None of these schedules can have {TITLES[over]} of {values}.")
    for column, points in enumerate(
        zip(*(_measured(over, unit_s, timeline) for timeline in measured))
    ):
        x, y, text = zip(*points)
        figure.add_scatter(
            x=x,
            y=y,
            text=text,
            name="measured",
            legendgroup="measured",
            showlegend=column == 0,
            row=1,
            col=column + 1,
            mode="markers",
            marker={"symbol": "circle-open", "size": 13, "color": "#CC3311", "line": {"width": 2}},
        )
    figure.update_xaxes(title=TITLES[over], gridcolor="rgba(128,128,128,0.25)")
    figure.update_yaxes(rangemode="tozero", gridcolor="rgba(128,128,128,0.25)")
    figure.update_yaxes(tickformat=".0%", col=1)
    figure.update_layout(
        height=360,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": "#767676"},
        margin={"l": 50, "r": 20, "t": 60, "b": 50},
        legend={"orientation": "h", "y": -0.25},
    )
    figure.update_annotations(font_size=12)
    return figure


def _schedules(over: str, schedules: Iterable[str] | None) -> list[str]:
    if schedules is not None:
        return [entry(name).name for name in schedules]
    if over == "stages_per_rank":
        return [name for name in names() if not entry(name).fixed and not entry(name).searched]
    return ["gpipe", "1f1b", "zb-h1"]


def _predicted(
    base: Settings, over: str, value, name: str | None
) -> tuple[float, float, float] | None:
    """Bubble fraction, throughput and peak memory; None where the schedule cannot have the
    value.
    """
    settings = base.with_changes(**({"schedule": name} if name else {})).with_changes(
        **{over: value}
    )
    try:
        timeline = settings.predict()
    except UsageError:
        return None
    throughput = timeline.schedule.microbatches / timeline.makespan
    return timeline.metrics["bubble_fraction"], throughput, float(timeline.bytes_held.max())


def _measured(over: str, unit_s: float, timeline: Timeline) -> tuple[tuple, tuple]:
    """A real run's points in the first two panels: (x, y, text) each."""
    numbers = timeline.metrics
    x, text = numbers[over], f"{timeline.schedule.name}, measured"
    return (x, numbers["bubble_fraction"], text), (
        x,
        numbers["microbatches"] / timeline.makespan * unit_s,
        text,
    )
