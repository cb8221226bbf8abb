"""The best Schedule for given costs, latency and a limit of memory, and its gap to a bound.

In: ranks, micro-batches, a placement, Costs and the limit. Out: a schedule, its makespan, a lower
bound and the gap.
"""

from .best import Found, best
from .problem import WEIGHT_GRAD_MEMORY, peak_memory, reason_against

__all__ = ["WEIGHT_GRAD_MEMORY", "Found", "best", "peak_memory", "reason_against"]
