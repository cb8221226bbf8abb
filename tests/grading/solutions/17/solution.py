def place(worker, data, ranks, tensor):
    rest, part = divmod(worker, tensor)
    copy, rank = divmod(rest, ranks)
    return copy, rank, part


def group(worker, data, ranks, tensor, dimension):
    copy, rank, part = place(worker, data, ranks, tensor)
    if dimension == "data":
        return [(d * ranks + rank) * tensor + part for d in range(data)]
    if dimension == "pipeline":
        return [(copy * ranks + p) * tensor + part for p in range(ranks)]
    return [(copy * ranks + rank) * tensor + t for t in range(tensor)]


def inside(blocks, tokens, width, tensor):
    return 4 * blocks * tokens * width * 4 * 2 * (tensor - 1) / tensor


def sent(zero, data, microbatches, weights):
    share = (data - 1) / data * weights
    if zero == 0:
        return 2 * share
    reduced = microbatches if zero >= 2 else 1
    gathered = 2 * microbatches if zero == 3 else 1
    return (reduced + gathered) * share


def held(zero, data, stages_per_rank, weights):
    own = weights / data if zero == 3 else weights
    gradients = weights / data if zero >= 2 else weights
    adam = 2 * weights / data if zero >= 1 else 2 * weights
    gathered = weights / stages_per_rank if zero == 3 else 0
    return own + gradients + adam + gathered


def choose(data, microbatches, stages_per_rank, weights, limit):
    fits = [zero for zero in range(4) if held(zero, data, stages_per_rank, weights) <= limit]
    if not fits:
        return None
    return min(fits, key=lambda zero: sent(zero, data, microbatches, weights))
