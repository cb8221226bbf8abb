"""Exercise 12: cut a row of layers so that the slowest rank is as fast as it can be.

    >>> slowest([1, 1, 1, 3], [2, 2], [0, 0, 0, 0])
    4
    >>> best([1, 1, 1, 3], 2, [0, 0, 0, 0])
    [3, 1]
    >>> best([1, 1, 1, 3], 2, [0, 0, 9, 0])             # the link behind layer 2 is slow
    [2, 2]
    >>> best_within([1, 1, 1, 3], 2, [0, 0, 0, 0], kept=[5, 5, 5, 5], limit=20)     # rank 0 holds two micro-batches
    [2, 2]
"""


def slowest(seconds: list[float], sizes: list[int], transfers: list[float]) -> float:
    """The largest sum of a rank's seconds, or transfer at a cut. All lists but sizes have an entry for each layer."""
    raise NotImplementedError("exercise 12: slowest")


def best(seconds: list[float], ranks: int, transfers: list[float]) -> list[int]:
    """The layers of each rank with the smallest slowest; there are at least as many layers as ranks."""
    raise NotImplementedError("exercise 12: best")


def best_within(
    seconds: list[float], ranks: int, transfers: list[float], kept: list[int], limit: int
) -> list[int] | None:
    """The same where rank s holds (ranks − s) · (kept of its layers) ≤ limit, or None."""
    raise NotImplementedError("exercise 12: best_within")
