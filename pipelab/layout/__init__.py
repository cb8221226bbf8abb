"""The numbers of a layout: what layers cost and keep, and where to cut them. Nothing here is torch.

In: a Profile (measured by ``engine.profiling``, or read from a file), ranks, links, a limit of
memory. Out: a Partition: the layers of each stage, with its seconds and bytes.
"""

from .cutter import Partition
from .links import fit_link
from .partition import partition
from .profile import LayerProfile, Profile

__all__ = ["LayerProfile", "Partition", "Profile", "fit_link", "partition"]
