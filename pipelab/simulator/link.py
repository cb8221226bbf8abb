"""What a link between two ranks takes for a message: α + bytes / β; and which link two workers use.

node 0: workers 0 1 2 3 ══ inside ══      node 1: workers 4 5 6 7      size = 4
             └────────────── between ──────────────┘
"""

import math
from collections.abc import Collection
from dataclasses import dataclass

from ..errors import UsageError


@dataclass(frozen=True)
class Link:
    """A link between two ranks, in one direction.

    latency: α, seconds of a message of no size. bandwidth: β, bytes per second; None: no limit.

    >>> Link(latency=1e-5, bandwidth=1e9).seconds(1_000_000)
    0.00101

    Raises UsageError for a latency below 0 and a bandwidth that is not above it.
    """

    latency: float = 0.0
    bandwidth: float | None = None

    def __post_init__(self) -> None:
        if not _is_number(self.latency) or self.latency < 0:
            raise UsageError(f"latency is {self.latency!r}; it is a number of seconds, 0 or more.")
        if self.bandwidth is not None and (not _is_number(self.bandwidth) or self.bandwidth <= 0):
            raise UsageError(
                f"bandwidth is {self.bandwidth!r}; it is a number of bytes per second above 0. "
                "Leave it out for links without a limit."
            )

    def seconds(self, size: float) -> float:
        """How long a message of so many bytes is under way."""
        return self.latency + (size / self.bandwidth if self.bandwidth else 0.0)


@dataclass(frozen=True)
class Nodes:
    """Machines of as many workers each, by their numbers, and the two links that they have.

    size: workers of a node. inside: the link between workers of one node. between: that of workers
    on different nodes, and so of a group that is not all on one.

    >>> nodes = Nodes(4, inside=Link(1e-5, 300e9), between=Link(2e-5, 25e9))
    >>> nodes.link([2, 3]).latency, nodes.link([3, 4]).latency
    (1e-05, 2e-05)

    Raises UsageError for a size that is not a whole number from 1.
    """

    size: int
    inside: Link
    between: Link

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) or isinstance(self.size, bool) or self.size < 1:
            raise UsageError(
                f"size is {self.size!r}; it is how many workers a node has, a whole number from 1."
            )

    def leave(self, workers: Collection[int]) -> bool:
        """Whether these workers are on more than one node."""
        return len({worker // self.size for worker in workers}) > 1

    def link(self, workers: Collection[int]) -> Link:
        """What these workers use among them."""
        return self.between if self.leave(workers) else self.inside


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
