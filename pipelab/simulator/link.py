"""What a link between two ranks takes for a message: α + bytes / β."""

import math
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


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
