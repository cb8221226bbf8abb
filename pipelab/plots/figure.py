"""A Timeline as a plain plotly Figure: zoom, hover, export.

Never a FigureWidget, which ships all of plotly each time.
"""

from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from ..layout import Partition
from ..schedule.kinds import KINDS, Kind
from ..timeline import Timeline
from .cuts import plot_cuts
from .palette import LOOKS, PLAIN, shade

if TYPE_CHECKING:
    from plotly.graph_objects import Bar, Figure, Scatter

LANE, STRIP = 0.5, 0.3
"""Heights of a rank's bars and of the memory strip under them; 1 is the distance between ranks."""


def plot(timeline: Timeline | Partition) -> "Figure":
    """Timeline and memory in one figure: a trace per kind, and one for all memory strips.

    Hovering a bar names the action, its rank, and its times; hovering a strip tells the memory
    held. Of a Partition: what each rank takes, beside even cuts and cuts by parameters.
    """
    if isinstance(timeline, Partition):
        return plot_cuts(timeline)
    import plotly.graph_objects as go  # a third of a second: only for those who ask for a figure

    schedule, unit = timeline.schedule, timeline.unit
    origin = timeline.started.min()
    figure = go.Figure(
        [_bars(go, timeline, kind, origin) for kind in sorted(schedule.kinds)]
        + [_memory(go, timeline, origin)]
    )
    numbers = timeline.metrics
    figure.update_layout(
        title=f"{schedule.name}, {timeline.source}: makespan "
        f"{timeline.makespan:.4g}{' ' + unit if unit else ''}, bubble fraction "
        f"{numbers['bubble_fraction']:.1%} <i>(idle / (ranks × makespan))</i>",
        barmode="overlay",
        bargap=0,
        height=150 + 62 * schedule.ranks,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 70, "r": 40, "t": 60, "b": 50},
        legend={"orientation": "h", "y": 1, "yanchor": "bottom", "x": 1, "xanchor": "right"},
        font={"color": "#767676"},
        modebar={"orientation": "v", "bgcolor": "rgba(0,0,0,0)"},
    )
    label = f"time ({unit})" if unit else "time"
    figure.update_xaxes(
        title=label, range=[0, timeline.makespan], gridcolor="rgba(128,128,128,0.25)"
    )
    figure.update_yaxes(
        range=[schedule.ranks - 0.4, -0.4],
        tickvals=list(range(schedule.ranks)),
        ticktext=[f"rank {rank}" for rank in range(schedule.ranks)],
        showgrid=False,
        zeroline=False,
    )
    return figure


def _bars(go: ModuleType, timeline: Timeline, kind: Kind, origin: float) -> "Bar":
    """The bars of one kind."""
    look, mine = LOOKS[kind], timeline.kind == kind
    last = max(1, timeline.schedule.microbatches - 1)
    numbered = KINDS[kind].numbered
    microbatch = timeline.microbatch[mine]
    shades = microbatch / last if numbered else np.full(len(microbatch), PLAIN)
    action = f"%{{customdata[0]}}{look.letter}"
    return go.Bar(
        name=f"{look.letter} {look.title}",
        orientation="h",
        y=timeline.rank[mine],
        base=timeline.started[mine] - origin,
        x=(timeline.ended - timeline.started)[mine],
        width=LANE,
        marker={
            "color": [shade(look.colour, fraction) for fraction in shades.tolist()],
            "line": {"color": "rgba(0,0,0,0.4)", "width": 0.7},
            "pattern": {"shape": look.pattern, "size": 6, "fgcolor": "rgba(0,0,0,0.45)"},
        },
        customdata=np.stack(
            [timeline.stage[mine], microbatch, timeline.ended[mine] - origin], axis=1
        ),
        text=microbatch if numbered else np.full(len(microbatch), look.letter),
        textposition="inside",
        insidetextanchor="middle",
        hovertemplate=(
            f"rank %{{y}}<br>{action}{'%{customdata[1]}' if numbered else ''}: {look.title}"
            "<br>%{base:.5g} to %{customdata[2]:.5g} (%{x:.5g})<extra></extra>"
        ),
    )


def _memory(go: ModuleType, timeline: Timeline, origin: float) -> "Scatter":
    """Each rank's own strip under its bars, all in one trace: None lifts the pen between ranks."""
    peak = float(timeline.bytes_held.max()) or 1.0
    x: list[float | None] = []
    y: list[float | None] = []
    text: list[str | None] = []
    for rank in range(timeline.schedule.ranks):
        moments, held = timeline.memory_steps(rank)
        base = rank + LANE / 2 + STRIP + 0.04
        times, levels = [moments[0], *moments, moments[-1]], [0.0, *held, 0.0]
        x += [*(t - origin for t in times), None]
        y += [*(base - STRIP * level / peak for level in levels), None]
        text += [*(f"rank {rank}: {level:,.6g} {timeline.memory_unit}" for level in levels), None]
    return go.Scatter(
        name="memory",
        x=x,
        y=y,
        text=text,
        mode="lines",
        line={"shape": "hv", "color": "#767676", "width": 1},
        fill="toself",
        fillcolor="rgba(128,128,128,0.35)",
        hovertemplate="%{text}<br>from %{x:.5g}<extra></extra>",
    )
