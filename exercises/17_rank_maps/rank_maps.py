"""Exercise 17: who is where in a mesh of workers, and what each sends and holds."""


def place(worker: int, data: int, ranks: int, tensor: int) -> tuple[int, int, int]:
    """Copy, rank and part of a worker; tensor is the innermost.

    >>> place(5, 2, 2, 2)
    (1, 0, 1)
    """
    raise NotImplementedError("exercise 17: place")


def group(worker: int, data: int, ranks: int, tensor: int, dimension: str) -> list[int]:
    """The workers that a worker works with along "data", "pipeline" or "tensor", itself among them.

    >>> group(5, 2, 2, 2, "data")
    [1, 5]
    """
    raise NotImplementedError("exercise 17: group")


def inside(blocks: int, tokens: int, width: int, tensor: int) -> float:
    """Bytes that a worker sends inside its transformer blocks in a step."""
    raise NotImplementedError("exercise 17: inside")


def sent(zero: int, data: int, microbatches: int, weights: int) -> float:
    """Bytes that a worker sends to its copies in a step, for gradients and weights."""
    raise NotImplementedError("exercise 17: sent")


def held(zero: int, data: int, stages_per_rank: int, weights: int) -> float:
    """Bytes of weights, gradients and Adam's state on a worker, and what ZeRO 3 gathers."""
    raise NotImplementedError("exercise 17: held")


def choose(data: int, microbatches: int, stages_per_rank: int, weights: int, limit: float) -> int | None:
    """The stage of ZeRO that sends the fewest bytes, of those that hold at most the limit."""
    raise NotImplementedError("exercise 17: choose")
