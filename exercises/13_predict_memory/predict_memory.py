"""Exercise 13: what each rank of a pipeline holds, in bytes, before it runs."""


def in_flight(rank: int, ranks: int, microbatches: int, schedule: str) -> int:
    """Micro-batches that a rank holds at most; schedule: "gpipe" or "1f1b".

    >>> [in_flight(rank, 4, 8, "1f1b") for rank in range(4)]
    [4, 3, 2, 1]
    """
    raise NotImplementedError("exercise 13: in_flight")


def activations(profile: dict, sizes: list[int], schedule: str, microbatches: int) -> list[int]:
    """Bytes of activations at the peak of each rank."""
    raise NotImplementedError("exercise 13: activations")


def total(profile: dict, sizes: list[int], schedule: str, microbatches: int, optimizer: str) -> list[int]:
    """Bytes of each rank: weights, gradients, the optimizer's state, and activations at their peak."""
    raise NotImplementedError("exercise 13: total")
