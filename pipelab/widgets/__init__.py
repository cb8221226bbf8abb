"""The live lab: a notebook widget whose sliders redraw a schedule, and that trains it for real.

In: settings from the front end or from Python. Out: `view` messages for the canvas, from the
simulator or a real run.
"""

import warnings
from typing import Any

from .asked import Asked
from .builder import Builder, builder
from .cuts import Cuts, cuts
from .family import Family, family
from .goals import Goal
from .guess import Guess, guess
from .lab import Lab, lab
from .memory import MemoryView, memory
from .planner import PlannerView, planner
from .settings import Settings
from .shapes import ShapesView, shapes
from .sweep import sweep
from .tradeoff import Tradeoff, tradeoff

__all__ = [
    "Asked", "Builder", "Cuts", "Family", "Goal", "Guess", "Lab", "MemoryView", "PlannerView",
    "Settings", "ShapesView", "Tradeoff", "builder", "cuts", "family", "guess", "lab", "memory",
    "planner", "shapes", "sweep", "tradeoff",
]  # fmt: skip

_FORMER: dict[str, Any] = {"predict": guess, "Prediction": Guess}
"""Names of version 0.1, which still work in this release."""


def __getattr__(name: str) -> Any:
    if name not in _FORMER:
        raise AttributeError(f"module 'pipelab.widgets' has no attribute {name!r}")
    now = _FORMER[name]
    message = f"pipelab.widgets.{name} is called pipelab.widgets.{now.__name__} now"
    warnings.warn(message, DeprecationWarning, stacklevel=2)
    return now
