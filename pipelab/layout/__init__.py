"""The numbers of a layout: what layers cost and keep, and where to cut them. Nothing here is torch.

In: a Profile (measured by ``engine.profiling``, or read from a file), ranks, links, a limit of
memory. Out: a Partition: the layers of each stage, with its seconds and bytes. The planner takes a
model's shape and a machine's numbers instead, and predicts whole layouts.
"""

from .cutter import Partition
from .links import fit_link
from .partition import partition
from .planner import Estimate, Plan, estimate, plan
from .profile import LayerProfile, Profile

__all__ = [
    "Estimate", "LayerProfile", "Partition", "Plan", "Profile", "estimate", "fit_link",
    "partition", "plan",
]  # fmt: skip
