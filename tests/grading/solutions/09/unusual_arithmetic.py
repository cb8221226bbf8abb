"""Right, and unlike the others: chunk and micro-batch of the k-th action by division, and a counter of forwards ahead."""


def warm_up(rank, ranks, stages_per_rank, microbatches):
    steps = ranks * (stages_per_rank + 1) - 2 - 2 * rank
    return steps if steps < stages_per_rank * microbatches else stages_per_rank * microbatches


def _action(k, kind, s, p, v):
    chunk, i = k // p % v, k // (p * v) * p + k % p
    return f"{(chunk if kind == 'F' else v - 1 - chunk) * p + s}{kind}{i}"


def interleaved_order(ranks, stages_per_rank, microbatches):
    total, rows = stages_per_rank * microbatches, []
    for s in range(ranks):
        forward = backward = 0
        row, ahead = [], warm_up(s, ranks, stages_per_rank, microbatches)
        while backward < total:
            if forward < total and forward - backward <= ahead:
                row.append(_action(forward, "F", s, ranks, stages_per_rank))
                forward += 1
            else:
                row.append(_action(backward, "B", s, ranks, stages_per_rank))
                backward += 1
        rows.append(row)
    return rows
