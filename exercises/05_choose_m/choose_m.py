"""Exercise 05: the smallest number of micro-batches for a bubble under a memory cap.

    >>> bubble_fraction_of(4, 3)
    0.5
    >>> choose_m(4, 0.25, memory=16, each=1.5)      # 9 micro-batches: 3/12 idle, 13.5 GiB
    9
    >>> choose_m(4, 0.25, memory=12, each=1.5)      # only 8 fit
"""


def bubble_fraction_of(ranks: int, microbatches: int) -> float:
    """GPipe's idle time / (ranks × makespan), from 0 to 1, with equal stages and no latency."""
    raise NotImplementedError("exercise 05: bubble_fraction_of")


def choose_m(ranks: int, target: float, memory: float, each: float) -> int | None:
    """The smallest m ≥ 1 with a bubble fraction ≤ target that fits, or None.

    target: 0 < target < 1. memory: GiB for activations on each rank. each: GiB that one micro-batch holds in flight.
    """
    raise NotImplementedError("exercise 05: choose_m")
