"""A Partition as a plotly Figure: its ranks beside those of even cuts and of cuts by parameters."""

from typing import TYPE_CHECKING

import numpy as np

from ..layout import Partition
from ..schedule import Kind
from .palette import LOOKS

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

PARTS = {Kind.F: "forward", Kind.I: "input_grad", Kind.W: "weight_grad"}


def plot_cuts(partition: Partition) -> "Figure":
    """Milliseconds of every rank per micro-batch, in F, I and W: a trace for each.

    Hovering a bar names the rank's stages, their layers, and the bytes that it holds.
    """
    import plotly.graph_objects as go

    ways = {"chosen": partition, "even": partition.even, "by parameters": partition.parameters}
    shown = {name: way for name, way in ways.items() if way is not None}
    ranks = partition.schedule.ranks
    names = [f"{name}: slowest {1000 * way.slowest:.4g} ms" for name, way in shown.items()]
    rows = [
        [name for name in names for _ in range(ranks)],
        [f"rank {rank}" for _ in names for rank in range(ranks)],
    ]
    hover = [_told(way, rank) for way in shown.values() for rank in range(ranks)]
    figure = go.Figure()
    for kind, cost in PARTS.items():
        seconds = np.concatenate([way.per_rank(getattr(way.costs, cost)) for way in shown.values()])
        look = LOOKS[kind]
        figure.add_bar(
            x=(1000 * seconds).tolist(),
            y=rows,
            orientation="h",
            name=look.title,
            marker={"color": look.colour, "pattern": {"shape": look.pattern}},
            hovertext=hover,
            hovertemplate="%{hovertext}<br>%{x:.4g} ms<extra>" + look.title + "</extra>",
        )
    figure.update_layout(
        title=f"{partition.schedule.name}: what each rank takes for a micro-batch",
        barmode="stack",
        height=150 + 26 * ranks * len(shown),
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "y": 1, "yanchor": "bottom", "x": 1, "xanchor": "right"},
        font={"color": "#767676"},
    )
    figure.update_xaxes(title="time (ms)", gridcolor="rgba(128,128,128,0.25)")
    figure.update_yaxes(autorange="reversed")
    return figure


def _told(way: Partition, rank: int) -> str:
    """The stages of a rank, and what it holds."""
    stages = sorted(stage for (_, stage), home in way.schedule.placement.items() if home == rank)
    parts = [f"stage {stage}: {way.sizes[stage]} layers" for stage in stages]
    return "<br>".join([*parts, f"{way.bytes[rank]['total']:,} bytes"])
