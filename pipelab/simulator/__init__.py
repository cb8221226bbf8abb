"""From a Schedule and costs to a predicted Timeline.

In: a Schedule, Costs per stage and kind, and whether activations are recomputed. Out: a Timeline.
It is a longest path over a fixed order, not a queueing model: exact.
"""

from .closed_forms import ClosedForm, closed_form
from .costs import Costs
from .recompute import with_recompute
from .simulate import simulate

__all__ = ["ClosedForm", "Costs", "closed_form", "simulate", "with_recompute"]
