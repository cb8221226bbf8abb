"""Right, and unlike the others: pipelab's mesh names the workers, and a schedule's actions are counted."""

import pipelab
from pipelab import Kind, Mesh


def place(worker, data, ranks, tensor):
    return tuple(Mesh(data, tensor).place(ranks, worker))


def group(worker, data, ranks, tensor, dimension):
    mesh = Mesh(data, tensor)
    return getattr(mesh, f"{dimension}_group")(ranks, mesh.place(ranks, worker))


def inside(blocks, tokens, width, tensor):
    numbers = 0
    for _ in range(blocks):
        for _ in ("attention", "network", "network back", "attention back"):
            numbers += 2 * tokens * width * (1 - 1 / tensor)
    return numbers * 4


def sent(zero, data, microbatches, weights):
    one = pipelab.build("gpipe", ranks=1, microbatches=microbatches)
    kinds = [action.kind for action in one.with_data_parallel(zero=zero).actions[0]]
    reduced, gathered = kinds.count(Kind.REDUCE_GRAD), kinds.count(Kind.UNSHARD)
    return (reduced * (1 if zero else 2) + gathered) * weights * (1 - 1 / data)


def held(zero, data, stages_per_rank, weights):
    sizes = [weights, weights, weights, weights]
    order = ["adam", "adam", "gradients", "weights"]
    first = {0: 0, 1: 2, 2: 3, 3: 4}[zero]
    divided = sum(size / data for size, _ in zip(sizes[:first], order))
    return divided + sum(sizes[first:]) + (weights / stages_per_rank if zero == 3 else 0)


def choose(data, microbatches, stages_per_rank, weights, limit):
    best = None
    for zero in (3, 2, 1, 0):
        if held(zero, data, stages_per_rank, weights) > limit:
            continue
        if best is None or sent(zero, data, microbatches, weights) <= sent(best, data, microbatches, weights):
            best = zero
    return best
