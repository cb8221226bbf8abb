"""The live lab: a notebook widget whose sliders redraw a schedule at every move and whose button
trains it for real.

In: settings from the front end or from Python. Out: `view` messages for the canvas, from the
simulator or a real run.
"""

from .builder import Builder, builder
from .lab import Lab, lab
from .predict import Prediction, predict
from .settings import Settings
from .sweep import sweep

__all__ = ["Builder", "Lab", "Prediction", "Settings", "builder", "lab", "predict", "sweep"]
