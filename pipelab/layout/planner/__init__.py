"""The planner: which layout of a training step is fastest, what it takes, and whether it fits.

In: a Transformer, a Machine, a Layout (or how many GPUs). Out: an Estimate, seconds and bytes by
part, with its assumptions as sentences; or a Plan: all layouts that fit, ranked, with reasons.
"""

from .estimate import Estimate, estimate
from .layout import Layout
from .machine import DEVICES, Machine
from .measured import Measured
from .model import MODELS, Transformer
from .plan import Plan, plan

__all__ = [
    "DEVICES", "MODELS", "Estimate", "Layout", "Machine", "Measured", "Plan", "Transformer",
    "estimate", "plan",
]  # fmt: skip
