"""``tradeoff``: what more stages per rank give and cost, as two curves that a slider moves."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from ..course.figures import Line, lines
from ..errors import UsageError
from ..plots.bundle import FRONTEND, bundle
from .settings import Settings

_HERE = Path(__file__).parent
MOST, STEP = 1.5, 0.05
"""The slider's largest latency, and its step; one device alone takes 100 for a batch."""


class Tradeoff(anywidget.AnyWidget):
    """Two curves over the stages per rank; make one with ``tradeoff``.

    ``stages`` are the places on the axis, and ``bubble`` what is lost there to filling and draining
    the pipeline. For each of the ``latencies``, ``trips`` has what is lost to more trips than with
    the fewest stages, and ``rest`` all else. ``at`` is the place of the
    slider in them. All are times of a batch that takes 100 on one device.
    """

    _esm = bundle(_HERE / "tradeoff.js")
    _css = "".join(
        path.read_text(encoding="utf-8")
        for path in (FRONTEND / "picture.css", _HERE / "curves.css")
    )

    stages: Any = traitlets.List().tag(sync=True)
    latencies: Any = traitlets.List().tag(sync=True)
    rest: Any = traitlets.List().tag(sync=True)
    bubble: Any = traitlets.List().tag(sync=True)
    trips: Any = traitlets.List().tag(sync=True)
    at = traitlets.Int(0, min=0).tag(sync=True)

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The live view, and for viewers without a kernel the curves as they stand."""
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        curves = [
            Line("lost to the bubble", dict(zip(self.stages, self.bubble, strict=True)), "truth"),
            Line(
                "to more trips", dict(zip(self.stages, self.trips[self.at], strict=True)), "guess"
            ),
        ]
        data["image/svg+xml"] = lines(curves, x_label="stages per rank v", y_label="time lost")
        return data, metadata


def tradeoff(
    *,
    ranks: int = 4,
    microbatches: int = 8,
    stages: Sequence[int] = (1, 2, 3, 4, 6, 8),
    latency: float = 0.5,
) -> Tradeoff:
    """Show what interleaving gives and costs: put it last in a notebook cell.

    Args:
        ranks: of the pipeline.
        microbatches: of a batch.
        stages: per rank, the places on the axis.
        latency: where the slider stands at first, from 0 to 1.5.

    Returns:
        The widget.

    Raises:
        UsageError: a latency that the slider does not have.
    """
    if not 0 <= latency <= MOST:
        raise UsageError(f"latency is {latency!r}; the slider goes from 0 to {MOST}.")
    latencies = [round(STEP * i, 3) for i in range(round(MOST / STEP) + 1)]
    ideal = 100 / ranks  # without a bubble and without latency

    def took(v: int, delay: float) -> float:
        name = "interleaved-1f1b" if v > 1 else "1f1b"
        held = Settings(name, ranks=ranks, microbatches=microbatches, stages_per_rank=v)
        return held.with_changes(latency=delay).predict().makespan

    alone = [took(v, 0.0) for v in stages]
    late = [
        [took(v, delay) - time for v, time in zip(stages, alone, strict=True)]
        for delay in latencies
    ]
    return Tradeoff(
        stages=list(stages),
        latencies=latencies,
        bubble=[time - ideal for time in alone],
        rest=[ideal + lost[0] for lost in late],
        trips=[[time - lost[0] for time in lost] for lost in late],
        at=math.floor(latency / STEP + 0.5),
    )
