"""From a Schedule and costs to a predicted Timeline.

In: a Schedule, Costs and Memory per stage, whether activations are recomputed and how the optimizer
steps. Out: a Timeline. It is a longest path over a fixed order, not a queueing model: exact.
"""

from .closed_forms import ClosedForm, closed_form
from .costs import Costs
from .link import Link, Nodes
from .memory import Memory
from .optimizer import with_optimizer
from .recompute import with_recompute
from .simulate import simulate

__all__ = [
    "ClosedForm",
    "Costs",
    "Link",
    "Memory",
    "Nodes",
    "closed_form",
    "simulate",
    "with_optimizer",
    "with_recompute",
]
