"""The planner: which layout of a training step is fastest, what it takes, and whether it fits.

In: a Transformer, a Machine, a Layout (or how many GPUs). Out: an Estimate, seconds and bytes by
part, with its assumptions as sentences.
"""

from .estimate import Estimate, estimate
from .layout import Layout
from .machine import DEVICES, Machine
from .model import MODELS, Transformer

__all__ = ["DEVICES", "MODELS", "Estimate", "Layout", "Machine", "Transformer", "estimate"]
