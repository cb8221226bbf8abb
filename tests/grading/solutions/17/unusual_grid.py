"""Right, and unlike the others: workers are a numpy grid, and groups are lines through it."""

import numpy as np


def grid(data, ranks, tensor):
    return np.arange(data * ranks * tensor).reshape(data, ranks, tensor)


def place(worker, data, ranks, tensor):
    return tuple(int(axis[0]) for axis in np.where(grid(data, ranks, tensor) == worker))


def group(worker, data, ranks, tensor, dimension):
    at = list(place(worker, data, ranks, tensor))
    at[("data", "pipeline", "tensor").index(dimension)] = slice(None)
    return grid(data, ranks, tensor)[tuple(at)].tolist()


def inside(blocks, tokens, width, tensor):
    reduce = sum(tokens * width * 4 / tensor for _ in range(tensor - 1))
    return float(sum(2 * reduce for _ in range(4 * blocks)))


ROUNDS = {0: (2, 0), 1: (2, 0), 2: (1, 1), 3: (0, 3)}
"""Exchanges once a step, and for each micro-batch."""
PARTS = {0: (4, 0), 1: (2, 2), 2: (1, 3), 3: (0, 4)}
"""Held whole, and divided."""


def sent(zero, data, microbatches, weights):
    once, each = ROUNDS[zero]
    return (weights - weights / data) * (once + each * microbatches)


def held(zero, data, stages_per_rank, weights):
    whole, divided = PARTS[zero]
    return weights * (whole + divided / data) + (zero == 3) * weights / stages_per_rank


def choose(data, microbatches, stages_per_rank, weights, limit):
    found = [
        (sent(zero, data, microbatches, weights), zero)
        for zero in PARTS
        if held(zero, data, stages_per_rank, weights) <= limit
    ]
    return min(found)[1] if found else None
