"""``family``: schedules as points between two prices; a click on one shows it in a lab."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import traitlets
from ipywidgets import widget_serialization

from ..course.diagrams import scatter
from ..plots.bundle import FRONTEND, bundle
from .lab import Lab

_HERE = Path(__file__).parent
X_LABEL, Y_LABEL = "peak memory, % of the batch", "bubble fraction, %"


class Family(anywidget.AnyWidget):
    """Points that can be clicked, over the lab that shows the chosen one; make one with ``family``.

    ``points`` are [name, memory, bubble]; ``chosen`` is the name of the one that ``beneath`` shows.
    """

    _esm = bundle(_HERE / "family.js")
    _css = "".join(
        path.read_text(encoding="utf-8")
        for path in (FRONTEND / "picture.css", _HERE / "curves.css")
    )

    points: Any = traitlets.List().tag(sync=True)
    chosen = traitlets.Unicode().tag(sync=True)
    labels = traitlets.List([X_LABEL, Y_LABEL]).tag(sync=True)
    beneath = traitlets.Instance(ipywidgets.Widget).tag(sync=True, **widget_serialization)

    def __init__(self, lab: Lab, names: Sequence[str]):
        points = []
        for name in names:
            timeline = lab.settings.with_changes(schedule=name).predict()
            bubble = 100 * float(timeline.metrics["bubble_fraction"])
            points.append([name, float(timeline.bytes_held.max()), bubble])
        super().__init__(points=points, chosen=lab.schedule, beneath=lab)
        self._lab = lab
        self.observe(lambda change: lab.apply(schedule=change["new"]), names=["chosen"])
        lab.observe(lambda change: self.set_trait("chosen", change["new"]), names=["schedule"])

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The live view, and for viewers without a kernel the points and the lab's picture."""
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        places = {name: (x, y) for name, x, y in self.points}
        data["image/svg+xml"] = scatter(places, x_label=X_LABEL, y_label=Y_LABEL).svg
        return data, metadata


def family(lab: Lab, names: Sequence[str]) -> Family:
    """Show schedules as points of memory and bubble, over a lab: put it last in a notebook cell.

    Args:
        lab: its counts and costs hold for all; it shows the schedule that is clicked.
        names: of the schedules.

    Returns:
        The widget.

    Raises:
        UsageError: a schedule that the lab's counts do not allow.
        UnknownName: there is no such schedule.
    """
    return Family(lab, names)
